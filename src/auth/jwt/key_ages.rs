//! How old fetched key sets are, and how fetching them goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key_sets::KeySets;
use crate::telemetry::{Exposed, Exposition};

/// What is known of the sets of one source, of which there may be several that are kept differently.
#[derive(Debug, Default)]
struct Known {
    /// Of the youngest.
    age: Option<Duration>,
    fetched: u64,
    failed: u64,
}

impl Exposed for Arc<KeySets> {
    fn expose(&self, page: &mut Exposition) {
        let now = Instant::now();
        let mut sources = BTreeMap::<String, Known>::new();
        for set in self.all() {
            let known = sources.entry(set.source().place.to_string()).or_default();
            let (fetched, failed) = set.attempts();
            known.fetched += fetched;
            known.failed += failed;
            known.age = known.age.into_iter().chain(set.age(now)).min();
        }
        let mut fetches = page.counter(
            "tollgate_key_set_fetches_total",
            "How often sets of keys were fetched, and whether it succeeded.",
        );
        for (source, known) in &sources {
            for (word, count) in [("succeeded", known.fetched), ("failed", known.failed)] {
                fetches.sample(&[("source", source), ("result", word)], count);
            }
        }
        let mut ages = page.gauge(
            "tollgate_key_set_age_seconds",
            "How old the keys are that tokens are verified with.",
        );
        for (source, known) in &sources {
            if let Some(age) = known.age {
                let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
                ages.sample_micros(&[("source", source)], micros);
            }
        }
    }
}
