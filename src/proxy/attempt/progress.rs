//! What becomes of an attempt: connected, asked, answered, over; until when each of these has to happen, and
//! what is noted of it.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::Error;

use crate::proxy::context::Context;
use crate::proxy::{grpc, meter, trace};
use crate::telemetry::Flag;
use crate::upstream::{Answer, Failed, Outcome, Permit};

/// The request is there as a whole, body included.
pub(in crate::proxy) fn completed(context: &mut Context) {
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
pub(in crate::proxy) fn time_left(context: &Context) -> Option<Duration> {
    let complete = context.attempt.complete?;
    let total = context.total()?;
    Some(total.saturating_sub(complete.elapsed()))
}

/// How long an attempt may take from the connection to the first byte.
pub(in crate::proxy) fn first_byte(context: &Context) -> Option<Duration> {
    let policies = &context.route()?.policies;
    let per_try = policies.retry.as_ref().and_then(|retry| retry.per_try);
    let first_byte = policies.timeouts.first_byte;
    first_byte.into_iter().chain(per_try).min()
}

/// Until when the answer's header must be there, whatever is tried.
pub(in crate::proxy) fn deadline(context: &Context) -> Option<Instant> {
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
pub(in crate::proxy) fn connected(fd: RawFd, is_reused: bool, context: &mut Context) {
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
pub(in crate::proxy) fn received(context: &Context) {
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
pub(in crate::proxy) fn not_connected(error: &Error, context: &Context) {
    if let Some(service) = context.service() {
        service.not_connected(error);
    }
}

/// Counts an attempt that was made beside the framework's own.
pub(in crate::proxy) fn exchanged(end: Result<&Answer, &Failed>, context: &mut Context) {
    if let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) {
        service.exchanged(&choice.endpoint, end);
        context.attempt.is_counted = true;
    }
}

/// The backend answered first in a race.
pub(in crate::proxy) fn raced(answer: &Answer, context: &mut Context) {
    context.attempt.connected = Some(answer.connected - context.arrived);
    if let (Some(connection), Some(socket)) = (&context.connection, answer.socket()) {
        connection.forwards_to(socket);
    }
    answered(answer.header.status, context);
}

/// The backend answered; from here on only its silence is too long.
pub(in crate::proxy) fn answered(status: StatusCode, context: &mut Context) {
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
pub(in crate::proxy) fn progressed(now: Instant, context: &Context) {
    if let (Some(connection), Some(route)) = (&context.connection, context.route()) {
        connection.await_more(now, route.policies.timeouts.idle);
    }
}

/// The status that a call ended with is known.
pub(in crate::proxy) fn concluded(context: &mut Context) {
    if let Some(status) = context.attempt.status {
        context.attempt.status = Some(grpc::effective(status, context));
    }
}

/// The attempt is over: its connection is nothing to be cut any more, and if it did not fail, it went
/// as its status says.
pub(in crate::proxy) fn ended(context: &mut Context) {
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
pub(super) fn count(context: &mut Context) {
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
pub(in crate::proxy) fn settle(outcome: Outcome, context: &mut Context) {
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
