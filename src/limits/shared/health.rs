//! Whether the store can be asked: a circuit breaker whose probe is the gateway's own greeting, so that no
//! request ever waits to find out.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Failures in a row after which the store is taken for gone.
const MOST_FAILURES: u32 = 3;

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreState {
    /// It has not answered yet, and nobody knows whether it will.
    Starting,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Health {
    state: AtomicU8,
    failures: AtomicU32,
    /// Gateways that share the store, this one among them.
    gateways: AtomicU32,
    pub(super) tallies: Tallies,
}

/// What has been asked so far.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Questions.
    pub asked: AtomicU64,
    /// Those that were not answered in time, or with an error.
    pub failed: AtomicU64,
    /// Requests that were decided without the store.
    pub alone: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(StoreState::Starting as u8),
            failures: AtomicU32::new(0),
            gateways: AtomicU32::new(1),
            tallies: Tallies::default(),
        }
    }
}

impl Health {
    pub(super) fn state(&self) -> StoreState {
        match self.state.load(Ordering::Relaxed) {
            0 => StoreState::Starting,
            1 => StoreState::Up,
            _ => StoreState::Down,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.state() == StoreState::Down
    }

    /// A question was answered, or not. Whether that is one failure too many.
    pub(super) fn observe(&self, is_answered: bool) -> bool {
        self.tallies.asked.fetch_add(1, Ordering::Relaxed);
        if is_answered {
            if self.failures.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            return false;
        }
        self.tallies.failed.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_FAILURES
    }

    /// Says how the store is; returns whether that is news.
    pub(super) fn set(&self, state: StoreState) -> bool {
        self.failures.store(0, Ordering::Relaxed);
        self.state.swap(state as u8, Ordering::AcqRel) != state as u8
    }

    /// How many gateways share the store.
    pub(super) fn gateways(&self) -> u64 {
        u64::from(self.gateways.load(Ordering::Relaxed).max(1))
    }

    pub(super) fn set_gateways(&self, count: u32) {
        self.gateways.store(count.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_are_too_many_and_others_are_not() {
        let health = Health::default();
        assert_eq!(health.state(), StoreState::Starting);
        for _ in 0..5 {
            assert!(!health.observe(false));
            assert!(!health.observe(false));
            assert!(!health.observe(true));
        }
        assert!(!health.observe(false));
        assert!(!health.observe(false));
        assert!(health.observe(false));
        assert!(health.set(StoreState::Down));
        assert!(!health.set(StoreState::Down));
        assert!(health.is_down());
    }
}
