//! The time that credentials are judged by.

use std::sync::atomic::{AtomicU64, Ordering};

/// The time, which does not go back: a clock that is set back must not revive what has expired.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The latest time seen, in seconds since 1970.
    latest: AtomicU64,
}

impl Clock {
    /// The time, or a later one that was seen.
    pub(super) fn steady(&self, now: u64) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        if now <= latest {
            return latest;
        }
        self.latest.fetch_max(now, Ordering::Relaxed);
        now
    }
}
