//! The ways to keep a window, as functions of one 64-bit state and the time.
//!
//! A state of zero is that of a key never seen. Times are microseconds on a clock of the caller's. They
//! may go back a little, since requests are not decided in the order in which they came. What is used
//! again after a while is to be had [`Rule::unless_expired`].

mod bucket;
mod calendar;
mod fixed;
mod sliding;
#[cfg(test)]
mod tests;

pub(super) use calendar::CalendarPeriod;

use crate::config::LimitAlgorithm;

/// Largest limit of a window that starts by itself.
pub(super) const LARGEST_LIMIT: u64 = 1_000_000;
/// Largest limit of a calendar's period, if it is not one of bytes.
pub(super) const LARGEST_QUOTA: u64 = 1_000_000_000_000;

/// A limit's numbers, in the units of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    pub(super) limit: u64,
    /// Microseconds; of a calendar's period, what the longest has.
    pub(super) window: u64,
    /// Of a token bucket.
    pub(super) burst: u64,
}

/// How a window is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
    /// The window is a period of the calendar, this one now.
    Calendar(CalendarPeriod),
}

/// What was counted: the state after it, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) state: u64,
    /// From when on the state says no more than that of a key never seen.
    pub(super) expires: u64,
    pub(super) remaining: u64,
    /// Microseconds until more is left.
    pub(super) reset: u64,
}

/// A refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// What is left, which is less than the request costs.
    pub(super) remaining: u64,
    /// Microseconds until the request would be admitted, if no other comes first; `None` if it costs
    /// more than there ever is.
    pub(super) retry: Option<u64>,
}

impl Rule {
    /// Decides at time `now` on a request that costs `cost` units. One that costs nothing is admitted
    /// while a unit is left.
    pub(super) fn decide(&self, state: u64, now: u64, cost: u64) -> Result<Admitted, Refused> {
        let needed = cost.max(1);
        let retry = match needed <= self.most() {
            true => Some(self.wait(state, now, needed)),
            false => None,
        };
        match retry {
            Some(0) => Ok(self.charge(state, now, cost)),
            retry => Err(Refused {
                remaining: self.charge(state, now, 0).remaining,
                retry,
            }),
        }
    }

    /// Counts `cost` units at time `now`, whether or not they are left. What is too much is a debt:
    /// nothing is left until it has faded or been paid back.
    pub(super) fn charge(&self, state: u64, now: u64, cost: u64) -> Admitted {
        match self.algorithm {
            Algorithm::FixedWindow => self.charge_fixed(state, now, cost),
            Algorithm::SlidingWindow => self.charge_sliding(state, now, cost),
            Algorithm::TokenBucket => self.charge_bucket(state, now, cost),
            Algorithm::Calendar(period) => self.charge_period(period, state, now, cost),
        }
    }

    /// The rule at the time of which a state is.
    pub(super) fn of_state(&self, state: u64) -> Self {
        match self.algorithm {
            Algorithm::Calendar(_) => Self {
                algorithm: Algorithm::Calendar(CalendarPeriod::of_state(state)),
                ..*self
            },
            _ => *self,
        }
    }

    /// What is counted at time `now`, a part of a unit as a whole one.
    pub(super) fn used(&self, state: u64, now: u64) -> u64 {
        match self.algorithm {
            Algorithm::FixedWindow => self.used_fixed(state, now),
            Algorithm::SlidingWindow => self.used_sliding(state, now),
            Algorithm::TokenBucket => self.used_bucket(state, now),
            Algorithm::Calendar(period) => period.count(state),
        }
    }

    /// The state without `cost` units that it counted before.
    pub(super) fn refund(&self, state: u64, cost: u64) -> u64 {
        match self.algorithm {
            Algorithm::FixedWindow => fixed::refund(state, cost),
            Algorithm::SlidingWindow => sliding::refund(state, cost),
            Algorithm::TokenBucket => self.refund_bucket(state, cost),
            Algorithm::Calendar(_) => calendar::refund(state, cost),
        }
    }

    /// The state, or that of a key never seen if it has expired. One of the calendar's has a number
    /// instead, since the calendar may be set back.
    pub(super) fn unless_expired(&self, state: u64, expires: u64, now: u64) -> u64 {
        match self.algorithm {
            Algorithm::Calendar(_) => state,
            _ if expires <= now => 0,
            _ => state,
        }
    }

    /// What is left where all that is known is that no more than `count` units are counted.
    pub(super) fn estimate(&self, count: u64, now: u64) -> Admitted {
        Admitted {
            state: 0,
            expires: now,
            remaining: self.limit.saturating_sub(count),
            reset: match self.algorithm {
                Algorithm::Calendar(period) => period.rest(now),
                _ => self.window,
            },
        }
    }

    /// The longest that it may be until more is left: microseconds.
    pub(super) fn longest(&self) -> u64 {
        match self.algorithm {
            Algorithm::Calendar(period) => period.left,
            _ => self.window,
        }
    }

    /// The most that one request may cost.
    pub(super) fn most(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket => self.burst,
            _ => self.limit,
        }
    }

    /// Microseconds until `cost` units are left: at least one, and no more than there ever are.
    fn wait(&self, state: u64, now: u64, cost: u64) -> u64 {
        match self.algorithm {
            Algorithm::FixedWindow => self.wait_fixed(state, now, cost),
            Algorithm::SlidingWindow => self.wait_sliding(state, now, cost),
            Algorithm::TokenBucket => self.wait_bucket(state, now, cost),
            Algorithm::Calendar(period) => self.wait_period(period, state, now, cost),
        }
    }
}

impl From<LimitAlgorithm> for Algorithm {
    fn from(algorithm: LimitAlgorithm) -> Self {
        match algorithm {
            LimitAlgorithm::FixedWindow => Self::FixedWindow,
            LimitAlgorithm::SlidingWindow => Self::SlidingWindow,
            LimitAlgorithm::TokenBucket => Self::TokenBucket,
        }
    }
}
