//! What kept answers did for requests, counted.
//!
//! As with limits, requests count on their own thread's cache line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use super::thread::number_of_this_thread;

/// What a request had to do with answers that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// It was given one.
    Hit,
    /// It was given what a backend answered.
    Miss,
    /// It was given one that was no longer fresh.
    Stale,
    /// It was given one after its backend said that it has not changed.
    Revalidated,
    /// None was looked for.
    Bypass,
}

impl CacheResult {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Hit,
        Self::Miss,
        Self::Stale,
        Self::Revalidated,
        Self::Bypass,
    ];

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
        }
    }
}

/// The counters.
#[derive(Debug)]
pub struct CacheResults(Box<[Line]>);

/// Aligned so that two threads never write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; CacheResult::ALL.len()]);

impl Default for CacheResults {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, Into::into);
        Self((0..threads).map(|_| Line::default()).collect())
    }
}

impl CacheResults {
    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        let line = &self.0[number_of_this_thread() % self.0.len()];
        line.0[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests had this result.
    pub fn sum(&self, result: CacheResult) -> u64 {
        let of_thread = |line: &Line| line.0[result as usize].load(Ordering::Relaxed);
        self.0.iter().map(of_thread).sum()
    }
}
