//! The three ways to keep a window, as functions of one 64-bit state and the time.
//!
//! A state of zero is that of a key never seen. Times are microseconds on a clock of the caller's.

use crate::config::LimitAlgorithm;

/// Largest limit: two counts of it fit in a sliding window's state.
pub(super) const LARGEST_LIMIT: u64 = 1_000_000;

/// A limit's numbers, in the units of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) algorithm: LimitAlgorithm,
    pub(super) limit: u64,
    /// Microseconds.
    pub(super) window: u64,
    /// Of a token bucket.
    pub(super) burst: u64,
}

/// An admitted request: the state after it, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) state: u64,
    /// From when on the state says no more than that of a key never seen.
    pub(super) expires: u64,
    pub(super) remaining: u64,
    /// Microseconds until more is left.
    pub(super) reset: u64,
}

/// A refused request: microseconds until one would be admitted, if no other comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) retry: u64,
}

const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const INDEX_MASK: u64 = (1 << 24) - 1;
const FIXED_COUNT_BITS: u32 = 24;
const FIXED_COUNT_MASK: u64 = (1 << FIXED_COUNT_BITS) - 1;

impl Rule {
    /// Decides on one request at time `now`.
    pub(super) fn decide(&self, state: u64, now: u64) -> Result<Admitted, Refused> {
        match self.algorithm {
            LimitAlgorithm::FixedWindow => self.fixed(state, now),
            LimitAlgorithm::SlidingWindow => self.sliding(state, now),
            LimitAlgorithm::TokenBucket => self.bucket(state, now),
        }
    }

    /// The state without one request that it admitted before.
    pub(super) fn refund(&self, state: u64) -> u64 {
        match self.algorithm {
            LimitAlgorithm::FixedWindow if state & FIXED_COUNT_MASK > 0 => state - 1,
            LimitAlgorithm::SlidingWindow if state & COUNT_MASK > 0 => state - 1,
            LimitAlgorithm::TokenBucket => state.saturating_sub(self.interval()),
            _ => state,
        }
    }

    /// The window of a key starts with its first request; refused requests do not count. State:
    /// start in milliseconds (40 bits), count (24 bits).
    fn fixed(&self, state: u64, now: u64) -> Result<Admitted, Refused> {
        let count = state & FIXED_COUNT_MASK;
        let start = (state >> FIXED_COUNT_BITS) * 1000;
        let end = start + self.window;
        if count == 0 || now >= end {
            let start = now / 1000;
            return Ok(Admitted {
                state: start << FIXED_COUNT_BITS | 1,
                expires: start * 1000 + self.window,
                remaining: self.limit - 1,
                reset: start * 1000 + self.window - now,
            });
        }
        if count >= self.limit {
            return Err(Refused { retry: end - now });
        }
        Ok(Admitted {
            state: state + 1,
            expires: end,
            remaining: self.limit - count - 1,
            reset: end - now,
        })
    }

    /// The last window's count fades while the current one grows ("Counting things, a lot of
    /// different things", Cloudflare 2017). State: number of the window (24 bits, wrapping), the
    /// last and the current count (20 bits each).
    fn sliding(&self, state: u64, now: u64) -> Result<Admitted, Refused> {
        let window = self.window;
        let index = (now / window) & INDEX_MASK;
        let elapsed = now % window;
        let (last, current) = self.counts(state, index);
        let faded = last * (window - elapsed);
        if faded + (current + 1) * window <= self.limit * window {
            let left = self.limit * window - faded - (current + 1) * window;
            return Ok(Admitted {
                state: index << (2 * COUNT_BITS) | last << COUNT_BITS | (current + 1),
                expires: (now / window + 2) * window,
                remaining: left / window,
                reset: window - elapsed,
            });
        }
        let retry = if current < self.limit {
            // Until enough of the last window has faded.
            let excess = faded + (current + 1) * window - self.limit * window;
            excess.div_ceil(last)
        } else {
            // Until the current window, as the last one, has faded enough.
            let rest = self.limit - 1;
            (window - elapsed) + (window * (current - rest)).div_ceil(current)
        };
        Err(Refused { retry })
    }

