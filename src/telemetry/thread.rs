//! Numbers of threads, by which each finds what is its own.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of the thread that asks: threads are counted from 0 as they first ask.
pub(super) fn number_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}
