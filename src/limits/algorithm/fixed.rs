//! A window that starts with a key's first request. Refused requests do not count, and a debt ends
//! with its window.
//!
//! State: start in milliseconds (40 bits), count (24 bits).

use super::{Admitted, Rule};

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The window of a key.
struct Window {
    /// Milliseconds.
    start: u64,
    count: u64,
}

impl Rule {
    pub(super) fn wait_fixed(&self, state: u64, now: u64, cost: u64) -> u64 {
        let window = self.window_of(state, now);
        match window.count + cost <= self.limit {
            true => 0,
            false => self.end_of(&window) - now,
        }
    }

    pub(super) fn charge_fixed(&self, state: u64, now: u64, cost: u64) -> Admitted {
        let window = self.window_of(state, now);
        let count = window.count.saturating_add(cost).min(COUNT_MASK);
        let end = self.end_of(&window);
        Admitted {
            state: window.start << COUNT_BITS | count,
            expires: end,
            remaining: self.limit.saturating_sub(count),
            reset: end - now,
        }
    }

    pub(super) fn used_fixed(&self, state: u64, now: u64) -> u64 {
        self.window_of(state, now).count
    }

    /// The window that is not over yet, or one that starts now.
    fn window_of(&self, state: u64, now: u64) -> Window {
        let window = Window {
            start: state >> COUNT_BITS,
            count: state & COUNT_MASK,
        };
        if window.count > 0 && now < self.end_of(&window) {
            return window;
        }
        Window {
            start: now / 1000,
            count: 0,
        }
    }

    fn end_of(&self, window: &Window) -> u64 {
        window.start * 1000 + self.window
    }
}

pub(super) fn refund(state: u64, cost: u64) -> u64 {
    state - cost.min(state & COUNT_MASK)
}