    fn counts(&self, state: u64, index: u64) -> (u64, u64) {
        let last = state >> COUNT_BITS & COUNT_MASK;
        let current = state & COUNT_MASK;
        match index.wrapping_sub(state >> (2 * COUNT_BITS)) & INDEX_MASK {
            0 => (last, current),
            1 => (current, 0),
            _ => (0, 0),
        }
    }

    /// The generic cell rate algorithm (ITU-T I.371, annex A). State: the theoretical arrival time,
    /// in nanoseconds.
    fn bucket(&self, state: u64, now: u64) -> Result<Admitted, Refused> {
        let now = now * 1000;
        let interval = self.interval();
        let tolerance = (self.burst - 1) * interval;
        let arrival = state.max(now);
        if arrival > now + tolerance {
            return Err(Refused {
                retry: (arrival - tolerance - now).div_ceil(1000),
            });
        }
        let next = arrival + interval;
        let filled = next - now;
        Ok(Admitted {
            state: next,
            expires: next.div_ceil(1000),
            remaining: (self.burst * interval - filled) / interval,
            reset: (filled - 1) % interval / 1000 + 1,
        })
    }

    /// Nanoseconds between two tokens, rounded up so that the rate is never exceeded.
    fn interval(&self) -> u64 {
        (self.window * 1000).div_ceil(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn rule(algorithm: LimitAlgorithm, limit: u64, window: u64, burst: u64) -> Rule {
        Rule {
            algorithm,
            limit,
            window,
            burst,
        }
    }

    /// Times at which requests are admitted that come at `times`.
    fn admitted(rule: &Rule, times: &[u64]) -> Vec<u64> {
        let mut state = 0;
        times
            .iter()
            .filter(|now| match rule.decide(state, **now) {
                Ok(admitted) => {
                    state = admitted.state;
                    true
                }
                Err(_) => false,
            })
            .copied()
            .collect()
    }

    /// The most admissions in any interval of the window's length.
    fn densest(times: &[u64], window: u64) -> usize {
        (0..times.len())
            .map(|start| {
                times[start..]
                    .iter()
                    .take_while(|t| **t < times[start] + window)
                    .count()
            })
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn a_fixed_window_starts_with_the_first_request_and_ends_on_time() {
        let rule = rule(LimitAlgorithm::FixedWindow, 10, 300 * SECOND, 10);
        let start = 77 * SECOND;
        let mut times = vec![start; 11];
        times.push(start + 300 * SECOND - 1);
        times.push(start + 300 * SECOND);
        let mut state = 0;
        let verdicts: Vec<_> = times
            .iter()
            .map(|now| rule.decide(state, *now).inspect(|a| state = a.state))
            .collect();
        assert!(verdicts[..10].iter().all(Result::is_ok));
        assert_eq!(
            verdicts[10],
            Err(Refused {
                retry: 300 * SECOND
            })
        );
        assert_eq!(verdicts[11], Err(Refused { retry: 1 }));
        assert_eq!(verdicts[12].unwrap().remaining, 9);
    }

    #[test]
    fn one_a_minute_is_not_one_a_second() {
        for algorithm in [
            LimitAlgorithm::FixedWindow,
            LimitAlgorithm::SlidingWindow,
            LimitAlgorithm::TokenBucket,
        ] {
            let rule = rule(algorithm, 1, 60 * SECOND, 1);
            let times: Vec<u64> = (0..59).map(|second| second * SECOND).collect();
            assert_eq!(admitted(&rule, &times).len(), 1, "{algorithm:?}");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let rule = rule(LimitAlgorithm::TokenBucket, 10, SECOND, 5);
        assert_eq!(admitted(&rule, &[SECOND; 20]).len(), 5);
        let steady: Vec<u64> = (0..100).map(|i| SECOND + i * SECOND / 20).collect();
        assert_eq!(admitted(&rule, &steady).len(), 5 + 49);
    }

    #[test]
    fn the_largest_limits_fit() {
        for algorithm in [
            LimitAlgorithm::FixedWindow,
            LimitAlgorithm::SlidingWindow,
            LimitAlgorithm::TokenBucket,
        ] {
            for window in [SECOND / 10, 86_400 * SECOND] {
                let rule = rule(algorithm, LARGEST_LIMIT, window, LARGEST_LIMIT);
                let now = 30 * 365 * 86_400 * SECOND;
                let mut state = 0;
                for _ in 0..LARGEST_LIMIT {
                    state = rule.decide(state, now).unwrap().state;
                }
                assert!(rule.decide(state, now).is_err(), "{algorithm:?}");
            }
        }
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        (
            prop::sample::select(vec![
                LimitAlgorithm::FixedWindow,
                LimitAlgorithm::SlidingWindow,
                LimitAlgorithm::TokenBucket,
            ]),
            1..20u64,
            100..2000u64,
            1..20u64,
        )
            .prop_map(|(algorithm, limit, window, burst)| {
                rule(algorithm, limit, window * 1000, burst)
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_window_admits_more_than_promised(
            rule in any_rule(),
            start in 0..10_000_000u64,
            steps in prop::collection::vec(0..200_000u64, 1..200),
        ) {
            let mut now = start;
            let times: Vec<u64> = steps.iter().map(|step| { now += step; now }).collect();
            let admitted = admitted(&rule, &times);
            let most = densest(&admitted, rule.window) as u64;
            let promised = match rule.algorithm {
                // A window starts on a whole millisecond, up to one early.
                LimitAlgorithm::FixedWindow | LimitAlgorithm::SlidingWindow => 2 * rule.limit,
                LimitAlgorithm::TokenBucket => rule.burst + rule.limit,
            };
            prop_assert!(most <= promised, "{most} > {promised}");
        }

        #[test]
        fn a_refused_request_is_admitted_after_the_wait_and_not_before(
            rule in any_rule(),
            start in 0..10_000_000u64,
            steps in prop::collection::vec(0..100_000u64, 1..100),
        ) {
            let (mut state, mut now) = (0, start);
            for step in steps {
                now += step;
                match rule.decide(state, now) {
                    Ok(admitted) => {
                        prop_assert!(admitted.expires > now);
                        prop_assert!(admitted.remaining < rule.limit.max(rule.burst));
                        state = admitted.state;
                    }
                    Err(Refused { retry }) => {
                        prop_assert!(retry > 0);
                        prop_assert!(rule.decide(state, now + retry).is_ok());
                        prop_assert!(rule.decide(state, now + retry - 1).is_err());
                    }
                }
            }
        }

        #[test]
        fn an_expired_state_is_that_of_a_key_never_seen(
            rule in any_rule(),
            start in 0..10_000_000u64,
            requests in 1..30usize,
        ) {
            let (mut state, mut expires) = (0, start);
            for _ in 0..requests {
                if let Ok(admitted) = rule.decide(state, start) {
                    (state, expires) = (admitted.state, admitted.expires);
                }
            }
            prop_assert_eq!(rule.decide(state, expires), rule.decide(0, expires));
        }

        #[test]
        fn a_refund_takes_one_request_back(rule in any_rule(), start in 0..10_000_000u64) {
            let mut state = 0;
            while let Ok(admitted) = rule.decide(state, start) {
                state = admitted.state;
            }
            let admitted = rule.decide(rule.refund(state), start);
            prop_assert!(admitted.is_ok());
            prop_assert!(rule.decide(admitted.unwrap().state, start).is_err());
        }
    }
}
