//! How many requests of a client are under way: from when it is known who comes until their answer
//! ends.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::Context;
use super::limit::{Facts, RATE_LIMIT_POLICY};
use super::reply::Reply;
use crate::limits::{ConcurrencyLimits, Entry, Held, Holding};
use crate::snapshot::Route;
use crate::telemetry::Flag;

/// When a request that is refused may come again: seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("1");

/// The limits that hold for a request: the consumer's own, if it has some, and of the route's all or
/// those that need not know who comes.
fn holding<'c>(
    route: &'c Route,
    context: &'c Context,
) -> impl Iterator<Item = (&'c ConcurrencyLimits, Holding)> {
    let consumer = context.snapshot.consumer(context.identity.as_deref());
    let own = consumer.and_then(|it| it.concurrency.as_deref());
    let of_route = match own {
        Some(_) => Holding::ByAnybody,
        None => Holding::All,
    };
    let own = own.map(|limits| (limits, Holding::All));
    let route = route.policies.concurrency.as_deref();
    own.into_iter()
        .chain(route.map(|limits| (limits, of_route)))
}

/// Counts a request among those under way.
pub(super) fn enter(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let mut held = Held::default();
    let mut is_over = false;
    for (limits, holding) in holding(route, context) {
        let facts = Facts::of(request, route, context);
        match limits.enter(holding, &facts, &mut held) {
            Entry::Admitted { is_over: it } => is_over |= it,
            Entry::Refused(name) => {
                let reply = Reply::concurrency_limited(format!(
                    "as many requests are under way as the limit `{name}` allows"
                ));
                return Err(reply.with(header::RETRY_AFTER, COME_BACK).into());
            }
        }
    }
    context.held = held;
    if is_over {
        context.note(Flag::WouldLimitConcurrency);
    }
    Ok(())
}

/// Tells the client of the limits in force.
pub(super) fn tell(response: &mut HeaderMap, route: &Route, context: &Context) {
    for (limits, holding) in holding(route, context) {
        if let Some(policy) = limits.policy(holding) {
            response.append(RATE_LIMIT_POLICY, policy.clone());
        }
    }
}

/// The last of the answer is about to be sent. The client may send its next request, on whichever
/// connection, as soon as it has it, so that this one must not be under way any more then; unless more of
/// it is still to come.
pub(super) fn ended(context: &mut Context) {
    if context.attempt.complete.is_some() || context.is_answered_from_store() {
        context.held.release();
    }
}

/// Whether an answer ends with its header.
pub(super) fn is_whole(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes() == b"0";
    !response.status.is_informational()
        && (request.method == Method::HEAD
            || matches!(
                response.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
            || response
                .headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(is_empty))
}
