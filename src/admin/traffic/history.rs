//! An hour of seconds, and the same in longer steps.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::report::{Figures, Sample};
use crate::telemetry::Tally;

/// Seconds that are kept.
pub(super) const SECONDS: usize = 60 * 60;

/// What came in a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Second {
    /// Which, since 1970.
    pub(super) at: u64,
    /// The requests that ended.
    pub(super) tally: Tally,
    /// Those of them that were refused.
    pub(super) refused: u64,
    /// Those under way when it ended.
    pub(super) in_flight: u64,
}

/// The last hour.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Second>);

impl Second {
    /// Together with one that is later.
    fn join(&mut self, later: &Self) {
        self.tally.add(&later.tally);
        self.refused += later.refused;
        self.in_flight = self.in_flight.max(later.in_flight);
    }

    /// As it is shown.
    pub(super) fn sample(&self) -> Sample {
        let at = i64::try_from(self.at).unwrap_or_default();
        let time = Timestamp::from_second(at).unwrap_or_default();
        Sample {
            time: time.to_string(),
            figures: Figures::new(&self.tally),
            refused: self.refused,
            in_flight: self.in_flight,
        }
    }
}

impl History {
    pub(super) fn push(&mut self, second: Second) {
        if self.0.len() == SECONDS {
            self.0.pop_front();
        }
        self.0.push_back(second);
    }

    /// The `last` seconds in steps of so many. Steps begin at whole multiples, wherever one looks from; the one
    /// that is not over yet is left out.
    pub(super) fn samples(&self, last: u64, step: u64) -> Vec<Sample> {
        let Some(newest) = self.0.back().map(|it| it.at) else {
            return Vec::new();
        };
        let from = (newest + 1).saturating_sub(last);
        let until = (newest + 1) / step * step;
        let mut steps: Vec<Second> = Vec::new();
        for second in self.0.iter().filter(|it| (from..until).contains(&it.at)) {
            let begins = second.at / step * step;
            match steps.last_mut() {
                Some(last) if last.at == begins => last.join(second),
                _ => steps.push(Second {
                    at: begins,
                    ..*second
                }),
            }
        }
        steps.iter().map(Second::sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Outcomes;

    fn second(at: u64) -> Second {
        let outcomes = Outcomes {
            requests: 2,
            errors: u64::from(at.is_multiple_of(10)),
            client_errors: 1,
        };
        Second {
            at,
            tally: Tally {
                outcomes,
                ..Tally::default()
            },
            refused: 1,
            in_flight: at % 7,
        }
    }

    #[test]
    fn seconds_are_joined_to_steps_that_are_over() {
        let mut history = History::default();
        assert!(history.samples(60, 10).is_empty());
        for at in 1_000_005..=1_000_028 {
            history.push(second(at));
        }
        let samples = history.samples(3600, 10);
        let shown: Vec<_> = samples
            .iter()
            .map(|it| (&*it.time, it.figures.requests, it.figures.errors))
            .collect();
        let expected = [
            ("1970-01-12T13:46:40Z", 10, 0),
            ("1970-01-12T13:46:50Z", 20, 1),
        ];
        assert_eq!(shown, expected);
        assert_eq!((samples[1].refused, samples[1].in_flight), (10, 6));
        // By the second, the newest one is over.
        assert_eq!(history.samples(3, 1).len(), 3);
        assert_eq!(history.samples(3600, 1).len(), 24);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        for at in 0..10_000 {
            history.push(second(at));
        }
        assert_eq!(history.0.len(), SECONDS);
        assert_eq!(history.samples(u64::MAX, 1).len(), SECONDS);
        assert_eq!(history.samples(3600, 60).len(), 60);
    }
}
