//! How the store of shared limits is.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntCounter, IntGauge, Registry};

use crate::limits::{Shared, StoreState};
use crate::snapshot::Snapshot;

/// The state in a word, if it is not as it should be: `starting`, `partial` or `down`.
pub(super) fn impaired(snapshot: &Snapshot) -> Option<String> {
    let state = snapshot.shared_limits.as_ref()?.state();
    let word = match state {
        StoreState::Up => return None,
        StoreState::Starting => "starting",
        StoreState::Partial => "partial",
        StoreState::Down => "down",
    };
    Some(word.to_owned())
}

/// Adds what is known of it to the metrics, if there is one.
pub(super) fn register(snapshot: &Snapshot, registry: &Registry) -> Result<(), prometheus::Error> {
    let Some(store) = snapshot.shared_limits.as_deref() else {
        return Ok(());
    };
    gauges(store, registry)?;
    let tallies = store.tallies();
    for (name, help, count) in [
        (
            "tollgate_rate_limit_store_questions_total",
            "Questions that the store of shared limits was asked.",
            &tallies.asked,
        ),
        (
            "tollgate_rate_limit_store_failures_total",
            "Questions that it did not answer in time, or with an error.",
            &tallies.failed,
        ),
        (
            "tollgate_rate_limit_store_alone_total",
            "Decisions about requests that were made without it, by on_store_failure.",
            &tallies.alone,
        ),
    ] {
        counter(name, help, count, registry)?;
    }
    Ok(())
}

fn gauges(store: &Shared, registry: &Registry) -> Result<(), prometheus::Error> {
    let is_up = store.state() == StoreState::Up;
    let gateways = i64::try_from(store.gateways()).unwrap_or(i64::MAX);
    for (name, help, value) in [
        (
            "tollgate_rate_limit_store_up",
            "Whether the store of shared limits answers, all of its servers.",
            i64::from(is_up),
        ),
        (
            "tollgate_rate_limit_gateways",
            "Gateways that share the store, as far as this one knows.",
            gateways,
        ),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

fn counter(
    name: &str,
    help: &str,
    count: &AtomicU64,
    registry: &Registry,
) -> Result<(), prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    counter.inc_by(count.load(Ordering::Relaxed));
    registry.register(Box::new(counter))
}
