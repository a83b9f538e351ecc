//! The snapshot in force.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Snapshot;

/// Holds the snapshot in force. A request loads it once and keeps it to its end.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
}

impl Store {
    /// A store in which `first` is in force.
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
        }
    }

    /// Puts a snapshot in force, in one step; returns the one before, which requests may still hold.
    pub fn publish(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        self.current.swap(next)
    }

    /// The snapshot in force now.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}
