//! What is counted of requests by the route that took them.

use std::sync::Arc;
use std::time::Duration;

use super::calls::CallSeries;
use super::class::{CLASSES, class_of};
use super::exposition::Exposition;
use super::histogram;
use super::series::{AllSeries, Series};
use super::tally::{Durations, Outcomes, Tally};
use crate::telemetry::GrpcStatus;

/// Behind the classes of the statuses.
const REQUEST_BYTES: usize = CLASSES.len();
const RESPONSE_BYTES: usize = REQUEST_BYTES + 1;
const IN_FLIGHT: usize = RESPONSE_BYTES + 1;
const DURATION: usize = IN_FLIGHT + 1;
const COUNTS: usize = DURATION + histogram::COUNTS;

pub(super) type RouteSeries = Series<COUNTS>;
pub(super) type Routes = AllSeries<COUNTS>;

/// Counts the requests of a route.
#[derive(Debug, Clone)]
pub struct RouteMeter {
    pub(super) series: Arc<RouteSeries>,
    pub(super) calls: Arc<CallSeries>,
    pub(super) is_own: bool,
}

/// How a request went.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// What its client was told; 0 if it was told nothing.
    pub status: u16,
    /// How it ended, if it was a call by gRPC.
    pub grpc: Option<GrpcStatus>,
    /// From arrival to the end; `None` where that is no duration of an exchange.
    pub took: Option<Duration>,
    /// Bytes of its body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

impl RouteMeter {
    /// A request begins.
    pub fn begin(&self) {
        self.series.counts.mine().add(IN_FLIGHT, 1);
    }

    /// A request that began is over.
    pub fn end(&self) {
        self.series.counts.mine().take(IN_FLIGHT);
    }

    /// A WebSocket begins.
    pub fn websocket_begins(&self) {
        self.calls.websocket_begins();
    }

    /// A WebSocket that began is over.
    pub fn websocket_ends(&self) {
        self.calls.websocket_ends();
    }

    /// Whether no other route is counted with it.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// What it has counted so far, and the requests that are under way.
    pub fn read(&self) -> (Tally, u64) {
        let sums = self.series.counts.sums();
        let tally = Tally {
            outcomes: Outcomes::of(&sums[..CLASSES.len()]),
            durations: Durations::of(&sums[DURATION..]),
        };
        (tally, sums[IN_FLIGHT])
    }

    /// Counts a request.
    pub fn count(&self, measured: &Measured) {
        let mine = self.series.counts.mine();
        mine.add(class_of(measured.status), 1);
        if let Some(status) = measured.grpc {
            self.calls.ended(status);
        }
        mine.add(REQUEST_BYTES, measured.request_bytes);
        mine.add(RESPONSE_BYTES, measured.response_bytes);
        if let Some(took) = measured.took {
            histogram::observe(mine, DURATION, took);
        }
    }
}

pub(super) fn expose(routes: &Routes, page: &mut Exposition) {
    let routes = routes.sums(page);
    let mut requests = page.counter(
        "tollgate_requests_total",
        "Requests by their route and the class of the status that their client was told.",
    );
    for (sums, series) in &routes {
        for (class, count) in std::iter::zip(CLASSES, sums) {
            requests.with(&series.labels, ("class", class), *count);
        }
    }
    for (index, name, help) in [
        (
            REQUEST_BYTES,
            "tollgate_request_body_bytes_total",
            "Bytes of the bodies of requests.",
        ),
        (
            RESPONSE_BYTES,
            "tollgate_response_body_bytes_total",
            "Bytes of the bodies of answers.",
        ),
    ] {
        let mut bytes = page.counter(name, help);
        for (sums, series) in &routes {
            bytes.of(&series.labels, sums[index]);
        }
    }
    let mut in_flight = page.gauge(
        "tollgate_requests_in_flight",
        "Requests that have come and are not over.",
    );
    for (sums, series) in &routes {
        in_flight.of(&series.labels, sums[IN_FLIGHT]);
    }
    let mut durations = page.histogram(
        "tollgate_request_duration_seconds",
        "From the arrival of requests to their end.",
    );
    for (sums, series) in &routes {
        // Thousands of routes that nobody asks for need no buckets.
        if !series.counts.is_untouched() {
            let counts = &sums[DURATION..];
            histogram::write(&mut durations, series.labels.as_str(), counts);
        }
    }
}
