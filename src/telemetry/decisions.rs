//! What rate limits decided, counted by limit.
//!
//! Requests count on their own thread's cache line, for one limit may be asked by all of them at once. The
//! lines are added up when somebody reads the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

use super::thread::number_of_this_thread;

/// Limits with counters of their own; the others share one, so that the series stay bounded.
const MOST_COUNTED: usize = 1000;
/// The limit of those.
const OTHERS: &str = "other";

/// What a limit decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It admits it.
    Admitted,
    /// It refuses it.
    Refused,
    /// It is only tried out, and would refuse it.
    WouldRefuse,
    /// It lets it wait; whether it is admitted or refused then is counted, too.
    Queued,
}

impl Decision {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Admitted, "admitted"),
        (Self::Refused, "refused"),
        (Self::WouldRefuse, "would_refuse"),
        (Self::Queued, "queued"),
    ];
}

/// The counters of all limits.
#[derive(Debug, Clone, Default)]
pub struct LimitDecisions(Arc<Mutex<BTreeMap<Box<str>, Arc<Counters>>>>);

/// The counters of one limit.
#[derive(Debug, Clone)]
pub struct DecisionCounters(Arc<Counters>);

#[derive(Debug)]
struct Counters(Box<[Line]>);

/// Aligned so that two threads never write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; Decision::ALL.len()]);

impl LimitDecisions {
    /// The counters of the limits of this name, which go on from one configuration to the next.
    pub fn of(&self, name: &str) -> DecisionCounters {
        let mut known = self.lock();
        if known.len() >= MOST_COUNTED && !known.contains_key(name) {
            // What no configuration in force has makes room.
            known.retain(|_, counters| Arc::strong_count(counters) > 1);
        }
        let has_room = known.len() < MOST_COUNTED || known.contains_key(name);
        let name = if has_room { name } else { OTHERS };
        let counters = known.entry(name.into()).or_default();
        DecisionCounters(counters.clone())
    }

    pub(super) fn collector(&self) -> Box<dyn Collector> {
        let options = Opts::new(
            "tollgate_rate_limit_decisions_total",
            "What rate limits decided about requests.",
        );
        let counters = IntCounterVec::new(options, &["limit", "decision"]);
        Box::new(Sums {
            counters: counters.expect("the names are a metric's and its labels'"),
            decisions: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Counters>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DecisionCounters {
    /// Counts a decision.
    pub fn count(&self, decision: Decision) {
        let lines = &self.0.0;
        let line = &lines[number_of_this_thread() % lines.len()];
        line.0[decision as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often all limits of the name decided so.
    pub fn total(&self, decision: Decision) -> u64 {
        self.0.sum(decision)
    }
}

impl Default for Counters {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, Into::into);
        Self((0..threads).map(|_| Line::default()).collect())
    }
}

impl Counters {
    fn sum(&self, decision: Decision) -> u64 {
        let of_thread = |line: &Line| line.0[decision as usize].load(Ordering::Relaxed);
        self.0.iter().map(of_thread).sum()
    }
}

/// The counters as Prometheus is told of them.
struct Sums {
    counters: IntCounterVec,
    decisions: LimitDecisions,
}

impl Collector for Sums {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let known = self.decisions.lock();
        self.counters.reset();
        for (name, counters) in known.iter() {
            for (decision, word) in Decision::ALL {
                let counter = self.counters.with_label_values(&[&**name, word]);
                counter.inc_by(counters.sum(decision));
            }
        }
        self.counters.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{ConsumerRequests, Metrics};

    fn text(decisions: &LimitDecisions) -> String {
        Metrics::new(&ConsumerRequests::default(), decisions).text()
    }

    #[test]
    fn what_many_threads_count_is_added_up_and_goes_on_after_a_reload() {
        let decisions = LimitDecisions::default();
        let metrics = Metrics::new(&ConsumerRequests::default(), &decisions);
        for _reload in 0..2 {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let counters = decisions.of("/orders");
                        (0..1000).for_each(|_| counters.count(Decision::Admitted));
                        counters.count(Decision::WouldRefuse);
                    });
                }
            });
            metrics.text();
        }
        let text = metrics.text();
        for (decision, count) in [("admitted", 16_000), ("would_refuse", 16), ("refused", 0)] {
            let line = format!(
                r#"tollgate_rate_limit_decisions_total{{decision="{decision}",limit="/orders"}} {count}"#
            );
            assert!(text.contains(&line), "{line}: {text}");
        }
    }

    #[test]
    fn the_series_stay_bounded_and_what_is_gone_makes_room() {
        let decisions = LimitDecisions::default();
        let name = |number: usize| format!("limit-{number}");
        let kept: Vec<_> = (0..MOST_COUNTED + 10)
            .map(|number| decisions.of(&name(number)))
            .collect();
        kept.last().unwrap().count(Decision::Refused);
        assert!(text(&decisions).contains(r#"{decision="refused",limit="other"} 1"#));
        assert!(!text(&decisions).contains(&name(MOST_COUNTED)));
        drop(kept);
        let new = decisions.of("new");
        assert!(text(&decisions).contains(r#"limit="new""#));
        assert!(!text(&decisions).contains(&name(0)));
        drop(new);
    }
}
