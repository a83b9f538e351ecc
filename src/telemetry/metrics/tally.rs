//! What meters have counted so far, read back: requests by how they went, and how long they took.

use super::class::{CLASSES, class_of};
use super::histogram;

/// Requests by how they went, so far or within some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// All of them.
    pub requests: u64,
    /// Those that were answered with 5xx or not at all.
    pub errors: u64,
    /// Those that were answered with 4xx.
    pub client_errors: u64,
}

/// How long they took, by the buckets of the histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations([u64; histogram::BUCKETS]);

/// Both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How they went.
    pub outcomes: Outcomes,
    /// How long they took.
    pub durations: Durations,
}

impl Outcomes {
    /// From the counts of the classes.
    pub(super) fn of(classes: &[u64]) -> Self {
        let client_errors = classes[class_of(400)];
        let errors = classes[class_of(500)] + classes[class_of(0)];
        Self {
            requests: classes[..CLASSES.len()].iter().sum(),
            errors,
            client_errors,
        }
    }

    /// What came since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
        }
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.requests += others.requests;
        self.errors += others.errors;
        self.client_errors += others.client_errors;
    }
}

impl Durations {
    /// From the counts of a histogram.
    pub(super) fn of(counts: &[u64]) -> Self {
        let mut durations = Self::default();
        durations.0.copy_from_slice(&counts[..histogram::BUCKETS]);
        durations
    }

    /// The microseconds that so many of a thousand took at most, as far as buckets tell: within one, durations
    /// are taken to be spread evenly, as Prometheus does. `None` if there are none.
    pub fn permille(&self, permille: u64) -> Option<u64> {
        let all: u64 = self.0.iter().sum();
        // The rank of the one that is asked for, counted from 1.
        let rank = (all * permille).div_ceil(1000).max(1);
        let mut below = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            if below + count >= rank {
                let Some((start, end)) = histogram::within(bucket) else {
                    return Some(histogram::LONGEST);
                };
                return Some(start + (end - start) * (rank - below) / count);
            }
            below += count;
        }
        None
    }
}

impl Tally {
    /// What came since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut durations = self.durations;
        for (count, before) in std::iter::zip(&mut durations.0, earlier.durations.0) {
            *count = count.saturating_sub(before);
        }
        Self {
            outcomes: self.outcomes.since(&earlier.outcomes),
            durations,
        }
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.outcomes.add(&others.outcomes);
        for (count, more) in std::iter::zip(&mut self.durations.0, others.durations.0) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::lines::Lines;
    use super::*;

    fn durations(micros: &[u64]) -> Durations {
        let lines = Lines::<{ histogram::COUNTS }>::default();
        for micros in micros {
            histogram::observe(lines.mine(), 0, Duration::from_micros(*micros));
        }
        Durations::of(&lines.sums())
    }

    #[test]
    fn percentiles_lie_evenly_in_their_bucket() {
        assert_eq!(durations(&[]).permille(500), None);
        // All in the bucket from 1 to 2.5 ms.
        let even = durations(&[2_000; 10]);
        assert_eq!(even.permille(1000), Some(2_500));
        assert_eq!(even.permille(500), Some(1_750));
        assert_eq!(even.permille(0), Some(1_150));
        // What is longer than a minute is only known to be.
        assert_eq!(durations(&[90_000_000]).permille(500), Some(60_000_000));
    }

    proptest! {
        /// As exact as buckets are: each bound is at most two and a half times the one before, but for 30 s.
        #[test]
        fn a_percentile_is_off_by_no_more_than_its_bucket(
            mut micros in prop::collection::vec(101..10_000_000_u64, 1..200), permille in 1..=1000_u64,
        ) {
            let found = durations(&micros).permille(permille).unwrap() as f64;
            micros.sort_unstable();
            let rank = (micros.len() as u64 * permille).div_ceil(1000).max(1) as usize;
            let exact = micros[rank - 1] as f64;
            prop_assert!(found <= exact * 2.5 && found >= exact / 2.5, "{found} for {exact}");
        }
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let outcomes = |classes: [u64; CLASSES.len()]| Outcomes::of(&classes);
        let before = outcomes([0, 5, 1, 2, 1, 1]);
        assert_eq!(
            (before.requests, before.errors, before.client_errors),
            (10, 2, 2)
        );
        let after = outcomes([1, 7, 1, 3, 4, 1]);
        let came = after.since(&before);
        assert_eq!((came.requests, came.errors, came.client_errors), (7, 3, 1));
        let (few, more) = (durations(&[1_000]), durations(&[1_000, 1_000, 4_000]));
        let tally = |durations| Tally {
            durations,
            ..Tally::default()
        };
        let mut sum = tally(more).since(&tally(few));
        assert_eq!(sum, tally(durations(&[1_000, 4_000])));
        sum.add(&tally(few));
        assert_eq!(sum, tally(more));
    }
}
