//! How long the answers of a service take, as a distribution.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Each power of two of microseconds has so many buckets, so that a percentile is at most an eighth too
/// high.
const STEPS: u64 = 8;
const STEP_BITS: u32 = STEPS.ilog2();
/// The longest time that is told from longer ones is above a minute.
const OCTAVES: usize = 24;
const BUCKETS: usize = OCTAVES * STEPS as usize;
/// After so long a measurement weighs half.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// With less than this nothing can be said.
const ENOUGH: u64 = 50;

/// A histogram with buckets that grow with what they hold (as in HdrHistogram), and that forgets.
/// Nothing is counted until somebody has asked, and counting is one atomic operation.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [AtomicU32; BUCKETS],
    is_asked: AtomicBool,
    /// Half-lives that have passed.
    age: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
            is_asked: AtomicBool::new(false),
            age: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// An answer took so long.
    pub(super) fn learn(&self, took: Duration) {
        if self.is_asked.load(Ordering::Relaxed) {
            self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many percent of the answers took no longer than this; `None` while too few are known.
    pub(super) fn percentile(&self, percent: u8, now: Duration) -> Option<Duration> {
        self.is_asked.store(true, Ordering::Relaxed);
        self.forget(now);
        let counts = || self.counts.iter().map(|it| it.load(Ordering::Relaxed));
        let all: u64 = counts().map(u64::from).sum();
        if all < ENOUGH {
            return None;
        }
        let mut rest = (all * u64::from(percent)).div_ceil(100);
        let index = counts().position(|count| {
            rest = rest.saturating_sub(count.into());
            rest == 0
        });
        index.map(longest)
    }

    /// Halves what is there for each half-life that has passed.
    fn forget(&self, now: Duration) {
        let age = now.as_secs() / HALF_LIFE.as_secs();
        let known = self.age.load(Ordering::Relaxed);
        // Whoever is first does it.
        let is_mine = known < age
            && self
                .age
                .compare_exchange(known, age, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            return;
        }
        let halvings = u32::try_from(age - known).unwrap_or(u32::MAX);
        for count in &self.counts {
            let seen = count.load(Ordering::Relaxed);
            let left = seen.checked_shr(halvings).unwrap_or(0);
            // What is counted meanwhile stays.
            count.fetch_sub(seen - left, Ordering::Relaxed);
        }
    }
}

/// Where a time is counted.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let octave = micros.max(STEPS).ilog2() - STEP_BITS;
    let step = micros >> octave;
    let index = match micros < STEPS {
        true => micros,
        false => u64::from(octave + 1) * STEPS + step - STEPS,
    };
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The longest time that is counted there.
fn longest(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let micros = match (bucket / STEPS).checked_sub(1) {
        None => bucket,
        Some(octave) => ((STEPS + bucket % STEPS + 1) << octave) - 1,
    };
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn asked() -> Latencies {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentile(95, NOW), None);
        latencies
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for index in 0..BUCKETS - 1 {
            let end = longest(index);
            assert_eq!(bucket(end), index);
            assert_eq!(bucket(end + Duration::from_micros(1)), index + 1);
        }
        assert!(longest(BUCKETS - 2) > Duration::from_secs(60));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_is_said_of_a_few() {
        let latencies = asked();
        for _ in 0..ENOUGH - 1 {
            latencies.learn(Duration::from_millis(1));
        }
        assert_eq!(latencies.percentile(95, NOW), None);
        latencies.learn(Duration::from_millis(1));
        assert!(latencies.percentile(95, NOW).is_some());
    }

    #[test]
    fn nothing_is_counted_before_somebody_asks() {
        let latencies = Latencies::default();
        for _ in 0..2 * ENOUGH {
            latencies.learn(Duration::from_millis(1));
        }
        assert_eq!(latencies.percentile(95, NOW), None);
    }

    #[test]
    fn what_was_is_forgotten() {
        let latencies = asked();
        for _ in 0..1000 {
            latencies.learn(Duration::from_secs(1));
        }
        let later = NOW + 3 * HALF_LIFE;
        assert!(latencies.percentile(95, later) >= Some(Duration::from_secs(1)));
        for _ in 0..4000 {
            latencies.learn(Duration::from_millis(1));
        }
        assert!(latencies.percentile(95, later) < Some(Duration::from_millis(2)));
        assert_eq!(latencies.percentile(95, later + 40 * HALF_LIFE), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_an_eighth_too_high_at_most(
            mut micros in prop::collection::vec(0..60_000_000u64, 50..300),
            percent in 1..=99u8,
        ) {
            let latencies = asked();
            for took in &micros {
                latencies.learn(Duration::from_micros(*took));
            }
            micros.sort_unstable();
            let exact = micros[(micros.len() * usize::from(percent)).div_ceil(100) - 1];
            let found = latencies.percentile(percent, NOW).unwrap().as_micros() as u64;
            prop_assert!(found >= exact && found <= exact + exact / STEPS, "{exact} {found}");
        }
    }
}
