//! What rate limits decided, counted by limit.
//!
//! Requests count on their own thread's cache line, for one limit may be asked by all of them at once.

use std::sync::Arc;

use super::metrics::{AllSeries, Exposed, Exposition, OTHERS, Series};

/// Limits with counters of their own; the others share one, so that the series stay bounded.
const MOST_COUNTED: usize = 1000;
const DECISIONS: usize = Decision::ALL.len();

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
pub struct LimitDecisions(Arc<AllSeries<DECISIONS>>);

/// The counters of one limit.
#[derive(Debug, Clone)]
pub struct DecisionCounters(Arc<Series<DECISIONS>>);

impl LimitDecisions {
    /// What is gone makes room for what comes with a new configuration.
    pub fn make_room(&self) {
        self.0.make_room(MOST_COUNTED);
    }

    /// The counters of the limits of this name, which go on from one configuration to the next.
    pub fn of(&self, name: &str) -> DecisionCounters {
        let others = [("limit", OTHERS)];
        DecisionCounters(self.0.of(&[("limit", name)], &others, MOST_COUNTED))
    }
}

impl DecisionCounters {
    /// Counts a decision.
    pub fn count(&self, decision: Decision) {
        self.0.counts.count(decision as usize);
    }

    /// How often all limits of the name decided so.
    pub fn total(&self, decision: Decision) -> u64 {
        self.0.counts.sums()[decision as usize]
    }
}

impl Exposed for LimitDecisions {
    fn expose(&self, page: &mut Exposition) {
        let mut decisions = page.counter(
            "tollgate_rate_limit_decisions_total",
            "What rate limits decided about requests.",
        );
        for series in self.0.read() {
            for ((_, word), count) in std::iter::zip(Decision::ALL, series.counts.sums()) {
                decisions.with(&series.labels, ("decision", word), count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Format;

    fn text(decisions: &LimitDecisions) -> String {
        let mut page = Exposition::new(Format::Text, 0);
        decisions.expose(&mut page);
        page.finish()
    }

    #[test]
    fn what_many_threads_count_is_added_up_and_goes_on_after_a_reload() {
        let decisions = LimitDecisions::default();
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
        }
        let text = text(&decisions);
        for (decision, count) in [("admitted", 16_000), ("would_refuse", 16), ("refused", 0)] {
            let line = format!(
                r#"tollgate_rate_limit_decisions_total{{limit="/orders",decision="{decision}"}} {count}"#
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
        assert!(text(&decisions).contains(r#"{limit="other",decision="refused"} 1"#));
        assert!(!text(&decisions).contains(&name(MOST_COUNTED)));
        drop(kept);
        decisions.make_room();
        let new = decisions.of("new");
        assert!(text(&decisions).contains(r#"limit="new""#));
        assert!(!text(&decisions).contains(&name(0)));
        drop(new);
    }
}
