//! What is counted of requests that are more than that: calls by gRPC, and WebSockets. Most routes have none of
//! them, so they have lines of their own.

use super::exposition::Exposition;
use super::series::{AllSeries, Series};
use crate::telemetry::GrpcStatus;

const STATUSES: usize = GrpcStatus::names().len();
const WEBSOCKETS: usize = STATUSES;
const OPEN: usize = WEBSOCKETS + 1;
const COUNTS: usize = OPEN + 1;

pub(super) type CallSeries = Series<COUNTS>;
pub(super) type Calls = AllSeries<COUNTS>;

impl CallSeries {
    pub(super) fn ended(&self, status: GrpcStatus) {
        self.counts.count(status.place());
    }

    pub(super) fn websocket_begins(&self) {
        self.counts.count(WEBSOCKETS);
        self.counts.count(OPEN);
    }

    pub(super) fn websocket_ends(&self) {
        self.counts.mine().take(OPEN);
    }
}

pub(super) fn expose(calls: &Calls, page: &mut Exposition) {
    let routes = calls.sums(page);
    let mut calls = page.counter(
        "tollgate_grpc_calls_total",
        "Calls by gRPC by the status that their client was told.",
    );
    for (sums, series) in &routes {
        let counts = &sums[..STATUSES];
        if counts.iter().any(|count| *count > 0) {
            for (name, count) in std::iter::zip(GrpcStatus::names(), counts) {
                calls.with(&series.labels, ("code", name), *count);
            }
        }
    }
    let has_any = |sums: &[u64; COUNTS]| sums[WEBSOCKETS] > 0;
    let mut websockets = page.counter("tollgate_websockets_total", "WebSockets that were opened.");
    for (sums, series) in routes.iter().filter(|it| has_any(&it.0)) {
        websockets.of(&series.labels, sums[WEBSOCKETS]);
    }
    let mut open = page.gauge("tollgate_websockets_open", "WebSockets that are open.");
    for (sums, series) in routes.iter().filter(|it| has_any(&it.0)) {
        open.of(&series.labels, sums[OPEN]);
    }
}
