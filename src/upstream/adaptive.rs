//! How many requests a service bears at once, found out by how long its answers take (Gradient2 of
//! Netflix's concurrency-limits).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The limit never falls below.
const LEAST: f32 = 20.0;
/// A window ends after so many answers, if it has lasted…
const ANSWERS: u32 = 20;
/// …so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Answers may take so much longer than they usually do before the limit falls.
const TOLERANCE: f32 = 1.5;
/// How much a window moves the limit.
const SMOOTHING: f32 = 0.2;
/// How much a window moves what is usual: about a minute of windows.
const LONG_TERM: f32 = 1.0 / 600.0;
/// What a window with failures leaves of the limit.
const BACKOFF: f32 = 0.9;

/// A limit that follows what a service bears. Moments are durations since a fixed one.
#[derive(Debug)]
pub(super) struct Adaptive {
    /// All of these are `f32`.
    limit: AtomicU32,
    /// Microseconds; 0 before the first window.
    usual: AtomicU32,
    /// When the window began, in milliseconds.
    begun: AtomicU64,
    answers: AtomicU32,
    /// Microseconds.
    took: AtomicU64,
    failures: AtomicU32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            limit: AtomicU32::new(LEAST.to_bits()),
            usual: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            answers: AtomicU32::new(0),
            took: AtomicU64::new(0),
            failures: AtomicU32::new(0),
        }
    }
}

impl Adaptive {
    /// How many requests may be under way.
    pub(super) fn limit(&self) -> u32 {
        read(&self.limit) as u32
    }

    /// Learns how long an answer took while so many requests were under way, of `most` at any time.
    pub(super) fn learn(
        &self,
        took: Option<Duration>,
        is_failure: bool,
        in_flight: u32,
        most: u32,
        now: Duration,
    ) {
        if is_failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let Some(took) = took else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took.fetch_add(micros, Ordering::Relaxed);
        let answers = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = self.begun.load(Ordering::Relaxed);
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        if answers < ANSWERS || millis < begun + window {
            return;
        }
        // One of those who see that it is over ends it.
        let ended =
            self.begun
                .compare_exchange(begun, millis.max(1), Ordering::Relaxed, Ordering::Relaxed);
        if ended.is_err() {
            return;
        }
        let answers = self.answers.swap(0, Ordering::Relaxed).max(1);
        let mean = self.took.swap(0, Ordering::Relaxed) as f32 / answers as f32;
        let failures = self.failures.swap(0, Ordering::Relaxed);
        self.end_window(mean.max(1.0), failures > 0, in_flight, most);
    }

    fn end_window(&self, mean: f32, has_failed: bool, in_flight: u32, most: u32) {
        let limit = read(&self.limit);
        let usual = match read(&self.usual) {
            0.0 => mean,
            usual => usual + (mean - usual) * LONG_TERM,
        };
        // What was slow for long is forgotten faster once it is over.
        let usual = if usual > 2.0 * mean {
            usual * 0.95
        } else {
            usual
        };
        self.usual.store(usual.to_bits(), Ordering::Relaxed);
        // With few under way it says nothing of how many could be.
        if (in_flight as f32) < limit / 2.0 && !has_failed {
            return;
        }
        let gradient = (TOLERANCE * usual / mean).clamp(0.5, 1.0);
        let next = match has_failed {
            true => limit * BACKOFF,
            false => {
                let next = limit * gradient + limit.sqrt();
                limit + (next - limit) * SMOOTHING
            }
        };
        let next = next.clamp(LEAST.min(most as f32), most as f32);
        self.limit.store(next.to_bits(), Ordering::Relaxed);
    }
}

fn read(cell: &AtomicU32) -> f32 {
    f32::from_bits(cell.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// A service of `workers` that each take `work` for a request, in front of a queue without end.
    /// Clients come at a rate, whatever happens, and give up after `patience`; the service works on
    /// what nobody waits for all the same. Returns good answers a second, of the second half.
    fn goodput(limit: Option<&Adaptive>, rate: u64, workers: usize) -> f64 {
        let (work, patience, length) = (10_000, 200_000, 40_000_000);
        let mut free: BinaryHeap<Reverse<u64>> = (0..workers).map(|_| Reverse(0)).collect();
        // When each request under way ends, and when it began.
        let mut ends: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut good = 0;
        let mut now = 0;
        while now < length {
            now += 1_000_000 / rate;
            while let Some(Reverse((end, begun))) = ends.peek().copied() {
                if end > now {
                    break;
                }
                ends.pop();
                let took = end - begun;
                if took <= patience && end > length / 2 {
                    good += 1;
                }
                if let Some(limit) = limit {
                    let in_flight = ends.len() as u32 + 1;
                    let (took, at) = (Duration::from_micros(took), Duration::from_micros(end));
                    limit.learn(
                        Some(took),
                        took.as_micros() as u64 > patience,
                        in_flight,
                        1000,
                        at,
                    );
                }
            }
            let most = limit.map_or(usize::MAX, |limit| limit.limit() as usize);
            if ends.len() < most {
                let Reverse(start) = free.pop().unwrap();
                let end = start.max(now) + work;
                free.push(Reverse(end));
                ends.push(Reverse((end, now)));
            }
        }
        f64::from(good) / (length as f64 / 2e6)
    }

    #[test]
    fn five_times_the_load_leaves_nine_tenths_of_the_answers() {
        for workers in [10, 50] {
            let capacity = workers as u64 * 100;
            let peak = goodput(None, capacity * 9 / 10, workers);
            let without = goodput(None, capacity * 5, workers);
            let with = goodput(Some(&Adaptive::default()), capacity * 5, workers);
            assert!(without < peak / 10.0, "{without} of {peak}");
            assert!(with > peak * 0.9, "{with} of {peak}");
        }
    }

    #[test]
    fn a_service_that_bears_more_gets_more() {
        let limit = Adaptive::default();
        for window in 1..2000_u64 {
            for answer in 0..ANSWERS {
                let now = Duration::from_millis(window * 100 + u64::from(answer));
                limit.learn(
                    Some(Duration::from_millis(10)),
                    false,
                    limit.limit(),
                    500,
                    now,
                );
            }
        }
        assert_eq!(limit.limit(), 500);
        // With few under way nothing is learned.
        let idle = Adaptive::default();
        for window in 1..100_u64 {
            for answer in 0..ANSWERS {
                let now = Duration::from_millis(window * 100 + u64::from(answer));
                idle.learn(Some(Duration::from_millis(10)), false, 2, 500, now);
            }
        }
        assert_eq!(idle.limit(), LEAST as u32);
    }

    #[test]
    fn failures_and_slow_answers_lower_it() {
        let limit = Adaptive::default();
        let learn = |from: u64, took, is_failure| {
            for window in from..from + 50 {
                for answer in 0..ANSWERS {
                    let now = Duration::from_millis(window * 100 + u64::from(answer));
                    let took = Some(Duration::from_millis(took));
                    limit.learn(took, is_failure, limit.limit(), 500, now);
                }
            }
            limit.limit()
        };
        let high = learn(1, 10, false);
        assert!(high > 50, "{high}");
        let slower = learn(60, 50, false);
        assert!(slower < high, "{slower}");
        learn(120, 10, false);
        let failing = learn(180, 10, true);
        assert_eq!(failing, LEAST as u32);
    }
}
