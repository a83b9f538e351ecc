//! Lines between the workers that write them and the thread that writes them out.
//!
//! Each worker thread has a buffer of its own, so workers never wait for each other; the writer takes a buffer by
//! swapping it for an empty one. A full buffer drops lines and counts them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::telemetry::thread::number_of_this_thread;

/// Buffers; at least as many as worker threads on common machines. More threads share.
pub(super) const SHARDS: usize = 64;
/// A buffer that holds this much is written out at once.
const WAKE_BYTES: usize = 64 * 1024;
/// A buffer never holds more than this; 64 threads can hold 256 MiB at the very worst.
pub(super) const SHARD_BYTES: usize = 4 * 1024 * 1024;

/// The buffers of all workers.
#[derive(Debug)]
pub(super) struct Buffers {
    shards: Box<[Shard]>,
    lost: AtomicU64,
    is_closing: AtomicBool,
}

/// Aligned so that two workers' buffers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    lines: Mutex<Vec<u8>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            lost: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
        }
    }
}

impl Buffers {
    /// Has a line written into this thread's buffer, or counts it as lost. Says whether it is time to write
    /// the buffer out.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let shard = &self.shards[number_of_this_thread() % SHARDS];
        let mut lines = shard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= SHARD_BYTES {
            drop(lines);
            self.lose(1);
            return false;
        }
        let before = lines.len();
        write(&mut lines);
        before < WAKE_BYTES && lines.len() >= WAKE_BYTES
    }

    /// Swaps the lines of a buffer, if it has any, for the space of `empty`.
    pub(super) fn take(&self, shard: usize, empty: &mut Vec<u8>) {
        // One burst must not hold its memory for ever.
        empty.shrink_to(4 * WAKE_BYTES);
        let shard = &self.shards[shard];
        let mut lines = shard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.is_empty() {
            std::mem::swap(&mut *lines, empty);
        }
    }

    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}
