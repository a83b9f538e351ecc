//! Tokens that come back one by one: the generic cell rate algorithm (ITU-T I.371, annex A). A debt is
//! paid back at the rate of the tokens.
//!
//! State: the theoretical arrival time, in nanoseconds.

use super::{Admitted, Rule};

/// No bucket takes longer to fill, and no debt to be paid back, in nanoseconds: a year, which keeps
/// every sum far from overflow.
const LONGEST: u64 = 366 * 86_400 * 1_000_000_000;

impl Rule {
    pub(super) fn wait_bucket(&self, state: u64, now: u64, cost: u64) -> u64 {
        let now = now * 1000;
        let latest = now + (self.burst - cost) * self.interval();
        state.saturating_sub(latest).div_ceil(1000)
    }

    pub(super) fn charge_bucket(&self, state: u64, now: u64, cost: u64) -> Admitted {
        let now = now * 1000;
        let interval = self.interval();
        let missing = (state.max(now) - now)
            .saturating_add(cost.saturating_mul(interval))
            .min(LONGEST);
        let remaining = (self.burst * interval).saturating_sub(missing) / interval;
        let enough = self.burst.saturating_sub(remaining + 1) * interval;
        Admitted {
            state: now + missing,
            expires: (now + missing).div_ceil(1000),
            remaining,
            reset: missing.saturating_sub(enough).div_ceil(1000),
        }
    }

    pub(super) fn used_bucket(&self, state: u64, now: u64) -> u64 {
        state.saturating_sub(now * 1000).div_ceil(self.interval())
    }

    pub(super) fn refund_bucket(&self, state: u64, cost: u64) -> u64 {
        state.saturating_sub(cost.saturating_mul(self.interval()))
    }

    /// Whether the bucket takes too long to fill.
    pub(in crate::limits) fn is_filled_too_slowly(&self) -> bool {
        self.burst.saturating_mul(self.interval()) > LONGEST
    }

    /// Nanoseconds between two tokens, rounded up so that the rate is never exceeded.
    fn interval(&self) -> u64 {
        (self.window * 1000).div_ceil(self.limit)
    }
}
