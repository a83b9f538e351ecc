//! Which trace a request belongs to, and what is noted of its phases and attempts on the way.
//!
//! Without `tracing` there is nothing here. With it, a request whose spans turn out not to be exported has
//! cost a few looks at the clock: what is noted has its place in one piece of memory.

mod end;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource, ErrorType};

pub(super) use self::end::{answered_in, finish, is_failure};
use super::context::Context;
use crate::telemetry::Flag;
use crate::telemetry::tracing::{Outgoing, Phase, PhaseSpan, Said, SpanId, StateFate, TraceId};
use crate::upstream::{Answer, Endpoint};

/// Rate limits decide twice, and may let requests wait each time; between them credentials are verified.
const MOST_PHASES: usize = 5;
/// A request's place in its trace, and what is noted.
#[derive(Debug)]
pub(super) struct Recording {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
    decision: Said,
    state: StateFate,
    /// Whether spans may be exported, and anything is noted.
    is_noting: bool,
    phases: [Option<PhaseSpan>; MOST_PHASES],
    attempt: Option<Attempt>,
    /// Those before, of which there are none as long as all goes well.
    past: Vec<Attempt>,
}

/// An attempt under way, or as it went.
#[derive(Debug)]
pub(super) struct Attempt {
    span: SpanId,
    number: u32,
    begun: Duration,
    connected: Option<Duration>,
    is_reused: bool,
    ended: Option<Duration>,
    status: Option<u16>,
    failure: Option<Flag>,
    endpoint: Arc<Endpoint>,
}

/// Finds or begins the trace of a request.
pub(super) fn begin(request: &RequestHeader, context: &mut Context) {
    let Some(tracing) = &context.snapshot.tracing else {
        return;
    };
    let incoming = tracing.read(&request.headers);
    let trace = incoming.parent.map(|parent| parent.trace);
    let trace = trace.unwrap_or_else(TraceId::random);
    let is_sampled = tracing.decide(trace, &incoming, context.is_from_trusted_proxy);
    context.recording = Some(Box::new(Recording {
        trace,
        span: SpanId::random(),
        parent: incoming.parent.map(|parent| parent.span),
        decision: match incoming.said {
            Some(Said::Debug) if is_sampled => Said::Debug,
            _ => is_sampled.into(),
        },
        state: incoming.state,
        is_noting: tracing.may_export(is_sampled),
        phases: [None; MOST_PHASES],
        attempt: None,
        past: Vec::new(),
    }));
}

/// The trace and the span of a request, for its line in the log.
pub(super) fn ids(context: &Context) -> Option<(TraceId, SpanId)> {
    let recording = context.recording.as_ref()?;
    Some((recording.trace, recording.span))
}

/// A phase begins, and the one before is over.
pub(super) fn enter(phase: Phase, context: &mut Context) {
    let Some((recording, now)) = noting(context) else {
        return;
    };
    recording.close_phases(now);
    recording.note_phase(phase, now, Duration::MAX);
}

/// The last phase is over.
pub(super) fn leave(context: &mut Context) {
    if context
        .recording
        .as_deref()
        .is_some_and(Recording::has_open_phase)
        && let Some((recording, now)) = noting(context)
    {
        recording.close_phases(now);
    }
}

/// The request has waited for a limit until now.
pub(super) fn waited(queued: Duration, context: &mut Context) {
    if let Some((recording, now)) = noting(context) {
        recording.note_phase(Phase::Queue, now.saturating_sub(queued), now);
    }
}

/// An attempt begins at the chosen endpoint.
pub(super) fn attempt_begins(endpoint: &Arc<Endpoint>, now: Duration, context: &mut Context) {
    let number = context.attempt.count;
    let Some(recording) = context.recording.as_deref_mut() else {
        return;
    };
    if !recording.is_noting {
        return;
    }
    recording.resume(Some(Attempt {
        span: SpanId::random(),
        number,
        begun: now,
        connected: None,
        is_reused: false,
        ended: None,
        status: None,
        failure: None,
        endpoint: endpoint.clone(),
    }));
}

/// It has a connection, which was there when it began or since `connected`.
pub(super) fn connected(is_reused: bool, connected: Duration, context: &mut Context) {
    let recording = context.recording.as_mut();
    if let Some(attempt) = recording.and_then(|recording| recording.attempt.as_mut()) {
        attempt.connected = Some(connected.max(attempt.begun));
        attempt.is_reused = is_reused;
    }
}

/// The header of its answer came.
pub(super) fn answered(status: u16, context: &mut Context) {
    let recording = context.recording.as_mut();
    if let Some(attempt) = recording.and_then(|recording| recording.attempt.as_mut()) {
        attempt.status = Some(status);
    }
}

/// The answer of an attempt came that the framework does not see.
pub(super) fn raced(answer: &Answer, context: &mut Context) {
    let connected = answer.connected.saturating_duration_since(context.arrived);
    if let Some((attempt, _)) = attempt(context) {
        attempt.connected = Some(connected);
        // Nobody knows, and no time to speak of was lost then.
        attempt.is_reused = true;
        attempt.status = Some(answer.header.status.as_u16());
    }
}

