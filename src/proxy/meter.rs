//! Counts requests: as long as they are under way, and how they went.

use std::time::Duration;

use pingora_proxy::Session;

use super::context::Context;
use crate::telemetry::{Flag, Measured, Phase};

/// The request of a route is under way.
pub(super) fn begin(context: &mut Context) {
    if let Some(route) = context.route() {
        route.meter.begin();
        context.is_under_way = true;
    }
}

/// It has become a WebSocket.
pub(super) fn websocket_begins(context: &mut Context) {
    if let Some(route) = context.route() {
        route.meter.websocket_begins();
        context.is_websocket = true;
    }
}

/// It is over.
pub(super) fn end(context: &mut Context) {
    if std::mem::take(&mut context.is_under_way)
        && let Some(route) = context.route()
    {
        route.meter.end();
    }
    if std::mem::take(&mut context.is_websocket)
        && let Some(route) = context.route()
    {
        route.meter.websocket_ends();
    }
}

/// However a request ends: by a client that goes away or by a panic, too.
impl Drop for Context {
    fn drop(&mut self) {
        end(self);
    }
}

/// Counts how a request went, and how long it took.
pub(super) fn count(status: u16, took: Duration, session: &Session, context: &Context) {
    let meter = match context.route() {
        Some(route) => &route.meter,
        None => &context.snapshot.unrouted_meter,
    };
    meter.count(&Measured {
        status,
        grpc: context.call.as_ref().and_then(|call| call.status),
        // What was handed over to another protocol lasts as long as its connection.
        took: (!context.flags.contains(Flag::Upgraded)).then_some(took),
        request_bytes: session.body_bytes_read() as u64,
        response_bytes: session.body_bytes_sent() as u64,
    });
    context.snapshot.meters.flags(context.flags);
    if let (Some(service), Some(pipeline)) = (context.service(), context.attempt.pipeline) {
        service.meter.observe(Phase::Pipeline, pipeline);
    }
}
