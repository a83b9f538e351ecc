//! Traces on their way from requests to the exporter.
//!
//! Requests put them into a ring of fixed size without a lock and never wait. When it is full, because the
//! collector is slow or gone, they are dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use super::trace::Trace;
use crate::telemetry::metrics::{Exposed, Exposition};

/// Traces that wait at most.
const MOST_WAITING: usize = 4096;
/// So many are sent at once, however soon.
const MANY: usize = 256;

/// The queue, and what is counted of it.
#[derive(Debug)]
pub struct Traces {
    /// Made with the first trace, so that it takes no memory where there is none.
    waiting: LazyLock<ArrayQueue<Box<Trace>>>,
    exported: AtomicU64,
    dropped: AtomicU64,
    /// Told when many wait, and at the end.
    due: Notify,
    is_ending: AtomicBool,
    /// Told when nothing waits any more at the end.
    ended: Notify,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            waiting: LazyLock::new(|| ArrayQueue::new(MOST_WAITING)),
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            due: Notify::new(),
            is_ending: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }
}

impl Traces {
    /// Puts a trace in, or counts it as dropped. Never waits.
    pub(super) fn push(&self, trace: Trace) {
        if self.waiting.push(Box::new(trace)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.waiting.len() == MANY {
            self.due.notify_one();
        }
    }

    /// The trace that has waited longest.
    pub(super) fn pop(&self) -> Option<Box<Trace>> {
        self.waiting.pop()
    }

    /// Waits until traces are to be sent: after `interval`, or as soon as there are many.
    pub async fn due(&self, interval: Duration) {
        // That the time is over is as good.
        let _ = tokio::time::timeout(interval, self.due.notified()).await;
    }

    /// Sends what waits, though for no longer than this. Returns how many traces are lost.
    pub async fn end(&self, within: Duration) -> usize {
        self.is_ending.store(true, Ordering::Release);
        self.due.notify_one();
        // What is left when the time is over is lost.
        let _ = tokio::time::timeout(within, self.ended.notified()).await;
        self.waiting.len()
    }

    /// What waited has been sent, or is lost.
    pub fn emptied(&self) {
        if self.is_ending.load(Ordering::Acquire) {
            self.ended.notify_one();
        }
    }

    pub(super) fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Exposed for Arc<Traces> {
    fn expose(&self, page: &mut Exposition) {
        for (name, help, count) in [
            (
                "tollgate_traces_dropped_total",
                "Requests whose spans are lost, since the collector is slow, gone, or does not want them.",
                &self.dropped,
            ),
            (
                "tollgate_traces_exported_total",
                "Requests whose spans the collector has accepted.",
                &self.exported,
            ),
        ] {
            page.counter(name, help)
                .sample(&[], count.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_and_makes_nobody_wait() {
        let traces = Traces::default();
        for _ in 0..MOST_WAITING + 5 {
            traces.push(Trace::example());
        }
        assert_eq!(traces.dropped(), 5);
        assert_eq!(std::iter::from_fn(|| traces.pop()).count(), MOST_WAITING);
    }

    #[tokio::test]
    async fn many_are_due_at_once() {
        let traces = Traces::default();
        for _ in 0..MANY {
            traces.push(Trace::example());
        }
        traces.due(Duration::from_secs(3600)).await;
    }

    #[tokio::test]
    async fn the_end_waits_for_what_is_sent_and_no_longer() {
        let traces = Traces::default();
        traces.push(Trace::example());
        let sent = async {
            traces.due(Duration::from_secs(3600)).await;
            while traces.pop().is_some() {}
            traces.emptied();
        };
        let (lost, ()) = tokio::join!(traces.end(Duration::from_secs(3600)), sent);
        assert_eq!(lost, 0);
        traces.push(Trace::example());
        assert_eq!(traces.end(Duration::from_millis(1)).await, 1);
    }
}
