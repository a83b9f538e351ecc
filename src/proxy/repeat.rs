//! Whether a failed attempt is repeated.

use std::time::{Duration, Instant};

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::attempt::{self, time_left};
use super::context::Context;
use super::fallback;
use crate::config::FallbackOn;
use crate::telemetry::Flag;
use crate::upstream::{Failure, MOST_ATTEMPTS, Outcome};

/// After a connection that could not be opened. Nothing was sent, so it is always safe; only where
/// there is another place to try.
pub(super) fn after_connect_failure(context: &mut Context) -> bool {
    attempt::settle(Outcome::Failure, context);
    let Some(choice) = &context.attempt.choice else {
        return false;
    };
    context.attempt.connect_failures += 1;
    let failures = context.attempt.connect_failures;
    let has_other_address = failures < choice.endpoint.addresses().len();
    choice.endpoint.avoid_current_address();
    if !has_other_address {
        context.attempt.tried.insert_unreachable(choice);
        context.attempt.connect_failures = 0;
    }
    let service = context.service();
    let is_elsewhere_left =
        has_other_address || service.is_some_and(|it| it.has_untried(context.attempt.tried));
    let is_repeated = is_elsewhere_left && is_granted(Failure::Connect, true, context);
    context.attempt.pause = Duration::ZERO;
    is_repeated || fallback::switch(FallbackOn::ConnectFailure, true, context)
}

/// After an attempt that failed on an open connection: says in `error` whether it is repeated.
pub(super) fn after_failure(
    session: &Session,
    error: &mut Error,
    is_reused: bool,
    context: &mut Context,
) {
    // What was already decided, by the answer's status.
    if std::mem::take(&mut context.attempt.is_repeated) {
        error.set_retry(true);
        return;
    }
    let is_cut = || {
        let connection = context.connection.as_ref();
        connection.is_some_and(|connection| connection.is_late())
    };
    let is_late = match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => true,
        _ => is_cut(),
    };
    let failure = match (error.esource(), error.etype()) {
        // Nobody knows whether the backend would have been late for others.
        _ if is_late && context.is_late_for_client() => {
            error.set_retry(false);
            return;
        }
        _ if is_late => Some(Failure::Timeout),
        // It is the client's fault, and the backend was cut off in the middle of it.
        _ if attempt::is_client_late(context) => {
            error.set_retry(false);
            return;
        }
        (
            ErrorSource::Upstream,
            ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::InvalidHTTPHeader
            | ErrorType::H2Error
            | ErrorType::InvalidH2,
        ) => Some(Failure::Reset),
        _ => None,
    };
    // What the framework says of streams that were refused, or that came after the connection's end (RFC 9113
    // §8.7): nothing was done about them.
    let is_unprocessed = error.etype() == &ErrorType::H2Error && error.retry();
    // That the backend closed a connection it had kept is nobody's fault, and the framework marks it
    // if it happened before the answer.
    error.retry.decide_reuse(is_reused);
    let is_safe = is_unprocessed || session.req_header().method.is_idempotent();
    let can_repeat = context.pending_reply.is_none()
        && !session.as_ref().retry_buffer_truncated()
        && session.response_written().is_none();
    // Who refuses again and again has too much to do.
    let is_free = !is_unprocessed || context.attempt.count == 1;
    if error.retry() && is_reused && is_free && failure == Some(Failure::Reset) {
        let is_repeated = can_repeat && is_safe && context.attempt.count < MOST_ATTEMPTS;
        error.set_retry(is_repeated);
        return;
    }
    if failure.is_some() || error.esource() == &ErrorSource::Upstream {
        attempt::settle(Outcome::Failure, context);
    }
    let is_repeated = can_repeat
        && failure.is_some_and(|failure| {
            is_granted(failure, is_safe, context)
                || fallback::switch(cause(failure), is_safe, context)
        });
    error.set_retry(is_repeated);
}

/// After an answer: the error that makes the framework try again instead of passing it on.
pub(super) fn instead_of(
    session: &Session,
    status: StatusCode,
    context: &mut Context,
) -> Option<Box<Error>> {
    if !status.is_server_error() {
        return None;
    }
    if context.attempt.is_repeated {
        attempt::ended(context);
        let mut error = Error::new_up(ErrorType::HTTPStatus(status.as_u16()));
        error.set_retry(true);
        return Some(error);
    }
    let is_idempotent = session.req_header().method.is_idempotent();
    let can_repeat = !session.as_ref().retry_buffer_truncated();
    let (failure, cause) = (Failure::Status(status), FallbackOn::Status(status.as_u16()));
    let mut error = Error::new_up(ErrorType::HTTPStatus(status.as_u16()));
    if can_repeat && is_granted(failure, is_idempotent, context) {
        attempt::ended(context);
    } else if can_repeat && fallback::can_switch(cause, is_idempotent, context) {
        attempt::ended(context);
        fallback::switch(cause, is_idempotent, context);
    } else {
        context.pending_reply = Some(fallback::answer_to(cause, context)?);
        attempt::ended(context);
        return Some(error);
    }
    context.attempt.is_repeated = true;
    error.set_retry(true);
    Some(error)
}

/// After an answer in place of which a stale one could be given: whether it is asked for again first.
pub(super) fn before_stale(session: &Session, status: StatusCode, context: &mut Context) -> bool {
    let is_idempotent = session.req_header().method.is_idempotent();
    let is_repeated = is_granted(Failure::Status(status), is_idempotent, context);
    context.attempt.is_repeated = is_repeated;
    is_repeated
}

fn cause(failure: Failure) -> FallbackOn {
    match failure {
        Failure::Connect => FallbackOn::ConnectFailure,
        Failure::Reset => FallbackOn::Reset,
        Failure::Timeout => FallbackOn::Timeout,
        Failure::Status(status) => FallbackOn::Status(status.as_u16()),
    }
}

/// Whether the route's rule covers the failure, time is left, and the budget has one more.
fn is_granted(failure: Failure, is_idempotent: bool, context: &mut Context) -> bool {
    let Some(route) = context.route() else {
        return false;
    };
    let (Some(retry), Some(service)) = (&route.policies.retry, context.service()) else {
        return false;
    };
    // A fallback has attempts of its own.
    let attempts = context.attempt.count - context.attempt.count_before;
    if !retry.covers(failure, is_idempotent, attempts) {
        return false;
    }
    let pause = retry.pause(attempts, fastrand::f64());
    let is_time_left = time_left(context).is_none_or(|left| left > pause);
    if !is_time_left {
        return false;
    }
    let is_granted = service.take_retry(retry.budget, Instant::now());
    service.retried(failure, is_granted);
    if is_granted {
        context.attempt.pause = pause;
        context.note(Flag::Retried);
    }
    is_granted
}
