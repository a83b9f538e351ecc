//! How many client connections are open, how many there may be, and what became of all that came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::telemetry::{Exposed, Exposition};

/// The client connections that are open.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    count: AtomicUsize,
    is_full: AtomicBool,
    accepted: AtomicU64,
    /// Closed at once, since there were as many as may be…
    refused: AtomicU64,
    /// …or too much else to do…
    pub(super) shed: AtomicU64,
    /// …or too many bad credentials came from the address.
    pub(super) throttled: AtomicU64,
    /// …or a load balancer did not say in its words where it comes from.
    pub(super) unintroduced: AtomicU64,
}

/// One of them.
pub(super) struct Seat(Arc<OpenConnections>);

impl OpenConnections {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Lets one more in, unless there are `most`.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let seat = Seat(self.clone());
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before >= most {
            if !self.is_full.swap(true, Ordering::Relaxed) {
                log::warn!("connections refused: open={before} limit={most}");
            }
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(seat)
    }
}

impl Exposed for Arc<OpenConnections> {
    fn expose(&self, page: &mut Exposition) {
        let mut connections = page.counter(
            "tollgate_connections_total",
            "Connections of clients, and what became of them.",
        );
        for (result, count) in [
            ("accepted", &self.accepted),
            ("refused", &self.refused),
            ("shed", &self.shed),
            ("throttled", &self.throttled),
            ("unintroduced", &self.unintroduced),
        ] {
            connections.sample(&[("result", result)], count.load(Ordering::Relaxed));
        }
        page.gauge(
            "tollgate_connections_open",
            "Connections of clients that are open.",
        )
        .sample(&[], self.count() as u64);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.count.fetch_sub(1, Ordering::Relaxed);
        // Only well below the limit is it news again that it is reached.
        if self.0.is_full.load(Ordering::Relaxed) && before < self.0.count() + before / 8 {
            self.0.is_full.store(false, Ordering::Relaxed);
        }
    }
}
