//! Which endpoints are well: by how they answered requests, and by how they answer checks.
//!
//! What that means for the next attempt is decided by [`super::balance`].

mod outlier;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::window::Window;
pub use outlier::OutlierDetection;

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

/// What is known of one endpoint's health. Moments are durations since a fixed one.
#[derive(Debug, Default)]
pub(super) struct Health {
    in_a_row: AtomicU32,
    answers: Window,
    /// Milliseconds; 0 for never.
    ejected_until: AtomicU64,
    /// Ejections one after the other.
    ejections: AtomicU32,
}

impl Health {
    /// Whether it gets no requests for now, because it failed others.
    pub(super) fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > millis(now)
    }

    /// Whether it should get no requests for now.
    pub(super) fn is_unwell(&self, now: Duration) -> bool {
        self.is_ejected(now)
    }

    /// The share of its requests that it should get: it grows during `slow_start` after the endpoint
    /// came back, so that cold caches and connections are not overrun.
    pub(super) fn warmth(&self, now: Duration, slow_start: Duration) -> f64 {
        let since = self.ejected_until.load(Ordering::Relaxed);
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
