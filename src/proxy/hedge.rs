//! A second attempt at a request that takes long, while the first goes on. The first good answer is the
//! client's (Dean and Barroso, *The Tail at Scale*).
//!
//! The framework makes one attempt at a time, so that a route which hedges its requests has them sent
//! here, over connections of their own. What is no case for it, or fails, goes the framework's way.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result, RetryType};
use pingora_proxy::Session;

use super::context::Context;
use super::pressure::{Level, Pressure};
use super::relay::{self, gone};
use super::{affinity, attempt, forward, mirror, repeat, trace};
use crate::telemetry::{Flag, ServiceEvent};
use crate::upstream::{
    Answer, Backends, Choice, Failed, Failure, Outcome, Permit, Question, Service,
};

/// The most that is read of an answer nobody waits for, so that its connection can be kept.
const MOST_UNREAD: usize = 64 * 1024;
/// How long such an answer is waited for at most.
const LONGEST: Duration = Duration::from_secs(60);

type End = Result<Answer, Failed>;

/// An attempt on its way.
struct Runner {
    exchange: Pin<Box<dyn Future<Output = (Permit, End)> + Send>>,
    choice: Choice,
    noted: Option<trace::Attempt>,
}

/// Answers the request if its route hedges requests and this is one that can be. `false` leaves it, or
/// the attempts that remain, to the framework.
pub(super) async fn answer(
    session: &mut Session,
    backends: &Arc<Backends>,
    pressure: &Pressure,
    context: &mut Context,
) -> Result<bool> {
    let Some(delay) = delay(session, pressure, context) else {
        return Ok(false);
    };
    // In a box of its own, so that routes without hedging pay nothing for it.
    Box::pin(hedged(session, backends, delay, context)).await
}

async fn hedged(
    session: &mut Session,
    backends: &Arc<Backends>,
    delay: Duration,
    context: &mut Context,
) -> Result<bool> {
    let end = race(session, backends, delay, context).await?;
    let Some(answer) = judge(end, session, context)? else {
        return Ok(false);
    };
    let answer = relay::pass_on(answer, session, context).await?;
    backends.keep(answer).await;
    Ok(true)
}

/// When the second attempt begins; `None` if there is to be none.
fn delay(session: &mut Session, pressure: &Pressure, context: &mut Context) -> Option<Duration> {
    let hedge = context.route()?.policies.retry.as_ref()?.hedge?;
    let is_possible = pressure.level() == Level::None
        // Only the framework looks for answers that are kept.
        && context.route()?.policies.cache.is_none()
        && is_simple(session.req_header())
        && session.is_body_empty();
    if !is_possible {
        return None;
    }
    attempt::decide_destination(session.req_header(), context);
    context.service()?.hedge_delay(&hedge, context.now())
}

/// Whether a request may be sent twice, and asks for nothing but an answer.
fn is_simple(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    let names_nothing = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    request.method.is_idempotent()
        && matches!(request.version, Version::HTTP_10 | Version::HTTP_11)
        && !headers.contains_key(header::UPGRADE)
        && !headers.contains_key(header::EXPECT)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .all(names_nothing)
}

/// Makes one attempt, and after `delay` a second one beside it, if one may be. The end is that of the
/// attempt that counts; its endpoint and permit are in `context`.
///
/// # Errors
/// If there is nobody to ask, or the client goes away.
async fn race(
    session: &mut Session,
    backends: &Arc<Backends>,
    delay: Duration,
    context: &mut Context,
) -> Result<End> {
    let mut first = first(session, backends, context)?;
    tokio::select! {
        biased;
        end = &mut first.exchange => return Ok(first.ended(end, context)),
        error = gone(session) => return Err(first.left(error, context)),
        () = tokio::time::sleep(delay) => {}
    }
    let Some(mut second) = second(session, backends, context) else {
        return first.alone(session, context).await;
    };
    let (end, other, is_second) = tokio::select! {
        end = &mut first.exchange => (first.ended(end, context), second, false),
        end = &mut second.exchange => (second.ended(end, context), first, true),
        error = gone(session) => return Err(first.left(error, context)),
    };
    let service = context.service().cloned();
    let is_good = is_good(&end, context);
    if let Some(service) = &service {
        service.meter.count(match is_good == is_second {
            true => ServiceEvent::HedgeWon,
            false => ServiceEvent::HedgeLost,
        });
    }
    if is_good {
        if let Some(service) = service {
            let mut other = other;
            trace::lost(other.noted.take(), context);
            tokio::spawn(other.lose(service, backends.clone()));
        }
        return Ok(end);
    }
    // The other one is what is left of the request.
    if let (Some(service), Some(choice), Some(permit)) = (
        service,
        context.attempt.choice.take(),
        context.attempt.permit.take(),
    ) {
        observe(&end, &service, &choice, &permit);
    }
    note(&end, context);
    other.alone(session, context).await
}

