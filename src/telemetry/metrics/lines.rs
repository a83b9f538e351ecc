//! Counts of which each thread has its own.
//!
//! A thread writes to a line of its own, with plain stores and without waiting for anybody; the lines are
//! added up when somebody reads. A line is made when its thread first counts, so that what nobody counts
//! takes next to no memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use crate::telemetry::thread::number_of_this_thread;

/// Threads beside the workers that have a line of their own; all later ones share one.
const OTHER_THREADS: usize = 8;

/// So many counts. Reading them makes no thread wait.
pub(crate) struct Lines<const N: usize> {
    /// The last one is shared.
    lines: Box<[OnceLock<Box<Line<N>>>]>,
}

/// Aligned so that two threads never write to the same cache line.
#[repr(align(128))]
struct Line<const N: usize>([AtomicU64; N]);

/// The counts of the thread that asks.
#[derive(Clone, Copy)]
pub(in crate::telemetry) struct Mine<'l, const N: usize> {
    counts: &'l [AtomicU64; N],
    is_shared: bool,
}

impl<const N: usize> Default for Lines<N> {
    fn default() -> Self {
        let workers = available_parallelism().map_or(1, usize::from);
        Self {
            lines: (0..=workers + OTHER_THREADS)
                .map(|_| OnceLock::new())
                .collect(),
        }
    }
}

impl<const N: usize> Lines<N> {
    /// The counts of this thread.
    pub(in crate::telemetry) fn mine(&self) -> Mine<'_, N> {
        let shared = self.lines.len() - 1;
        let number = number_of_this_thread().min(shared);
        let line =
            self.lines[number].get_or_init(|| Box::new(Line([const { AtomicU64::new(0) }; N])));
        Mine {
            counts: &line.0,
            is_shared: number == shared,
        }
    }

    /// Counts one.
    pub(crate) fn count(&self, index: usize) {
        self.mine().add(index, 1);
    }

    /// The counts of all threads together.
    pub(crate) fn sums(&self) -> [u64; N] {
        let mut sums = [0_u64; N];
        for line in self.lines.iter().filter_map(OnceLock::get) {
            for (sum, count) in std::iter::zip(&mut sums, &line.0) {
                // What one thread adds another may take away: only the sum is never below zero.
                *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        sums
    }

    /// Whether nobody has counted yet.
    pub(in crate::telemetry) fn is_untouched(&self) -> bool {
        self.lines.iter().all(|line| line.get().is_none())
    }
}

impl<const N: usize> Mine<'_, N> {
    /// Adds to one of the counts.
    pub(in crate::telemetry) fn add(&self, index: usize, more: u64) {
        let count = &self.counts[index];
        if self.is_shared {
            count.fetch_add(more, Ordering::Relaxed);
        } else {
            // Nobody else writes here, so that nothing is lost between the two.
            let sum = count.load(Ordering::Relaxed).wrapping_add(more);
            count.store(sum, Ordering::Relaxed);
        }
    }

    /// Takes one away.
    pub(in crate::telemetry) fn take(&self, index: usize) {
        self.add(index, u64::MAX);
    }
}

impl<const N: usize> std::fmt::Debug for Lines<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lines").field(&self.sums()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_threads_count_than_have_lines_is_added_up() {
        let lines = Lines::<3>::default();
        assert!(lines.is_untouched());
        let threads = lines.lines.len() * 2;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..1000).for_each(|_| lines.count(1)));
            }
        });
        assert_eq!(lines.sums(), [0, threads as u64 * 1000, 0]);
        assert!(!lines.is_untouched());
    }

    #[test]
    fn one_thread_takes_away_what_another_added() {
        let lines = Lines::<1>::default();
        std::thread::scope(|scope| {
            scope.spawn(|| lines.mine().add(0, 5));
        });
        std::thread::scope(|scope| {
            scope.spawn(|| (0..3).for_each(|_| lines.mine().take(0)));
        });
        assert_eq!(lines.sums(), [2]);
    }
}
