//! How fast the bodies of a request pass. Whoever is too fast waits: it is not read from, or written to.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::http::RequestHeader;

use super::context::Context;
use super::limit::Facts;
use crate::limits::{Flow, Flows};
use crate::snapshot::Route;

/// How long the framework waits by itself: as short as its timer can. Meanwhile the connection is told to
/// rest, which ends early if the client goes away.
const TURN: Duration = Duration::from_millis(1);

/// The bodies of a request that are limited.
#[derive(Debug)]
pub(super) struct Paced {
    flows: Flows,
    /// Bytes that the client has sent and that are counted: some are passed on again to another backend.
    received: usize,
}

/// Limits the bodies of a request as its consumer's own limit says, or else the route's.
pub(super) fn begin(route: &Route, request: &RequestHeader, context: &mut Context) {
    let facts = Facts::of(request, route, context);
    let consumer = context.snapshot.consumer(facts.identity);
    let own = consumer.and_then(|it| it.bandwidth.as_ref());
    let limit = own.or(route.policies.bandwidth.as_ref());
    let flows = limit.map(|limit| limit.flows(&facts));
    context.paced = flows.map(|flows| Paced { flows, received: 0 }.into());
}

/// Waits until what the client has sent, so many bytes in all, may be passed on.
pub(super) async fn receive(sent: usize, context: &mut Context) {
    let wait = context.paced.as_mut().and_then(|paced| {
        let bytes = sent.saturating_sub(std::mem::replace(&mut paced.received, sent));
        pass(paced.flows.request.as_mut()?, bytes)
    });
    if let Some(wait) = wait {
        Box::pin(tokio::time::sleep(pause(wait, context))).await;
    }
}

/// How long to sleep before a part of an answer is sent to the client, if at all.
pub(super) fn wait_to_send(part: Option<&Bytes>, context: &mut Context) -> Option<Duration> {
    let flow = context.paced.as_mut()?.flows.response.as_mut()?;
    let wait = pass(flow, part?.len())?;
    Some(pause(wait, context))
}

fn pass(flow: &mut Flow, bytes: usize) -> Option<Duration> {
    match bytes {
        0 => None,
        _ => flow.pass(bytes, Instant::now()),
    }
}

/// Has the connection rest; what is left to sleep.
fn pause(wait: Duration, context: &Context) -> Duration {
    match &context.connection {
        Some(connection) => {
            connection.pause(wait);
            TURN
        }
        None => wait,
    }
}
