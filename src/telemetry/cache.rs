//! What kept answers did for requests, counted.
//!
//! As with limits, requests count on their own thread's cache line.

use super::metrics::Lines;

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
#[derive(Debug, Default)]
pub struct CacheResults(Lines<{ CacheResult::ALL.len() }>);

impl CacheResults {
    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        self.0.count(result as usize);
    }

    /// How many requests had this result.
    pub fn sum(&self, result: CacheResult) -> u64 {
        self.0.sums()[result as usize]
    }
}
