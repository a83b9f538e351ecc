//! What the collector is told of a request that is over, and whether it is told.

use std::time::Duration;

use http::{HeaderName, Uri, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::super::context::Context;
use super::super::forward;
use super::{Attempt, Recording};
use crate::auth::Identity;
use crate::telemetry::tracing::{self, PhaseSpan, Trace};
use crate::telemetry::{Flag, Flags};

/// What of the gateway's own keeps a request from its answer.
const FAULTS: [Flag; 10] = [
    Flag::UpstreamConnectFailed,
    Flag::UpstreamTlsFailed,
    Flag::UpstreamTimeout,
    Flag::UpstreamReset,
    Flag::UpstreamProtocol,
    Flag::CircuitOpen,
    Flag::NoEndpoint,
    Flag::Overloaded,
    Flag::Shed,
    Flag::Internal,
];
/// What breaks an answer off that has begun.
const BREAKS: [Flag; 4] = [
    Flag::UpstreamTimeout,
    Flag::UpstreamReset,
    Flag::UpstreamProtocol,
    Flag::Internal,
];

/// Has the spans of a request exported that is over after `took`, if it is one of those.
pub(in crate::proxy) fn finish(session: &Session, status: u16, took: Duration, context: &Context) {
    let (Some(tracing), Some(recording)) = (&context.snapshot.tracing, &context.recording) else {
        return;
    };
    if !recording.is_noting {
        return;
    }
    let failure = failure_of(status, context);
    let answered = answered_in(took, context);
    if recording.decision.is_sampled() || tracing.is_notable(failure.is_some(), answered) {
        let trace = recording.trace(session.req_header(), context, took);
        tracing.export(Trace {
            status,
            failure,
            ..trace
        });
    }
}

/// How long a request that is over after `total` took to be answered. A connection that was handed over to another
/// protocol lasts as long as the client likes.
pub(in crate::proxy) fn answered_in(total: Duration, context: &Context) -> Duration {
    let opened = context.attempt.first_byte;
    let is_upgraded = context.flags.contains(Flag::Upgraded);
    opened.filter(|_| is_upgraded).unwrap_or(total)
}

/// Whether a request failed: it was answered with 5xx, or its answer broke off.
pub(in crate::proxy) fn is_failure(status: u16, context: &Context) -> bool {
    status >= 500 || break_of(context).is_some()
}

/// Why a request failed, if it did.
fn failure_of(status: u16, context: &Context) -> Option<Box<str>> {
    let flags = context.flags;
    let first = |of: &[Flag]| {
        let flag = of.iter().find(|flag| flags.contains(**flag))?;
        Some(word(*flag).into())
    };
    let is_own = context.replied.is_some();
    if status >= 500 {
        let fault = first(&FAULTS).filter(|_| is_own);
        return fault.or_else(|| Some(status.to_string().into()));
    }
    break_of(context).map(|flag| word(flag).into())
}

/// What broke an answer of a backend's off, if anything did.
fn break_of(context: &Context) -> Option<Flag> {
    let flags = context.flags;
    if context.replied.is_some() || flags.contains(Flag::Fallback) {
        return None;
    }
    BREAKS.into_iter().find(|flag| flags.contains(*flag))
}

fn word(flag: Flag) -> &'static str {
    let mut flags = Flags::default();
    flags.insert(flag);
    flags.words().next().unwrap_or_default()
}

impl Recording {
    /// All that is known of a request that is over, but how it ended.
    fn trace(&self, request: &RequestHeader, context: &Context, took: Duration) -> Trace {
        let text = |name: HeaderName| {
            let value = request.headers.get(name)?;
            Some(value.to_str().ok()?.into())
        };
        let route = context.route();
        let service = context.service().map(|service| &*service.name);
        let identity = context.identity.as_deref();
        let phases = self.phases.iter().flatten().map(|phase| PhaseSpan {
            ended: phase.ended.min(took),
            ..*phase
        });
        let mut attempts: Vec<_> = self.past.iter().chain(&self.attempt).collect();
        attempts.sort_by_key(|attempt| attempt.number);
        let attempts = attempts
            .into_iter()
            .map(|attempt| attempt.noted(&request.uri, context, took));
        Trace {
            trace: self.trace,
            span: self.span,
            parent: self.parent,
            is_sampled: self.decision.is_sampled(),
            arrived: context.time,
            took,
            method: request.method.clone(),
            is_tls: context.is_over_tls(&request.headers),
            host: text(header::HOST),
            path: context.path(&request.uri).into(),
            version: request.version,
            route: route.map(|route| route.name.clone()),
            service: service
                .or_else(|| route.map(|route| &*route.service))
                .map(Into::into),
            consumer: identity
                .and_then(Identity::consumer)
                .map(|consumer| (*consumer.name).into()),
            client: context.client,
            user_agent: text(header::USER_AGENT),
            id: context.id().into(),
            status: 0,
            failure: None,
            flags: context.flags.words().collect(),
            phases: phases.collect(),
            attempts: attempts.collect(),
        }
    }
}

impl Attempt {
    fn noted(&self, sent: &Uri, context: &Context, took: Duration) -> tracing::Attempt {
        let target = forward::target(sent, self.endpoint.prefix(), context);
        let path = target.as_deref().unwrap_or_else(|| context.path(sent));
        let path = path.split('?').next().unwrap_or_default();
        tracing::Attempt {
            span: self.span,
            number: self.number,
            begun: self.begun,
            connected: self.connected,
            is_reused: self.is_reused,
            ended: self.ended.unwrap_or(took),
            status: self.status,
            failure: self.failure.map(word),
            endpoint: self.endpoint.as_str().into(),
            path: path.into(),
        }
    }
}
