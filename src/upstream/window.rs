//! Counts of the last ten seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How far back counts reach: all but a part of the oldest second.
pub(super) const WINDOW: Duration = Duration::from_secs(BUCKETS as u64);
const BUCKETS: usize = 10;
/// A bucket is one word: the second it counts (16 bits), then the two counts.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Which of the two counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The usual.
    Plain,
    /// What is watched.
    Marked,
}

/// Two counts over the last ten seconds, in ten buckets that are forgotten one by one. Adding is one
/// atomic operation, without a lock.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; BUCKETS]);

impl Window {
    /// Counts one, `now` after some fixed moment.
    pub(super) fn add(&self, kind: Kind, now: Duration) {
        let second = now.as_secs();
        let bucket = &self.0[(second % BUCKETS as u64) as usize];
        let one = match kind {
            Kind::Plain => 1,
            Kind::Marked => 1 << COUNT_BITS,
        };
        let mut seen = bucket.load(Ordering::Relaxed);
        loop {
            // What comes late, after a long answer, must not wipe out what is counted since.
            if is_newer(seen, second) {
                return;
            }
            let next = if is_of(seen, second) {
                seen
            } else {
                stamp(second)
            } + one;
            match bucket.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Both counts: plain, marked.
    pub(super) fn counts(&self, now: Duration) -> (u64, u64) {
        let second = now.as_secs();
        let oldest = second.saturating_sub(BUCKETS as u64 - 1);
        let mut sum = (0, 0);
        for counted in oldest..=second {
            let bucket = self.0[(counted % BUCKETS as u64) as usize].load(Ordering::Relaxed);
            if is_of(bucket, counted) {
                sum.0 += bucket & COUNT;
                sum.1 += bucket >> COUNT_BITS & COUNT;
            }
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

/// The second as a bucket remembers it; never 0, which is an empty bucket's. It comes again after 18
/// hours, by when the bucket has been overwritten or has nothing that matters.
fn stamp(second: u64) -> u64 {
    (second % 0xffff + 1) << (2 * COUNT_BITS)
}

fn is_of(bucket: u64, second: u64) -> bool {
    bucket >> (2 * COUNT_BITS) == stamp(second) >> (2 * COUNT_BITS)
}

/// Whether a bucket counts a later second, as stamps go round.
fn is_newer(bucket: u64, second: u64) -> bool {
    let (counted, asked) = (
        bucket >> (2 * COUNT_BITS),
        stamp(second) >> (2 * COUNT_BITS),
    );
    counted != 0 && matches!((counted + 0xffff - asked) % 0xffff, 1..0x8000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let window = Window::default();
        for second in 0..30 {
            window.add(Kind::Plain, Duration::from_secs(second));
            if second % 2 == 0 {
                window.add(Kind::Marked, Duration::from_secs(second));
            }
        }
        assert_eq!(window.counts(Duration::from_secs(29)), (10, 5));
        assert_eq!(window.counts(Duration::from_secs(34)), (5, 2));
        assert_eq!(window.counts(Duration::from_secs(40)), (0, 0));
        window.clear();
        assert_eq!(window.counts(Duration::from_secs(29)), (0, 0));
    }

    #[test]
    fn what_comes_late_wipes_nothing_out() {
        for now in [25, 65_541, 200_000] {
            let window = Window::default();
            for _ in 0..5 {
                window.add(Kind::Marked, Duration::from_secs(now));
            }
            for late in [10, 20] {
                window.add(Kind::Plain, Duration::from_secs(now - late));
            }
            window.add(Kind::Plain, Duration::from_secs(now - 3));
            assert_eq!(window.counts(Duration::from_secs(now)), (1, 5));
        }
        // After hours the same bucket begins anew.
        let window = Window::default();
        window.add(Kind::Plain, Duration::from_secs(5));
        window.add(Kind::Plain, Duration::from_secs(20_005));
        assert_eq!(window.counts(Duration::from_secs(20_005)), (1, 0));
    }

    #[test]
    fn no_thread_loses_a_count() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for at in 0..50_000 {
                        window.add(Kind::Plain, Duration::from_micros(at * 100));
                    }
                });
            }
        });
        assert_eq!(window.counts(Duration::from_secs(5)), (200_000, 0));
    }

    proptest! {
        #[test]
        fn it_counts_as_a_list_would(steps in prop::collection::vec((0..4000u64, any::<bool>()), 0..200)) {
            let window = Window::default();
            let mut list = Vec::new();
            let mut now = 0;
            for (step, is_marked) in steps {
                now += step;
                let kind = if is_marked { Kind::Marked } else { Kind::Plain };
                window.add(kind, Duration::from_millis(now));
                list.push((now / 1000, is_marked));
            }
            let recent = list.iter().filter(|(second, _)| second + BUCKETS as u64 > now / 1000);
            let (marked, plain): (Vec<&(u64, bool)>, Vec<_>) = recent.partition(|(_, is_marked)| *is_marked);
            let counts = window.counts(Duration::from_millis(now));
            prop_assert_eq!(counts, (plain.len() as u64, marked.len() as u64));
        }
    }
}