/// It failed.
pub(super) fn failed(error: &Error, context: &mut Context) {
    let failure = failure(error, context);
    if let Some((attempt, now)) = attempt(context) {
        attempt.failure = attempt.failure.or(failure);
        attempt.ended.get_or_insert(now);
    }
}

/// It is over; the first word counts.
pub(super) fn ended(context: &mut Context) {
    let recording = context.recording.as_mut();
    let attempt = recording.and_then(|recording| recording.attempt.as_mut());
    if let Some(attempt) = attempt.filter(|attempt| attempt.ended.is_none()) {
        attempt.ended = Some(context.arrived.elapsed());
    }
}

/// The attempt under way, which goes on beside the request.
pub(super) fn take(context: &mut Context) -> Option<Attempt> {
    context.recording.as_mut()?.attempt.take()
}

/// An attempt becomes the request's again. The one before it has failed.
pub(super) fn resume(attempt: Option<Attempt>, context: &mut Context) {
    if let Some((recording, now)) = noting(context) {
        if let Some(before) = &mut recording.attempt {
            before.ended.get_or_insert(now);
        }
        recording.resume(attempt);
    }
}

/// Nobody waits for an attempt any more.
pub(super) fn lost(attempt: Option<Attempt>, context: &mut Context) {
    if let Some((recording, now)) = noting(context)
        && let Some(mut attempt) = attempt
    {
        attempt.ended.get_or_insert(now);
        recording.past.push(attempt);
    }
}

/// Says in what a backend is sent which span it is called by.
pub(super) fn tell(headers: &mut HeaderMap, context: &Context) {
    if let Some(recording) = &context.recording {
        let attempt = recording.attempt.as_ref().map(|attempt| attempt.span);
        write(recording, attempt, headers, context);
    }
}

/// The same in what somebody is sent who decides about the request.
pub(super) fn tell_decider(headers: &mut HeaderMap, context: &Context) {
    if let Some(recording) = &context.recording {
        let phases = recording.phases.iter().flatten();
        let phase = phases.last().map(|phase| phase.span);
        write(recording, phase, headers, context);
    }
}

fn write(recording: &Recording, span: Option<SpanId>, headers: &mut HeaderMap, context: &Context) {
    if let Some(tracing) = &context.snapshot.tracing {
        let outgoing = Outgoing {
            trace: recording.trace,
            span: span.unwrap_or(recording.span),
            decision: recording.decision,
            state: recording.state,
        };
        tracing.write(&outgoing, headers);
    }
}

/// Why an attempt failed; `None` if it was answered, though with something that is not passed on.
fn failure(error: &Error, context: &Context) -> Option<Flag> {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused,
        ConnectTimedout, ConnectionClosed, H2Error, HTTPStatus, InvalidCert, ReadError,
        ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout, WriteError,
        WriteTimedout,
    };
    let connection = context.connection.as_ref();
    Some(match (error.esource(), error.etype()) {
        (_, HTTPStatus(_)) => return None,
        _ if connection.is_some_and(|connection| connection.is_expired()) => return None,
        _ if connection.is_some_and(|connection| connection.is_late()) => Flag::UpstreamTimeout,
        _ if connection.is_some_and(|connection| connection.is_client_late()) => {
            Flag::ClientTimeout
        }
        (ErrorSource::Downstream, ReadTimedout | WriteTimedout) => Flag::ClientTimeout,
        (ErrorSource::Downstream, _) => Flag::ClientGone,
        (_, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => {
            Flag::UpstreamTimeout
        }
        (_, TLSHandshakeFailure | InvalidCert) => Flag::UpstreamTlsFailed,
        (
            _,
            ConnectRefused | ConnectNoRoute | ConnectError | BindError | SocketError
            | ConnectProxyFailure,
        ) => Flag::UpstreamConnectFailed,
        (ErrorSource::Upstream, ConnectionClosed | ReadError | WriteError | H2Error) => {
            Flag::UpstreamReset
        }
        (ErrorSource::Upstream, _) => Flag::UpstreamProtocol,
        _ => Flag::Internal,
    })
}

/// What is noted, if anything is, and the time.
fn noting(context: &mut Context) -> Option<(&mut Recording, Duration)> {
    let recording = context.recording.as_deref_mut()?;
    recording
        .is_noting
        .then(|| (recording, context.arrived.elapsed()))
}

/// The attempt under way, and the time.
fn attempt(context: &mut Context) -> Option<(&mut Attempt, Duration)> {
    let attempt = context.recording.as_mut()?.attempt.as_mut()?;
    Some((attempt, context.arrived.elapsed()))
}

impl Recording {
    fn note_phase(&mut self, phase: Phase, begun: Duration, ended: Duration) {
        if let Some(place) = self.phases.iter_mut().find(|place| place.is_none()) {
            *place = Some(PhaseSpan {
                phase,
                span: SpanId::random(),
                begun,
                ended,
            });
        }
    }

    fn has_open_phase(&self) -> bool {
        let mut phases = self.phases.iter().flatten();
        phases.any(|phase| phase.ended == Duration::MAX)
    }

    fn close_phases(&mut self, now: Duration) {
        for phase in self.phases.iter_mut().flatten() {
            phase.ended = phase.ended.min(now);
        }
    }

    fn resume(&mut self, attempt: Option<Attempt>) {
        let before = std::mem::replace(&mut self.attempt, attempt);
        self.past.extend(before);
    }
}
