//! Counts for keys that find no room in the table: a count-min sketch (Cormode and Muthukrishnan,
//! 2005), which may count a key's requests too high but never too low.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use pingora_limits::estimator::Estimator;

/// Rows of the sketch: the chance of an over-count falls with the fourth power of the load.
const ROWS: usize = 4;

/// The most that one request counts: a million of them overflow nothing.
const LARGEST_COST: u64 = 1 << 42;

/// Counts of the current period and the one before. A period is at least as long as the windows
/// that are counted here, so both together hold every request that matters.
pub(super) struct Overflow {
    periods: [Estimator; 2],
    /// All units of each.
    units: [AtomicU64; 2],
    columns: usize,
    current: AtomicUsize,
    /// When the current period began, in microseconds.
    since: AtomicU64,
    /// Requests that came after then are counted in the current period.
    certain_from: AtomicU64,
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
            units: Default::default(),
            columns,
            current: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            certain_from: AtomicU64::new(0),
            length,
            requests: AtomicU64::new(0),
        }
    }

    /// What of a key may be in its window after `cost` more; an error, and those are not counted, if
    /// it is more than `limit`.
    pub(super) fn admit(&self, key: u64, limit: u64, cost: u64) -> Result<u64, u64> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // Refusals write nothing, so a flood on one key is only read.
        let before = self.count(key);
        if before.saturating_add(cost) > limit {
            return Err(before);
        }
        let period = self.add(key, cost);
        // What `incr` says of its own is not enough: of two at a time, one may be the first in one row and
        // the other in another, and both would be told of themselves only.
        let count = self.count(key);
        if count > limit {
            // Nobody sleeps through a whole period here, after which these would be another one's.
            self.take(period, key, cost);
            return Err(count.saturating_sub(cost));
        }
        Ok(count)
    }

    /// Counts `cost` units; what of the key may be in its window after them.
    pub(super) fn charge(&self, key: u64, cost: u64) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.add(key, cost);
        self.count(key)
    }

    /// Counts `cost` units in the current period, which is returned.
    fn add(&self, key: u64, cost: u64) -> usize {
        let mut period = self.current.load(Ordering::Acquire);
        loop {
            self.periods[period].incr(key, signed(cost));
            self.units[period].fetch_add(cost.min(LARGEST_COST), Ordering::Relaxed);
            // Of two that count and then look, at least one sees the other.
            fence(Ordering::SeqCst);
            let current = self.current.load(Ordering::Acquire);
            if current == period {
                return period;
            }
            // That one is over, and may be forgotten before the window is: counted in this one, too.
            period = current;
        }
    }

    /// Takes units back that a request counted which came at `counted_at`. What may have been counted in
    /// the period before stays: to take it from this one would take it from other keys.
    pub(super) fn refund(&self, key: u64, cost: u64, counted_at: u64) {
        // In this order: a period is not certain yet when it becomes the current one.
        let current = self.current.load(Ordering::Acquire);
        if counted_at > self.certain_from.load(Ordering::Acquire) {
            self.take(current, key, cost);
        }
    }

    fn take(&self, period: usize, key: u64, cost: u64) {
        self.periods[period].decr(key, signed(cost));
        self.units[period].fetch_sub(cost.min(LARGEST_COST), Ordering::Relaxed);
    }

    /// Whether nothing is counted.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = |period: &AtomicU64| period.load(Ordering::Relaxed) == 0;
        self.units.iter().all(is_empty)
    }

    /// What a key is to expect that is counted for others.
    pub(super) fn noise(&self) -> u64 {
        let units = |period: &AtomicU64| period.load(Ordering::Relaxed);
        let units: u64 = self.units.iter().map(units).fold(0, u64::saturating_add);
        units / self.columns as u64
    }

    /// What of a key may be in its window.
    pub(super) fn count(&self, key: u64) -> u64 {
        let count = self.periods[0]
            .get(key)
            .saturating_add(self.periods[1].get(key));
        u64::try_from(count).unwrap_or(0)
    }

    /// Begins a new period if it is time. Called in the background again and again, by one thread: clearing
    /// takes a while.
    pub(super) fn rotate(&self, now: u64) {
        // Who comes after this call has come after the last one, too, which began the period.
        if self.certain_from.load(Ordering::Relaxed) == u64::MAX {
            self.certain_from.store(now, Ordering::Release);
        }
        if now < self.since.load(Ordering::Relaxed) + self.length {
            return;
        }
        self.since.store(now, Ordering::Relaxed);
        let current = self.current.load(Ordering::Acquire);
        self.certain_from.store(u64::MAX, Ordering::Release);
        self.periods[1 - current].reset();
        self.units[1 - current].store(0, Ordering::Relaxed);
        self.current.store(1 - current, Ordering::Release);
    }

    /// Length of a period in microseconds.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How long a key is remembered, at most.
    pub(super) fn memory(&self) -> u64 {
        2 * self.length
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

    impl Overflow {
        /// Whether no counter that one of these keys counts in is less than nothing.
        fn is_sound(&self, keys: impl IntoIterator<Item = u64>) -> bool {
            let is_sound = |key| self.periods.iter().all(|period| period.get(key) >= 0);
            keys.into_iter().all(is_sound)
        }
    }

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

    #[test]
    fn what_was_counted_before_the_period_is_not_taken_from_it() {
        let overflow = Overflow::new(100, 1000);
        overflow.charge(5, 2);
        overflow.refund(5, 1, 50);
        assert_eq!(overflow.count(5), 1);
        overflow.rotate(100);
        overflow.charge(5, 2);
        // It may have been counted before or after.
        overflow.refund(5, 1, 120);
        overflow.rotate(130);
        overflow.refund(5, 1, 130);
        assert_eq!(overflow.count(5), 3);
        overflow.refund(5, 1, 131);
        assert_eq!(overflow.count(5), 2);
    }

    #[test]
    fn however_many_count_at_a_time_no_limit_is_exceeded() {
        const THREADS: usize = 2;
        const KEYS: usize = 100_000;
        let overflow = Overflow::new(u64::MAX / 2, 1 << 20);
        let arrived = AtomicUsize::new(0);
        let admitted: Vec<AtomicUsize> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for (key, admitted) in admitted.iter().enumerate() {
                        // All at once, or there is nothing to see.
                        arrived.fetch_add(1, Ordering::AcqRel);
                        let mut turns = 0;
                        while arrived.load(Ordering::Acquire) < THREADS * (key + 1) {
                            turns += 1;
                            match turns < 1000 {
                                true => std::hint::spin_loop(),
                                false => std::thread::yield_now(),
                            }
                        }
                        let is_admitted = overflow.admit(key as u64, 2, 2).is_ok();
                        admitted.fetch_add(usize::from(is_admitted), Ordering::Relaxed);
                    }
                });
            }
        });
        let most = admitted.iter().map(|it| it.load(Ordering::Relaxed)).max();
        assert_eq!(most, Some(1));
        assert!(overflow.is_sound(0..KEYS as u64));
    }

    #[test]
    fn periods_that_turn_under_requests_that_are_given_back_take_nothing_from_others() {
        let overflow = Overflow::new(8, 1);
        let (clock, requests) = (AtomicU64::new(1), AtomicU64::new(0));
        let is_sound = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let is_sound = (0..200_000).all(|_| {
                    let now = clock.load(Ordering::Acquire);
                    overflow.charge(5, 1);
                    overflow.refund(5, 1, now);
                    requests.fetch_add(1, Ordering::Release);
                    overflow.is_sound([5])
                });
                requests.store(u64::MAX, Ordering::Release);
                is_sound
            });
            let mut seen = 0;
            for call in 0.. {
                let now = clock.fetch_add(1, Ordering::AcqRel);
                overflow.rotate(now);
                if call % 3 > 0 {
                    continue;
                }
                // Nobody sleeps through a whole period.
                let count = || requests.load(Ordering::Acquire);
                while count() <= seen && count() < u64::MAX {
                    std::hint::spin_loop();
                }
                seen = count();
                if seen == u64::MAX {
                    break;
                }
            }
            worker.join().unwrap()
        });
        assert!(is_sound);
    }
}
