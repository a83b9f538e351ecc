//! One attempt at a backend: which endpoint, until when, and what a failure means.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{Context, Destination};
use super::reply::Reply;
use super::{affinity, deadline, fallback, grpc, meter, trace};
use crate::snapshot::Route;
use crate::telemetry::Flag;
use crate::upstream::{Admission, Answer, Choice, Failed, Introduction, NoChoice, Outcome, Permit};

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
        context.client_deadline = deadline::of_client(request, context);
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

/// The request is there as a whole, body included.
pub(super) fn completed(context: &mut Context) {
    if let Some(handshake) = &context.attempt.handshake {
        handshake.asked();
    }
    if context.attempt.complete.is_none() {
        let now = Instant::now();
        context.attempt.complete = Some(now);
        await_response(now, context);
    }
}

/// What is left of the time that all attempts share; `None` without a limit, or while the client
/// is still sending the body.
pub(super) fn time_left(context: &Context) -> Option<Duration> {
    let complete = context.attempt.complete?;
    let total = context.total()?;
    Some(total.saturating_sub(complete.elapsed()))
}

/// How long an attempt may take from the connection to the first byte.
pub(super) fn first_byte(context: &Context) -> Option<Duration> {
    let policies = &context.route()?.policies;
    let per_try = policies.retry.as_ref().and_then(|retry| retry.per_try);
    let first_byte = policies.timeouts.first_byte;
    first_byte.into_iter().chain(per_try).min()
}

/// Until when the answer's header must be there, whatever is tried.
pub(super) fn deadline(context: &Context) -> Option<Instant> {
    Some(context.attempt.complete? + context.total()?)
}

/// From here on the backend has to answer in time.
fn await_response(now: Instant, context: &Context) {
    if let Some(connection) = &context.connection {
        let first_byte = first_byte(context).map(|limit| now + limit);
        connection.await_response(first_byte.into_iter().chain(deadline(context)).min());
    }
}

/// A connection to the backend is there, new or from the pool.
pub(super) fn connected(fd: RawFd, is_reused: bool, context: &mut Context) {
    // A connection from the pool was there when it was asked for.
    let connected = match context.attempt.pipeline {
        Some(pipeline) if is_reused => pipeline,
        _ => context.arrived.elapsed(),
    };
    context.attempt.connected = Some(connected);
    trace::connected(is_reused, connected, context);
    if let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) {
        let opened = context.attempt.connected;
        let took = opened.map(|opened| opened.saturating_sub(context.attempt.begun));
        service.connected(&choice.endpoint, is_reused, took);
    }
    let fd = match &context.attempt.handshake {
        Some(handshake) => {
            handshake.begin();
            handshake.socket()
        }
        None => fd,
    };
    if let Some(connection) = &context.connection {
        connection.forwards_to(fd);
    }
    if let Some(permit) = &context.attempt.permit {
        permit.connected();
    }
    if context.attempt.complete.is_some() {
        await_response(Instant::now(), context);
    } else {
        await_body(context);
    }
}

/// A part of the request's body came, and it is not the last.
pub(super) fn received(context: &Context) {
    match context.attempt.status {
        None => await_body(context),
        // Both sides talk, and either may be silent while the other does.
        Some(_) => progressed(Instant::now(), context),
    }
}

/// From here on the client has to send more of its body in time, on a connection on which the framework does
/// not see to that itself. Calls by gRPC are streams, on which a client may be silent for as long as a backend.
fn await_body(context: &Context) {
    if let (Some(connection), Some(route)) = (&context.connection, context.route())
        && connection.is_stream()
    {
        let limit = match grpc::is_call(context) {
            true => route.policies.timeouts.idle,
            false => Some(context.snapshot.settings.timeouts.request_body),
        };
        connection.await_body(limit);
    }
}

/// There is no connection to the backend.
pub(super) fn not_connected(error: &Error, context: &Context) {
    if let Some(service) = context.service() {
        service.not_connected(error);
    }
}

/// Counts an attempt that was made beside the framework's own.
pub(super) fn exchanged(end: Result<&Answer, &Failed>, context: &mut Context) {
    if let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) {
        service.exchanged(&choice.endpoint, end);
        context.attempt.is_counted = true;
    }
}

/// The backend answered first in a race.
pub(super) fn raced(answer: &Answer, context: &mut Context) {
    context.attempt.connected = Some(answer.connected - context.arrived);
    if let (Some(connection), Some(socket)) = (&context.connection, answer.socket()) {
        connection.forwards_to(socket);
    }
    answered(answer.header.status, context);
}

/// The backend answered; from here on only its silence is too long.
pub(super) fn answered(status: StatusCode, context: &mut Context) {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        context.note(Flag::Upgraded);
        meter::websocket_begins(context);
        let limit = context
            .route()
            .and_then(|it| it.policies.timeouts.websocket);
        if let (Some(limit), Some(connection)) = (limit, &context.connection) {
            connection.ends_after(limit);
        }
        context.attempt.status = Some(status);
        // From here on it is a stream, which says nothing of how many requests the service bears.
        settle(Outcome::Success, context);
        context.attempt.permit = None;
        context.counted = None;
    } else if status.is_informational() {
        return;
    }
    trace::answered(status.as_u16(), context);
    let now = Instant::now();
    let first_byte = now - context.arrived;
    context.attempt.first_byte = Some(first_byte);
    let connected = context.attempt.connected.unwrap_or_default();
    context.attempt.answered_in = Some(first_byte.saturating_sub(connected));
    context.attempt.status = Some(status);
    progressed(now, context);
}

