//! How the store of shared limits is.

use std::sync::atomic::Ordering;

use crate::limits::StoreState;
use crate::snapshot::Snapshot;
use crate::telemetry::Exposition;

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

/// What is known of it, if there is one.
pub(super) fn expose(snapshot: &Snapshot, page: &mut Exposition) {
    let Some(store) = snapshot.shared_limits.as_deref() else {
        return;
    };
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
        page.counter(name, help)
            .sample(&[], count.load(Ordering::Relaxed));
    }
    page.gauge(
        "tollgate_rate_limit_gateways",
        "Gateways that share the store, as far as this one knows.",
    )
    .sample(&[], store.gateways());
    page.gauge(
        "tollgate_rate_limit_store_up",
        "Whether the store of shared limits answers, all of its servers.",
    )
    .sample(&[], u64::from(store.state() == StoreState::Up));
}
