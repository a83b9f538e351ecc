//! When a second attempt is begun while the first goes on (Dean and Barroso, *The Tail at Scale*: hedged
//! requests).

use std::time::Duration;

use crate::config::{self, Diagnostics, HedgeAfter, Toggle};

/// No sooner by a percentile: what answers so fast gains nothing.
const SOONEST: Duration = Duration::from_millis(10);

/// After which time a request gets a second attempt beside the first, and how many may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    after: HedgeAfter,
    /// As a share of the service's requests, in percent.
    pub(super) budget: u8,
}

impl Hedge {
    /// The rule of a `retry` section, if it has one.
    pub(super) fn compile(retry: &config::Retry, diagnostics: &mut Diagnostics) -> Option<Self> {
        let after = match &retry.hedge_after.value {
            Toggle::Off => return None,
            Toggle::On(after) => *after,
        };
        if after == HedgeAfter::Fixed(Duration::ZERO) {
            diagnostics
                .error(
                    retry.hedge_after.span,
                    "`hedge_after` is zero, so every request would be sent twice",
                )
                .help("write `p95`, or how long an answer mostly takes");
        }
        if retry.hedge_budget.0 == 0 {
            diagnostics
                .error(retry.hedge_budget.span, "`hedge_budget` is zero")
                .help("1% to 100%, or `hedge_after: off`");
        }
        Some(Self {
            after,
            budget: retry.hedge_budget.0,
        })
    }

    /// When the second attempt begins; `None` while that is not known. `percentile` is that of the
    /// service's answers.
    pub(super) fn delay(
        &self,
        percentile: impl FnOnce(u8) -> Option<Duration>,
    ) -> Option<Duration> {
        match self.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Percentile(percent) => percentile(percent).map(|it| it.max(SOONEST)),
        }
    }

    /// Whether one more may be, after so many among so many requests of the last ten seconds. The first
    /// always may.
    pub(super) fn is_left(&self, hedged: u64, requests: u64) -> bool {
        hedged == 0 || hedged < requests * u64::from(self.budget) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_begins_after_a_time_or_when_most_have_answered() {
        let hedge = |after| Hedge { after, budget: 2 };
        let fixed = hedge(HedgeAfter::Fixed(3 * MS));
        assert_eq!(fixed.delay(|_| unreachable!()), Some(3 * MS));
        let percentile = hedge(HedgeAfter::Percentile(95));
        assert_eq!(percentile.delay(|_| None), None);
        assert_eq!(
            percentile.delay(|percent| Some(u32::from(percent) * MS)),
            Some(95 * MS)
        );
        assert_eq!(percentile.delay(|_| Some(MS)), Some(SOONEST));
    }

    #[test]
    fn they_are_no_more_than_their_share() {
        let hedge = Hedge {
            after: HedgeAfter::Percentile(95),
            budget: 2,
        };
        for (hedged, requests, is_left) in [
            (0, 1, true),
            (1, 99, false),
            (1, 100, true),
            (2, 149, false),
            (2, 150, true),
            (20, 1000, false),
        ] {
            assert_eq!(
                hedge.is_left(hedged, requests),
                is_left,
                "{hedged} {requests}"
            );
        }
    }
}
