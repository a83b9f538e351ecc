//! The time that credentials are judged by.

use std::sync::atomic::{AtomicU64, Ordering};

/// The time, which does not go back: a clock that is set back must not revive what has expired.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The latest time seen, in seconds since 1970.
    latest: AtomicU64,
}

impl Clock {
    /// A clock that is not earlier than `latest`.
    pub(super) fn new(latest: u64) -> Self {
        Self {
            latest: AtomicU64::new(latest),
        }
    }

    /// The latest time seen.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    /// The time, or a later one that was seen.
    pub(super) fn steady(&self, now: u64) -> u64 {
        let latest = self.latest();
        if now <= latest {
            return latest;
        }
        self.latest.fetch_max(now, Ordering::Relaxed);
        now
    }
}
