//! How long things take, counted by bounds: which bucket a duration falls into, and how buckets are written.
//!
//! The bounds are those that people set their goals by (1, 2.5, 5, 10 …). Each is at least twice the one
//! before, so that there is at most one between a power of two and the next: the place of the first one bit
//! leads to it without a search.

use std::time::Duration;

use super::exposition::Family;
use super::lines::Mine;

/// Upper bounds in microseconds, and as they are written, in seconds.
const BOUNDS: [(u64, &str); 18] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
    (5_000_000, "5.0"),
    (10_000_000, "10.0"),
    (30_000_000, "30.0"),
    (60_000_000, "60.0"),
];
/// The bucket of what is longer than all of them.
const LONGER: usize = BOUNDS.len();
/// Buckets, that of longer ones included.
pub(super) const BUCKETS: usize = LONGER + 1;
/// Buckets, and behind them the sum in microseconds.
pub(super) const COUNTS: usize = BUCKETS + 1;

/// For each place of the first one bit the first bound that such a number may be within.
const FIRST: [u8; 64] = {
    let mut first = [0; 64];
    let mut place = 0;
    while place < 64 {
        let mut bound = 0;
        while bound < LONGER && BOUNDS[bound].0 < 1 << place {
            bound += 1;
        }
        first[place] = bound as u8;
        place += 1;
    }
    first
};

fn bucket(micros: u64) -> usize {
    let first = usize::from(FIRST[(micros | 1).ilog2() as usize]);
    match BOUNDS.get(first) {
        Some((bound, _)) => first + usize::from(micros > *bound),
        None => LONGER,
    }
}

/// Between which microseconds a bucket lies; `None` for the last one, which has no end.
pub(super) fn within(bucket: usize) -> Option<(u64, u64)> {
    let (end, _) = BOUNDS.get(bucket)?;
    let start = bucket.checked_sub(1).map_or(0, |before| BOUNDS[before].0);
    Some((start, *end))
}

/// The microseconds from which on durations are no longer told apart.
pub(super) const LONGEST: u64 = BOUNDS[LONGER - 1].0;

/// Counts a duration in the histogram whose counts begin at `start`.
pub(super) fn observe<const N: usize>(mine: Mine<'_, N>, start: usize, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    mine.add(start + bucket(micros), 1);
    mine.add(start + LONGER + 1, micros);
}

/// Writes a histogram of [`COUNTS`] counts.
pub(super) fn write(family: &mut Family<'_>, labels: &str, counts: &[u64]) {
    let mut within = 0;
    let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
    for (count, bound) in std::iter::zip(counts, bounds) {
        within += count;
        family.part("_bucket", labels, ("le", bound), within);
    }
    family.seconds("_sum", labels, counts[LONGER + 1]);
    family.plain("_count", labels, within);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::exposition::{Exposition, Format};
    use super::super::lines::Lines;
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (index, (bound, text)) in BOUNDS.iter().enumerate() {
            assert_eq!(bucket(*bound), index);
            assert_eq!(bucket(bound + 1), index + 1);
            assert_eq!(text.parse::<f64>().unwrap() * 1e6, *bound as f64);
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, LONGER));
    }

    proptest! {
        #[test]
        fn the_bucket_is_that_of_the_least_bound_that_is_enough(micros in 0..200_000_000_u64) {
            let searched = BOUNDS.iter().position(|(bound, _)| micros <= *bound);
            prop_assert_eq!(bucket(micros), searched.unwrap_or(LONGER));
        }
    }

    #[test]
    fn buckets_hold_those_below_them_too() {
        let lines = Lines::<COUNTS>::default();
        for millis in [1, 3, 3, 70_000] {
            observe(lines.mine(), 0, Duration::from_millis(millis));
        }
        let mut page = Exposition::new(Format::Text, 0);
        let mut family = page.histogram("d_seconds", "Help.");
        write(&mut family, "a=\"b\"", &lines.sums());
        let text = page.finish();
        for line in [
            "d_seconds_bucket{a=\"b\",le=\"0.0005\"} 0\n",
            "d_seconds_bucket{a=\"b\",le=\"0.001\"} 1\n",
            "d_seconds_bucket{a=\"b\",le=\"0.005\"} 3\n",
            "d_seconds_bucket{a=\"b\",le=\"60.0\"} 3\n",
            "d_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n",
            "d_seconds_sum{a=\"b\"} 70.007\n",
            "d_seconds_count{a=\"b\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
