//! The last window's count fades while the current one grows ("Counting things, a lot of different
//! things", Cloudflare 2017). A debt fades with its window.
//!
//! State: number of the window (16 bits, wrapping), the last and the current count (24 bits each).

use super::{Admitted, Rule};

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Two windows of a key.
struct Counts {
    /// Number of the current window.
    index: u64,
    /// Microseconds since it began.
    elapsed: u64,
    last: u64,
    current: u64,
}

impl Rule {
    pub(super) fn wait_sliding(&self, state: u64, now: u64, cost: u64) -> u64 {
        let counts = self.counts(state, now);
        let wanted = self.weight(&counts) + cost * self.window;
        let promised = self.limit * self.window;
        if wanted <= promised {
            return 0;
        }
        let rest = self.window - counts.elapsed;
        let wait = match counts.current + cost <= self.limit {
            // Until enough of the last window has faded.
            true => (wanted - promised).div_ceil(counts.last),
            // Until the current window, as the last one, has faded enough.
            false => {
                let excess = counts.current + cost - self.limit;
                rest + (excess * self.window).div_ceil(counts.current)
            }
        };
        wait + (counts.index * self.window + counts.elapsed - now)
    }

    pub(super) fn charge_sliding(&self, state: u64, now: u64, cost: u64) -> Admitted {
        let mut counts = self.counts(state, now);
        counts.current = counts.current.saturating_add(cost).min(COUNT_MASK);
        let left = (self.limit * self.window).saturating_sub(self.weight(&counts));
        let Counts {
            index,
            elapsed,
            last,
            current,
        } = counts;
        Admitted {
            state: index << (2 * COUNT_BITS) | last << COUNT_BITS | current,
            expires: (index + 2) * self.window,
            remaining: left / self.window,
            reset: self.window - elapsed,
        }
    }

    pub(super) fn used_sliding(&self, state: u64, now: u64) -> u64 {
        self.weight(&self.counts(state, now)).div_ceil(self.window)
    }

    /// What counts of both windows, in parts of a unit as small as the window is long.
    fn weight(&self, counts: &Counts) -> u64 {
        counts.last * (self.window - counts.elapsed) + counts.current * self.window
    }

    fn counts(&self, state: u64, now: u64) -> Counts {
        let (index, elapsed) = (now / self.window, now % self.window);
        let last = state >> COUNT_BITS & COUNT_MASK;
        let current = state & COUNT_MASK;
        // The number is kept in 16 bits; by those the state may be of a window before or after `now`.
        let age = (index as u16).wrapping_sub((state >> (2 * COUNT_BITS)) as u16) as i16;
        let (index, elapsed, last, current) = match age {
            _ if state == 0 => (index, elapsed, 0, 0),
            0 => (index, elapsed, last, current),
            1 => (index, elapsed, current, 0),
            // A late request does not bring the windows back that others have left behind.
            ..0 => (index + u64::from(age.unsigned_abs()), 0, last, current),
            _ => (index, elapsed, 0, 0),
        };
        Counts {
            index,
            elapsed,
            last,
            current,
        }
    }
}

pub(super) fn refund(state: u64, cost: u64) -> u64 {
    state - cost.min(state & COUNT_MASK)
}
