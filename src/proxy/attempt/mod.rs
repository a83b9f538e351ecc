//! One attempt at a backend: which endpoint, until when, and what a failure means.
//!
//! Which endpoint is decided here; what happens to the attempt from then on is followed by [`progress`], and
//! what the client is told when it came to nothing stands in [`failure`].

mod failure;
mod progress;

use std::time::{Duration, Instant};

use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use self::progress::count;
use super::context::{Context, Destination};
use super::reply::Reply;
use super::{affinity, fallback, trace};
use crate::snapshot::Route;
use crate::upstream::{Admission, Choice, Introduction, NoChoice};

pub(super) use failure::{flag_of, is_client_late, reply_to};
pub(super) use progress::{
    answered, completed, concluded, connected, deadline, ended, exchanged, first_byte,
    not_connected, progressed, raced, received, settle, time_left,
};

/// With less time left than this an attempt is not worth it.
const LEAST_TIME: Duration = Duration::from_millis(1);
/// Nobody knows for how long operators switch something off; after so many seconds it is time to ask again.
const SWITCHED_ON_AFTER: http::HeaderValue = http::HeaderValue::from_static("10");

/// Chooses the endpoint of the next attempt and how to connect to it.
///
/// # Errors
/// If there is none; what the client is answered instead waits in `context`.
pub(super) fn next(
    request: &RequestHeader,
    context: &mut Context,
) -> pingora::Result<Box<HttpPeer>> {
    peer(request, context).map_err(|reply| {
        context.pending_reply = Some(reply);
        Error::new_in(ErrorType::InternalError)
    })
}

fn peer(request: &RequestHeader, context: &mut Context) -> Result<Box<HttpPeer>, Reply> {
    let choice = loop {
        match choose(request, context) {
            Ok(choice) => break choice,
            Err(reply) => {
                if !fallback::switch_unsent(&reply, context) {
                    return Err(reply);
                }
            }
        }
    };
    let Some(route) = context.route() else {
        return Err(Reply::internal("the gateway could not handle the request"));
    };
    // Nothing of the attempt before is held against this one.
    if context.attempt.count > 0
        && let Some(connection) = &context.connection
    {
        connection.request_came();
    }
    let connect_within = match time_left(context) {
        Some(left) if left < LEAST_TIME => {
            return Err(Reply::upstream_timeout(
                "the backend did not answer in time",
            ));
        }
        Some(left) => left.min(route.policies.timeouts.connect),
        None => route.policies.timeouts.connect,
    };
    let Some(mut peer) = choice
        .endpoint
        .peer(&route.policies.timeouts, connect_within)
    else {
        return Err(no_endpoint());
    };
    context.attempt.introduction = introduce(&mut peer, &choice, context);
    count(context);
    context.attempt.tried.insert(&choice);
    context.attempt.count += 1;
    context.attempt.begun = context.arrived.elapsed();
    trace::attempt_begins(&choice.endpoint, context.attempt.begun, context);
    context.attempt.choice = Some(choice);
    context.attempt.handshake = None;
    context.attempt.status = None;
    context.attempt.answered_in = None;
    context.attempt.is_settled = false;
    context.attempt.is_counted = false;
    let begun = context.attempt.begun;
    context.attempt.pipeline.get_or_insert(begun);
    Ok(peer)
}

/// Makes a connection to a backend begin with whom it is for, if backends of its service are told.
pub(super) fn introduce(
    peer: &mut HttpPeer,
    choice: &Choice,
    context: &Context,
) -> Option<Introduction> {
    if !choice.endpoint.is_introduced() {
        return None;
    }
    choice.endpoint.introduce(peer, context.ends()?)
}

/// Decides which of the route's services gets the request, once.
pub(super) fn decide_destination(request: &RequestHeader, context: &mut Context) {
    if let Destination::Open = context.destination
        && let Some(forward) = context.route().and_then(Route::forward)
    {
        let key = forward.split.key();
        let key = key.and_then(|key| affinity::of(key, request, context));
        let part = forward.split.choose(key.as_deref());
        context.destination = Destination::Part(part);
        context.client_deadline = super::deadline::of_client(request, context);
    }
}

/// The endpoint of the next attempt, if its service takes the request.
fn choose(request: &RequestHeader, context: &mut Context) -> Result<Choice, Reply> {
    decide_destination(request, context);
    let now = match context.attempt.count {
        0 => context.now(),
        _ => Instant::now(),
    };
    let Some(service) = context.service() else {
        return Err(Reply::internal("no service is left for a request"));
    };
    let permit = match &context.attempt.permit {
        Some(_) => None,
        None => match service.admit(now) {
            Admission::Granted(permit) => Some(permit),
            refused => return Err(refusal(&refused)),
        },
    };
    let key = service.hash_key();
    let key = key.and_then(|key| affinity::of(key, request, context));
    let choice = service.choose(context.attempt.tried, key.as_deref(), now);
    let held = permit.as_ref().or(context.attempt.permit.as_ref());
    let may_connect = held.is_none_or(|permit| service.may_connect(permit));
    if permit.is_some() {
        context.attempt.permit = permit;
    }
    match choice {
        Ok(choice) if may_connect => Ok(choice),
        Ok(_) | Err(NoChoice::Full) => Err(full()),
        Err(NoChoice::Unresolved) => Err(no_endpoint()),
        Err(NoChoice::Drained) => Err(out_of_service()),
    }
}

/// The answer to a request that the service does not get.
fn refusal(admission: &Admission) -> Reply {
    match admission {
        Admission::Open(rest) => {
            // A second too late is better than one too early.
            let after = http::HeaderValue::from(rest.as_secs() + 1);
            Reply::circuit_open("the backends of this service fail; it is left alone for a while")
                .with(http::header::RETRY_AFTER, after)
        }
        Admission::ForcedOpen => Reply::circuit_open("this service is switched off for now")
            .with(http::header::RETRY_AFTER, SWITCHED_ON_AFTER),
        Admission::Full | Admission::Granted(_) => full(),
    }
}

fn full() -> Reply {
    Reply::overloaded("as many requests are under way as this service bears").with(
        http::header::RETRY_AFTER,
        http::HeaderValue::from_static("1"),
    )
}

fn no_endpoint() -> Reply {
    Reply::no_endpoint("no backend of this service has a known address").with(
        http::header::RETRY_AFTER,
        http::HeaderValue::from_static("5"),
    )
}

fn out_of_service() -> Reply {
    Reply::no_endpoint("all backends of this service are out of service for now")
        .with(http::header::RETRY_AFTER, SWITCHED_ON_AFTER)
}
