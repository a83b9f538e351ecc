//! What a client gets when the service can't answer: another service's answer, or a fixed one.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Attempts, Context, Destination};
use super::reply::{Body, Reply};
use crate::config::FallbackOn;
use crate::snapshot::{Fallback, Instead};
use crate::telemetry::Flag;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Whether there is a service that is asked instead. A request that the first one may have acted on is
/// only sent to a second if `is_safe`.
pub(super) fn can_switch(cause: FallbackOn, is_safe: bool, context: &Context) -> bool {
    let is_vouched_for = || {
        let retry = context.route().and_then(|it| it.policies.retry.as_ref());
        retry.is_some_and(|retry| retry.is_for_all_methods())
    };
    rule(context, cause).is_some_and(|rule| matches!(rule.instead, Instead::Service(_)))
        && (is_safe || is_vouched_for())
}

/// Turns to the service that is asked instead, if that can be.
pub(super) fn switch(cause: FallbackOn, is_safe: bool, context: &mut Context) -> bool {
    if !can_switch(cause, is_safe, context) {
        return false;
    }
    context.note(Flag::Fallback);
    context.destination = Destination::Fallback(cause);
    let count = context.attempt.count;
    context.attempt = Attempts {
        count,
        count_before: count,
        complete: context.attempt.complete,
        pipeline: context.attempt.pipeline,
        ..Attempts::default()
    };
    true
}

/// The same for a request that was sent nowhere, and would be answered with `reply`.
pub(super) fn switch_unsent(reply: &Reply, context: &mut Context) -> bool {
    let Some(cause) = cause(reply.flag) else {
        return false;
    };
    let is_switched = switch(cause, true, context);
    if is_switched {
        context.note(reply.flag);
    }
    is_switched
}

/// What the client gets instead of `reply`.
pub(super) fn instead_of(reply: Reply, context: &mut Context) -> Reply {
    let instead = cause(reply.flag).and_then(|cause| answer_to(cause, context));
    if instead.is_some() {
        context.note(reply.flag);
    }
    instead.unwrap_or(reply)
}

/// The fixed answer for this, if there is one.
pub(super) fn answer_to(cause: FallbackOn, context: &Context) -> Option<Reply> {
    let Instead::Answer(answer) = &rule(context, cause)?.instead else {
        return None;
    };
    let mut reply = Reply::bare(answer.status, Flag::Fallback);
    reply.headers.extend(answer.headers.iter().cloned());
    reply.body = Body::Fixed(answer.body.clone());
    Some(reply.with(PROXY_STATUS, proxy_status(cause)))
}

/// Whether the route's rule is that clients get the answer that was kept.
pub(super) fn gives_stale(context: &Context) -> bool {
    let rule = context
        .route()
        .and_then(|it| it.policies.fallback.as_deref());
    rule.is_some_and(Fallback::is_stale)
}

/// Whether clients may get the answer that was kept for this. Where that is the rule, the rule says for what.
pub(super) fn allows_stale(cause: FallbackOn, context: &Context) -> bool {
    let rule = context
        .route()
        .and_then(|it| it.policies.fallback.as_deref());
    rule.is_none_or(|rule| !rule.is_stale() || rule.covers(cause))
}

/// Marks the answer of a service that was asked instead, and one that was kept.
pub(super) fn mark(response: &mut HeaderMap, context: &Context) {
    let cause = match context.destination {
        Destination::Fallback(cause) => Some(cause),
        _ => context.stale_for(),
    };
    if let Some(cause) = cause {
        response.append(PROXY_STATUS, proxy_status(cause));
    }
}

/// `Proxy-Status` (RFC 9209 §2) of an answer that is not the one that was asked for.
fn proxy_status(cause: FallbackOn) -> HeaderValue {
    let why = match cause {
        FallbackOn::CircuitOpen => "error=destination_unavailable",
        FallbackOn::Overloaded => "error=connection_limit_reached",
        FallbackOn::NoEndpoint => "error=destination_ip_unroutable",
        FallbackOn::ConnectFailure => "error=connection_refused",
        FallbackOn::Reset => "error=connection_terminated",
        FallbackOn::Timeout => "error=http_response_timeout",
        FallbackOn::Status(status) => &format!("received-status={status}"),
    };
    let status = format!("tollgate; {why}; details=\"fallback\"");
    HeaderValue::try_from(status).unwrap_or(HeaderValue::from_static("tollgate"))
}

/// The rule in force if it is there for this, unless it is followed already.
fn rule(context: &Context, cause: FallbackOn) -> Option<&Fallback> {
    match context.destination {
        Destination::Fallback(_) => None,
        // What the client had before is nearer to what it asks for.
        _ if context.has_stale() => None,
        _ => {
            let rule = context.route()?.policies.fallback.as_deref();
            rule.filter(|rule| rule.covers(cause))
        }
    }
}

/// How the service fails, if it is that which does.
pub(super) fn cause(flag: Flag) -> Option<FallbackOn> {
    Some(match flag {
        Flag::CircuitOpen => FallbackOn::CircuitOpen,
        Flag::Overloaded => FallbackOn::Overloaded,
        Flag::NoEndpoint => FallbackOn::NoEndpoint,
        Flag::UpstreamConnectFailed | Flag::UpstreamTlsFailed => FallbackOn::ConnectFailure,
        Flag::UpstreamReset | Flag::UpstreamProtocol => FallbackOn::Reset,
        Flag::UpstreamTimeout => FallbackOn::Timeout,
        _ => return None,
    })
}
