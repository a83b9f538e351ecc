//! What the process says of the output's health: once when it falls ill, once when it is well again.

use std::time::{Duration, Instant};

/// It is well if nothing went wrong for so long, so that what comes and goes is said once.
const QUIET: Duration = Duration::from_secs(1);

/// Whether the output is well.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Lines lost when it was last well.
    lost_before: u64,
    lost: u64,
    is_failing: bool,
    is_losing: bool,
    last: Option<Instant>,
}

/// What is worth saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// It does not take anything.
    Fails,
    /// Lines are lost.
    Loses,
    /// It is well again.
    Recovered {
        /// So many lines are lost.
        lost: u64,
    },
}

impl Health {
    /// It failed.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Notice> {
        self.last = Some(now);
        let is_known = std::mem::replace(&mut self.is_failing, true);
        (!is_known).then_some(Notice::Fails)
    }

    /// So many lines have been lost since the start, and all others are written or not.
    pub(super) fn observe(&mut self, lost: u64, is_done: bool, now: Instant) -> Option<Notice> {
        if lost > self.lost {
            self.lost = lost;
            self.last = Some(now);
            let is_known = std::mem::replace(&mut self.is_losing, true);
            return (!is_known).then_some(Notice::Loses);
        }
        let last = self.last.as_mut()?;
        if !is_done {
            *last = now;
        }
        if now.saturating_duration_since(*last) < QUIET {
            return None;
        }
        let lost = self.lost - self.lost_before;
        *self = Self {
            lost_before: self.lost,
            lost: self.lost,
            ..Self::default()
        };
        Some(Notice::Recovered { lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_illness_is_said_when_it_begins_and_when_it_ends() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut health = Health::default();
        assert_eq!(health.observe(0, true, start), None);
        assert_eq!(health.failed(after(0)), Some(Notice::Fails));
        assert_eq!(health.failed(after(100)), None);
        assert_eq!(health.observe(7, false, after(200)), Some(Notice::Loses));
        assert_eq!(health.observe(9, false, after(300)), None);
        assert_eq!(health.failed(after(900)), None);
        assert_eq!(health.observe(9, true, after(1800)), None);
        let well = Notice::Recovered { lost: 9 };
        assert_eq!(health.observe(9, true, after(1900)), Some(well));
        assert_eq!(health.observe(9, true, after(9000)), None);
        assert_eq!(health.observe(10, true, after(9100)), Some(Notice::Loses));
        // Nobody reads, and nobody writes.
        assert_eq!(health.observe(10, false, after(20_000)), None);
        let well = Notice::Recovered { lost: 1 };
        assert_eq!(health.observe(10, true, after(21_000)), Some(well));
    }
}