impl Runner {
    fn new(
        backends: &Arc<Backends>,
        peer: Box<HttpPeer>,
        question: Question,
        choice: Choice,
        permit: Permit,
        noted: Option<trace::Attempt>,
    ) -> Self {
        let backends = backends.clone();
        let exchange = async move {
            let end = backends.ask(peer, question, Some(&permit)).await;
            (permit, end)
        };
        Self {
            exchange: Box::pin(exchange),
            choice,
            noted,
        }
    }

    /// Becomes the request's attempt.
    fn ended(self, (permit, end): (Permit, End), context: &mut Context) -> End {
        context.attempt.choice = Some(self.choice);
        context.attempt.permit = Some(permit);
        trace::resume(self.noted, context);
        end
    }

    async fn alone(mut self, session: &mut Session, context: &mut Context) -> Result<End> {
        tokio::select! {
            biased;
            end = &mut self.exchange => Ok(self.ended(end, context)),
            error = gone(session) => Err(self.left(error, context)),
        }
    }

    /// The client went away; the log says from whom.
    fn left(self, error: Box<Error>, context: &mut Context) -> Box<Error> {
        context.attempt.choice = Some(self.choice);
        trace::resume(self.noted, context);
        error
    }

    /// Nobody waits for it any more; but what it says of its backend counts, and its connection is kept
    /// if the answer is short.
    async fn lose(self, service: Arc<Service>, backends: Arc<Backends>) {
        let rest = async {
            let (permit, end) = self.exchange.await;
            observe(&end, &service, &self.choice, &permit);
            let Ok(mut answer) = end else { return };
            let mut size = 0;
            while let Ok(Some(part)) = answer.session.read_response_body().await {
                size += part.len();
                if size > MOST_UNREAD {
                    return;
                }
            }
            backends.keep(answer).await;
        };
        let is_over = tokio::time::timeout(LONGEST, rest).await.is_ok();
        log::debug!(
            "an attempt lost its race: service={} over={is_over}",
            service.name
        );
    }
}

/// The request's first attempt.
fn first(session: &mut Session, backends: &Arc<Backends>, context: &mut Context) -> Result<Runner> {
    let sent = session.req_header();
    let peer = attempt::next(sent, context)?;
    let (Some(choice), Some(permit)) =
        (context.attempt.choice.take(), context.attempt.permit.take())
    else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    let header = forward::copy(sent);
    mirror::begin(sent, &header, context);
    mirror::passed(None, true, backends, context);
    let question = question(sent, header, &choice, context)?;
    let noted = trace::take(context);
    Ok(Runner::new(backends, peer, question, choice, permit, noted))
}

/// Another attempt, at another backend if there is one; `None` if it may not be.
fn second(session: &Session, backends: &Arc<Backends>, context: &mut Context) -> Option<Runner> {
    let sent = session.req_header();
    let policies = &context.route()?.policies;
    let timeouts = policies.timeouts;
    let service = context.service()?;
    let left = attempt::time_left(context).unwrap_or(Duration::MAX);
    let key = service.hash_key();
    let key = key.and_then(|key| affinity::of(key, sent, context));
    let now = Instant::now();
    let choice = service
        .choose(context.attempt.tried, key.as_deref(), now)
        .ok()?;
    let mut peer = choice
        .endpoint
        .peer(&timeouts, timeouts.connect.min(left))?;
    attempt::introduce(&mut peer, &choice, context);
    let permit = service.admit_hedge(policies.retry.as_ref()?, now)?;
    if !service.may_connect(&permit) {
        return None;
    }
    context.attempt.tried.insert(&choice);
    context.attempt.count += 1;
    context.note(Flag::Hedged);
    trace::attempt_begins(&choice.endpoint, now - context.arrived, context);
    let question = question(sent, forward::copy(sent), &choice, context);
    let noted = trace::take(context);
    Some(Runner::new(
        backends,
        peer,
        question.ok()?,
        choice,
        permit,
        noted,
    ))
}

