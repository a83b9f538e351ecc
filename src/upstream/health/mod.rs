//! Which endpoints are well: by how they answered requests, and by how they answer checks.
//!
//! What that means for the next attempt is decided by [`super::balance`].

mod check;
mod outlier;
mod probe;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use super::window::Window;
pub(super) use check::Checks;
pub use check::HealthCheck;
pub use outlier::OutlierDetection;
pub use probe::Prober;

/// An endpoint that has just come back gets at least this share of its requests.
const LEAST_WARMTH: f64 = 0.1;

/// How an attempt ended, as far as it says something of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// It answered with an error of the application: a sign only if it is frequent.
    ApplicationError,
    /// No connection, no answer, or one that says that there is nobody behind it.
    Failure,
}

impl Outcome {
    /// What an answer with this status says.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Self::Failure,
            500.. => Self::ApplicationError,
            _ => Self::Success,
        }
    }
}

/// What is known of one endpoint's health. Moments are durations since a fixed one.
#[derive(Debug, Default)]
pub(super) struct Health {
    in_a_row: AtomicU32,
    answers: Window,
    /// Milliseconds; 0 for never.
    ejected_until: AtomicU64,
    /// Ejections one after the other.
    ejections: AtomicU32,
    /// Whether its checks say that it is down.
    is_down: AtomicBool,
    /// Since when it takes requests (again), in milliseconds; 0 for all along.
    back_since: AtomicU64,
}

impl Health {
    /// Whether it gets no requests for now, because it failed others.
    pub(super) fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > millis(now)
    }

    /// An ejection ends now. `true` if there was one.
    pub(super) fn forgive(&self, now: Duration) -> bool {
        let is_ejected = self.is_ejected(now);
        if is_ejected {
            self.ejected_until.store(millis(now), Ordering::Relaxed);
        }
        is_ejected
    }

    /// Its checks say that it is down or up. `true` if that is news.
    pub(super) fn checked(&self, is_down: bool, now: Duration) -> bool {
        let is_news = self.is_down.swap(is_down, Ordering::Relaxed) != is_down;
        if is_news && !is_down {
            self.came_back(now);
        }
        is_news
    }

    /// Whether its checks say that it is down.
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// It takes requests from now on.
    pub(super) fn came_back(&self, now: Duration) {
        self.back_since.store(millis(now).max(1), Ordering::Relaxed);
    }

    /// The share of its requests that it should get: it grows during `slow_start` after the endpoint
    /// came back, so that cold caches and connections are not overrun.
    pub(super) fn warmth(&self, now: Duration, slow_start: Duration) -> f64 {
        let back = self.back_since.load(Ordering::Relaxed);
        let since = back.max(self.ejected_until.load(Ordering::Relaxed));
        if since == 0 || slow_start.is_zero() {
            return 1.0;
        }
        let age = millis(now).saturating_sub(since) as f64;
        (age / millis(slow_start) as f64).clamp(LEAST_WARMTH, 1.0)
    }

    /// Answers and failures of the last ten seconds.
    pub(in crate::upstream) fn counts(&self, now: Duration) -> (u64, u64) {
        self.answers.counts(now)
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_warms_up() {
        let health = Health::default();
        let at = Duration::from_secs;
        let slow_start = at(10);
        assert_eq!(health.warmth(at(0), slow_start), 1.0);
        assert!(health.checked(true, at(5)) && health.is_down());
        assert!(!health.checked(true, at(6)));
        assert!(health.checked(false, at(20)) && !health.is_down());
        assert_eq!(health.warmth(at(20), slow_start), 0.1);
        assert_eq!(health.warmth(at(25), slow_start), 0.5);
        assert_eq!(health.warmth(at(31), slow_start), 1.0);
        assert_eq!(health.warmth(at(21), Duration::ZERO), 1.0);
    }
}
