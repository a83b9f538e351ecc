//! A window that is a period of the calendar: a day or a month in somebody's time zone. A debt ends
//! with its period.
//!
//! State: number of the period (18 bits), count (46 bits).

use super::{Admitted, Rule};

const COUNT_BITS: u32 = 46;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// A day or a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::limits) struct CalendarPeriod {
    /// Days or months since 1970, by which counts of other periods are told apart.
    pub(in crate::limits) number: u64,
    /// When it ends, in microseconds on the caller's clock.
    pub(in crate::limits) end: u64,
    /// How long it lasted when it was looked up, for whoever has another clock: microseconds, at least one.
    pub(in crate::limits) left: u64,
}

impl Rule {
    pub(super) fn wait_period(
        &self,
        period: CalendarPeriod,
        state: u64,
        now: u64,
        cost: u64,
    ) -> u64 {
        match period.count(state) + cost <= self.limit {
            true => 0,
            false => period.rest(now),
        }
    }

    pub(super) fn charge_period(
        &self,
        period: CalendarPeriod,
        state: u64,
        now: u64,
        cost: u64,
    ) -> Admitted {
        let count = period.count(state).saturating_add(cost).min(COUNT_MASK);
        Admitted {
            state: period.number << COUNT_BITS | count,
            expires: period.end,
            remaining: self.limit.saturating_sub(count),
            reset: period.rest(now),
        }
    }
}

impl CalendarPeriod {
    /// The one of a state, whose end nobody knows any more.
    pub(super) fn of_state(state: u64) -> Self {
        Self {
            number: state >> COUNT_BITS,
            ..Self::default()
        }
    }

    pub(super) fn count(self, state: u64) -> u64 {
        match state >> COUNT_BITS == self.number {
            true => state & COUNT_MASK,
            false => 0,
        }
    }

    /// Microseconds to its end, at least one: it may have ended since it was looked up.
    pub(super) fn rest(self, now: u64) -> u64 {
        self.end.saturating_sub(now).max(1)
    }
}

pub(super) fn refund(state: u64, cost: u64) -> u64 {
    state - cost.min(state & COUNT_MASK)
}