/// A part of the response came.
pub(super) fn progressed(now: Instant, context: &Context) {
    if let (Some(connection), Some(route)) = (&context.connection, context.route()) {
        connection.await_more(now, route.policies.timeouts.idle);
    }
}

/// The status that a call ended with is known.
pub(super) fn concluded(context: &mut Context) {
    if let Some(status) = context.attempt.status {
        context.attempt.status = Some(grpc::effective(status, context));
    }
}

/// The attempt is over: its connection is nothing to be cut any more, and if it did not fail, it went
/// as its status says.
pub(super) fn ended(context: &mut Context) {
    if let Some(connection) = &context.connection {
        connection.arrived();
    }
    trace::ended(context);
    if let Some(status) = context.attempt.status {
        settle(Outcome::of(status), context);
    }
    count(context);
    if let Some(choice) = &mut context.attempt.choice {
        choice.release();
    }
}

/// Counts the attempt, once.
fn count(context: &mut Context) {
    if context.attempt.choice.is_none() || std::mem::replace(&mut context.attempt.is_counted, true)
    {
        return;
    }
    if let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) {
        let status = context.attempt.status.map_or(0, |status| status.as_u16());
        service.attempted(&choice.endpoint, status, context.attempt.answered_in);
    }
}

/// Notes how the attempt went; the first word counts.
pub(super) fn settle(outcome: Outcome, context: &mut Context) {
    if std::mem::replace(&mut context.attempt.is_settled, true) {
        return;
    }
    count(context);
    if let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) {
        let now = match outcome {
            Outcome::Success => context.arrived,
            _ => Instant::now(),
        };
        let permit = context.attempt.permit.as_ref();
        let is_probe = permit.is_some_and(Permit::is_probe);
        let seen = (context.attempt.answered_in, is_probe);
        service.observe(choice, outcome, seen, now);
        if let Some(permit) = permit {
            permit.settle();
        }
    }
}

/// The answer to a request that failed, or `None` when there is nobody to answer.
pub(super) fn reply_to(error: &Error, context: &Context) -> Option<Reply> {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused,
        ConnectTimedout, ConnectionClosed, H2Error, HandshakeError, InvalidCert, InvalidHTTPHeader,
        ReadError, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
        WriteError, WriteTimedout,
    };
    if context
        .connection
        .as_ref()
        .is_some_and(|connection| connection.is_late())
    {
        return Some(Reply::upstream_timeout(
            "the backend did not answer in time",
        ));
    }
    if is_client_late(context) {
        return Some(Reply::request_timeout(
            "the request body did not come in time",
        ));
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout) => Some(Reply::request_timeout(
            "the request body did not come in time",
        )),
        (
            ErrorSource::Downstream,
            WriteError | ReadError | ConnectionClosed | WriteTimedout | H2Error,
        ) => None,
        (ErrorSource::Downstream, _) => Some(Reply::bad_request("the request can't be understood")),
        (_, ConnectTimedout | TLSHandshakeTimedout) => Some(Reply::connect_timeout(
            "the backend could not be connected to in time",
        )),
        (
            _,
            ConnectRefused | ConnectNoRoute | ConnectError | BindError | SocketError
            | ConnectProxyFailure,
        ) => Some(Reply::connect_failed(
            "the backend could not be connected to",
        )),
        (_, TLSHandshakeFailure | InvalidCert) => Some(Reply::tls_failed(
            "no trusted TLS connection to the backend could be made",
        )),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Reply::upstream_timeout(
            "the backend did not answer in time",
        )),
        (_, HandshakeError) => Some(Reply::upstream_protocol(
            "the backend does not speak HTTP/2",
        )),
        (ErrorSource::Upstream, ConnectionClosed | ReadError | WriteError | H2Error) => Some(
            Reply::upstream_reset("the backend ended the connection before it had answered"),
        ),
        (ErrorSource::Upstream, InvalidHTTPHeader) => {
            Some(Reply::upstream_protocol("the backend's answer is not HTTP"))
        }
        (ErrorSource::Upstream, _) => Some(Reply::upstream_protocol(
            "the backend's answer can't be understood",
        )),
        _ => Some(Reply::internal("the gateway could not handle the request")),
    }
}

/// Whether the client did not send its body in time.
pub(super) fn is_client_late(context: &Context) -> bool {
    let connection = context.connection.as_ref();
    connection.is_some_and(|connection| connection.is_client_late())
}

/// What the log says of a failure that nobody is there to be answered for.
pub(super) fn flag_of(error: &Error, context: &Context) -> Flag {
    if context
        .connection
        .as_ref()
        .is_some_and(|connection| connection.is_late())
    {
        return Flag::UpstreamTimeout;
    }
    if is_client_late(context) {
        return Flag::ClientTimeout;
    }
    let connection = context.connection.as_ref();
    if connection.is_some_and(|connection| connection.is_expired()) {
        return Flag::Expired;
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::WriteTimedout | ErrorType::ReadTimedout) => {
            Flag::ClientTimeout
        }
        (ErrorSource::Downstream, _) => Flag::ClientGone,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            Flag::UpstreamTimeout
        }
        (ErrorSource::Upstream, _) => Flag::UpstreamReset,
        _ => Flag::Internal,
    }
}
