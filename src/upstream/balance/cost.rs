//! How long an endpoint takes to answer, and how much it has to do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// After this time a measurement weighs e times less.
const DECAY: Duration = Duration::from_secs(10);
/// A failure counts as an answer that took at least so long: failing fast must not attract requests.
const PENALTY: Duration = Duration::from_millis(100);

/// What an endpoint has to do, and how long its answers take: a moving average that rises at once and
/// falls slowly (peak EWMA, as in Finagle). Moments are durations since a fixed one.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Cost {
    in_flight: AtomicU32,
    /// Microseconds (`f32`, upper half) at a moment in milliseconds (lower half); 0 before the first.
    average: AtomicU64,
}

impl Cost {
    /// A request goes there.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests under way.
    pub(in crate::upstream) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Learns how long an answer took.
    pub(in crate::upstream) fn answered(&self, took: Duration, now: Duration) {
        self.learn(micros(took), now);
    }

    /// Learns that an attempt failed, after so long if it is known.
    pub(in crate::upstream) fn failed(&self, took: Option<Duration>, now: Duration) {
        let least = (5.0 * self.average(now)).max(micros(PENALTY));
        self.learn(took.map_or(least, |took| micros(took).max(least)), now);
    }

    fn learn(&self, sample: f32, now: Duration) {
        let stamp = stamp(now);
        let _ = self
            .average
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| {
                let (average, at) = unpack(seen);
                let next = if seen == 0 || sample > average {
                    sample
                } else {
                    let weight = fading(at, stamp);
                    average * weight + sample * (1.0 - weight)
                };
                // A long answer is learned of late, and the clock does not go back for it.
                let is_late = seen != 0 && stamp.wrapping_sub(at) > u32::MAX / 2;
                Some(pack(next, if is_late { at } else { stamp }))
            });
    }

    /// How long answers take by that average; `None` before the first.
    pub(in crate::upstream) fn latency(&self, now: Duration) -> Option<Duration> {
        let is_known = self.average.load(Ordering::Relaxed) != 0;
        is_known.then(|| Duration::from_micros(self.average(now) as u64))
    }

    fn average(&self, now: Duration) -> f32 {
        let (average, at) = unpack(self.average.load(Ordering::Relaxed));
        average * fading(at, stamp(now))
    }

    /// How long a request would probably take that joins those under way, in no unit: for comparison.
    /// What has never answered gets one request to show what it can do.
    pub(super) fn expected(&self, now: Duration) -> f32 {
        let in_flight = self.in_flight() as f32;
        match self.average.load(Ordering::Relaxed) {
            0 if in_flight == 0.0 => 0.0,
            0 => f32::MAX,
            _ => self.average(now) * (in_flight + 1.0),
        }
    }
}

/// What is left of a measurement after the time between two stamps.
fn fading(since: u32, now: u32) -> f32 {
    let passed = now.wrapping_sub(since);
    // Another thread may have been a little ahead.
    if passed > u32::MAX / 2 {
        return 1.0;
    }
    (-(passed as f32) / DECAY.as_millis() as f32).exp()
}

fn micros(duration: Duration) -> f32 {
    (duration.as_secs_f32() * 1e6).max(1.0)
}

fn stamp(now: Duration) -> u32 {
    now.as_millis() as u32
}

fn pack(average: f32, stamp: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let cost = Cost::default();
        cost.answered(10 * MS, MS);
        cost.answered(500 * MS, 2 * MS);
        assert!((cost.average(2 * MS) - 500_000.0).abs() < 1.0);
        for at in 0..1000 {
            cost.answered(10 * MS, (at + 2) * MS);
        }
        // A tenth of the decay has passed.
        let tenth = 490_000.0 * (-0.1_f32).exp() + 10_000.0;
        let average = cost.average(1001 * MS);
        assert!((average / tenth - 1.0).abs() < 0.01, "{average} {tenth}");
        // Without an answer it is forgotten.
        assert!(cost.average(100_000 * MS) < 100.0);
    }

    #[test]
    fn what_is_learned_late_does_not_turn_the_clock_back() {
        let cost = Cost::default();
        cost.answered(10 * MS, 30_000 * MS);
        cost.answered(20 * MS, 10_000 * MS);
        assert!((cost.average(30_000 * MS) - 20_000.0).abs() < 1.0);
    }

    #[test]
    fn a_failure_is_as_bad_as_a_slow_answer() {
        let cost = Cost::default();
        cost.failed(Some(MS), MS);
        assert!(cost.average(MS) >= 100_000.0);
        cost.failed(None, 2 * MS);
        assert!(cost.average(2 * MS) >= 499_000.0);
    }

    #[test]
    fn who_never_answered_gets_one_request() {
        let cost = Cost::default();
        assert_eq!(cost.expected(MS), 0.0);
        cost.begin();
        assert_eq!(cost.expected(MS), f32::MAX);
        cost.answered(MS, MS);
        cost.end();
        assert!((cost.expected(MS) - 1000.0).abs() < 1.0);
        cost.begin();
        assert!((cost.expected(MS) - 2000.0).abs() < 1.0);
    }
}
