//! Counts for keys that find no room in the table: a count-min sketch (Cormode and Muthukrishnan,
//! 2005), which may count a key's requests too high but never too low.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pingora_limits::estimator::Estimator;

/// Rows of the sketch: the chance of an over-count falls with the fourth power of the load.
const ROWS: usize = 4;

/// The most that one request counts: a million of them overflow nothing.
const LARGEST_COST: u64 = 1 << 42;

/// Counts of the current period and the one before. A period is at least as long as the windows
/// that are counted here, so both together hold every request that matters.
pub(super) struct Overflow {
    periods: [Estimator; 2],
    current: AtomicUsize,
    /// When the current period began, in microseconds.
    since: AtomicU64,
    /// Length of a period in microseconds.
    length: u64,
    /// Requests that were counted here.
    requests: AtomicU64,
}

impl Overflow {
    /// Counts for windows of up to `length` microseconds, with room for about `keys` keys.
    pub(super) fn new(length: u64, keys: usize) -> Self {
        let columns = (keys / 16).clamp(1024, 65_536);
        Self {
            periods: [Estimator::new(ROWS, columns), Estimator::new(ROWS, columns)],
            current: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            length,
            requests: AtomicU64::new(0),
        }
    }

    /// What of a key may be in its window after `cost` more; an error, and those are not counted, if
    /// it is more than `limit`.
    pub(super) fn admit(&self, key: u64, limit: u64, cost: u64) -> Result<u64, u64> {
        let count = self.charge(key, cost);
        if count > limit {
            self.refund(key, cost);
            return Err(count.saturating_sub(cost));
        }
        Ok(count)
    }

    /// Counts `cost` units; what of the key may be in its window after them.
    pub(super) fn charge(&self, key: u64, cost: u64) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let current = self.current.load(Ordering::Acquire);
        let before = self.periods[1 - current].get(key);
        let count = before.saturating_add(self.periods[current].incr(key, signed(cost)));
        u64::try_from(count).unwrap_or(0)
    }

    /// Takes counted units back.
    pub(super) fn refund(&self, key: u64, cost: u64) {
        self.periods[self.current.load(Ordering::Acquire)].decr(key, signed(cost));
    }

    /// What of a key may be in its window.
    pub(super) fn count(&self, key: u64) -> u64 {
        let count = self.periods[0]
            .get(key)
            .saturating_add(self.periods[1].get(key));
        u64::try_from(count).unwrap_or(0)
    }

    /// Begins a new period if it is time. Called in the background: clearing takes a while.
    pub(super) fn rotate(&self, now: u64) {
        if now < self.since.load(Ordering::Relaxed) + self.length {
            return;
        }
        self.since.store(now, Ordering::Relaxed);
        let current = self.current.load(Ordering::Acquire);
        self.periods[1 - current].reset();
        self.current.store(1 - current, Ordering::Release);
    }

    /// Length of a period in microseconds.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Requests that were counted here so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn signed(cost: u64) -> isize {
    isize::try_from(cost.min(LARGEST_COST)).unwrap_or(isize::MAX)
}

impl std::fmt::Debug for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overflow")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_periods_count_and_older_ones_do_not() {
        let overflow = Overflow::new(100, 1000);
        assert_eq!(overflow.admit(5, 3, 1), Ok(1));
        overflow.rotate(100);
        assert_eq!(overflow.admit(5, 3, 1), Ok(2));
        assert_eq!(overflow.admit(5, 3, 1), Ok(3));
        assert_eq!(overflow.admit(5, 3, 1), Err(3));
        overflow.rotate(150);
        assert_eq!(overflow.admit(5, 3, 1), Err(3));
        overflow.rotate(200);
        assert_eq!(overflow.admit(5, 3, 1), Ok(3));
    }
}
