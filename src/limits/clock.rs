//! The times that limits are kept by: one that only goes on, and one on the wall.

use std::fmt;
use std::time::Instant;

use jiff::Timestamp;

/// Reads the time on the wall.
type Wall = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// Both clocks.
pub(super) struct Clock {
    started: Instant,
    wall: Wall,
}

impl Clock {
    /// A clock that has this one on its wall.
    pub(super) fn with_wall(wall: Wall) -> Self {
        Self {
            started: Instant::now(),
            wall,
        }
    }

    /// Microseconds since a while before it was started: the first hour is kept free, so that windows
    /// may begin before.
    pub(super) fn now(&self, now: Instant) -> u64 {
        const HOUR: u64 = 3_600_000_000;
        let since = now.saturating_duration_since(self.started);
        HOUR + u64::try_from(since.as_micros()).unwrap_or(0)
    }

    /// The time on the wall, which people set.
    pub(super) fn wall(&self) -> Timestamp {
        (self.wall)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::with_wall(Box::new(Timestamp::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}