/// What the chosen backend is asked. The request is there as a whole from now on.
fn question(
    sent: &RequestHeader,
    mut header: RequestHeader,
    choice: &Choice,
    context: &mut Context,
) -> Result<Question> {
    let Some(service) = context.service() else {
        return Err(Error::new_in(ErrorType::InternalError));
    };
    forward::prepare(sent, &mut header, (service, &choice.endpoint), context)?;
    context.attempt.complete.get_or_insert_with(Instant::now);
    Ok(Question {
        header,
        body: Vec::new(),
        first_byte: attempt::first_byte(context),
        until: attempt::deadline(context),
    })
}

/// Whether this end is one to pass on while another attempt goes on.
fn is_good(end: &End, context: &Context) -> bool {
    let Ok(answer) = end else { return false };
    let status = answer.header.status;
    let retry = context.route().and_then(|it| it.policies.retry.as_ref());
    !retry.is_some_and(|retry| retry.covers(Failure::Status(status), true, 0))
}

/// Notes how an attempt went that is not the request's any more.
fn observe(end: &End, service: &Service, choice: &Choice, permit: &Permit) {
    service.exchanged(&choice.endpoint, end.as_ref());
    let (outcome, took) = match end {
        Ok(answer) => (Outcome::of(answer.header.status), Some(answer.took)),
        Err(failed) if is_nobodys_fault(failed) => return,
        Err(_) => (Outcome::Failure, None),
    };
    service.observe(choice, outcome, (took, permit.is_probe()), Instant::now());
    permit.settle();
}

/// Notes the same for its span.
fn note(end: &End, context: &mut Context) {
    match end {
        Ok(answer) => trace::raced(answer, context),
        Err(failed) => trace::failed(failed.error(), context),
    }
}

/// Whether the backend just closed a connection that it had kept.
fn is_nobodys_fault(failed: &Failed) -> bool {
    match failed {
        Failed::Connecting(_) => false,
        Failed::Asking { error, is_reused } => {
            *is_reused && matches!(error.retry, RetryType::ReusedOnly)
        }
    }
}

/// What becomes of the request: the answer that is passed on, or `None` for another attempt.
///
/// # Errors
/// If there is to be neither.
fn judge(end: End, session: &Session, context: &mut Context) -> Result<Option<Answer>> {
    note(&end, context);
    attempt::exchanged(end.as_ref(), context);
    let error = match end {
        Ok(answer) => {
            attempt::raced(&answer, context);
            let status = answer.header.status;
            match repeat::instead_of(session, status, context) {
                None => return Ok(Some(answer)),
                Some(error) => error,
            }
        }
        Err(Failed::Connecting(mut error)) => {
            error.set_retry(repeat::after_connect_failure(context));
            error
        }
        Err(Failed::Asking {
            mut error,
            is_reused,
        }) => {
            repeat::after_failure(session, &mut error, is_reused, context);
            error
        }
    };
    context.attempt.is_repeated = false;
    if !error.retry() {
        return Err(error);
    }
    context.note(Flag::Retried);
    attempt::ended(context);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn is_simple(method: Method, fields: &[(&'static str, &'static str)]) -> bool {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        super::is_simple(&request)
    }

    #[test]
    fn only_what_asks_for_an_answer_alone_is_sent_twice() {
        assert!(is_simple(Method::GET, &[]));
        assert!(is_simple(Method::DELETE, &[("connection", "Keep-Alive")]));
        assert!(!is_simple(Method::POST, &[]));
        for (name, value) in [
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("connection", "x-hop"),
            ("connection", "close, x-hop"),
        ] {
            assert!(!is_simple(Method::GET, &[(name, value)]), "{name}: {value}");
        }
    }
}
