//! When requests that wait for a limit will be admitted, one after another.

use super::algorithm::Rule;

/// How much later than at its time a timer fires, in microseconds. In a line it adds up, where each comes
/// a while after the one before.
const TIMER_STEP: u64 = 1000;

/// When a request is expected to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forecast {
    /// On the store's clock.
    pub(super) at: u64,
    /// The state of the key after it, if that is known.
    state: Option<u64>,
}

impl Forecast {
    /// For a request of a key in this state that has `ahead` others before it, which cost as much.
    pub(super) fn new(rule: &Rule, state: Option<u64>, cost: u64, ahead: usize, now: u64) -> Self {
        let before = Self { at: now, state };
        (0..=ahead).fold(before, |last, _| last.next(rule, cost, now))
    }

    /// For the one behind it.
    pub(super) fn next(self, rule: &Rule, cost: u64, now: u64) -> Self {
        let at = self.at.max(now);
        let Some(state) = self.state else {
            // In the long run, that is how often there is room for one.
            let at = at + (cost * rule.window).div_ceil(rule.limit);
            return Self { at, state: None };
        };
        match rule.decide(state, at, cost) {
            Ok(admitted) => Self {
                at,
                state: Some(admitted.state),
            },
            Err(refused) => {
                let at = at + refused.retry.unwrap_or(rule.window) + TIMER_STEP;
                let admitted = rule.decide(state, at, cost).ok();
                Self {
                    at,
                    state: admitted.map(|admitted| admitted.state),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::*;

    const SECOND: u64 = 1_000_000;
    const NOW: u64 = 3600 * SECOND;

    fn rule(algorithm: Algorithm) -> Rule {
        Rule {
            algorithm,
            limit: 10,
            window: SECOND,
            burst: 1,
        }
    }

    /// The state of a key that has just been refused.
    fn spent(rule: &Rule) -> u64 {
        let mut state = 0;
        while let Ok(admitted) = rule.decide(state, NOW, 1) {
            state = admitted.state;
        }
        state
    }

    #[test]
    fn a_bucket_gives_its_tokens_one_by_one() {
        let rule = rule(Algorithm::TokenBucket);
        let forecast = |ahead| Forecast::new(&rule, Some(spent(&rule)), 1, ahead, NOW).at - NOW;
        assert_eq!(forecast(0), SECOND / 10 + TIMER_STEP);
        assert_eq!(forecast(4), 5 * (SECOND / 10 + TIMER_STEP));
    }

    #[test]
    fn a_new_window_takes_as_many_as_the_last() {
        let rule = rule(Algorithm::FixedWindow);
        let forecast = |ahead| Forecast::new(&rule, Some(spent(&rule)), 1, ahead, NOW).at - NOW;
        assert_eq!(forecast(0), SECOND + TIMER_STEP);
        assert_eq!(forecast(9), SECOND + TIMER_STEP);
        assert_eq!(forecast(10), 2 * (SECOND + TIMER_STEP));
    }

    #[test]
    fn one_more_in_the_line_is_the_next_of_the_last() {
        for algorithm in [
            Algorithm::FixedWindow,
            Algorithm::SlidingWindow,
            Algorithm::TokenBucket,
        ] {
            let rule = rule(algorithm);
            let state = Some(spent(&rule));
            let mut last = Forecast::new(&rule, state, 1, 0, NOW);
            for ahead in 1..50 {
                last = last.next(&rule, 1, NOW);
                assert_eq!(last, Forecast::new(&rule, state, 1, ahead, NOW));
            }
        }
    }

    #[test]
    fn what_is_not_known_is_the_rate() {
        let rule = rule(Algorithm::SlidingWindow);
        let forecast = |cost| Forecast::new(&rule, None, cost, 2, NOW).at;
        assert_eq!(forecast(1), NOW + 3 * SECOND / 10);
        assert_eq!(forecast(5), NOW + 3 * SECOND / 2);
    }
}
