//! Copies of requests for a second service, whose answers nobody waits for or sees.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::context::Context;
use super::{affinity, forward};
use crate::telemetry::{Flag, ServiceEvent};
use crate::upstream::{
    Admission, Backends, Choice, Failed, Outcome, Permit, Question, Service, Timeouts, Tried,
};

/// Says that an answer would not be read.
const X_TOLLGATE_MIRROR: HeaderName = HeaderName::from_static("x-tollgate-mirror");
/// Requests with larger bodies are not copied: each byte is kept until the client has sent the last.
const LARGEST_BODY: usize = 64 * 1024;
/// How long an exchange may take, without a limit of its own.
const LONGEST: Duration = Duration::from_secs(60);

/// A copy of a request whose body is on its way.
pub(super) struct Copy {
    header: RequestHeader,
    body: Vec<Bytes>,
    size: usize,
    service: Arc<Service>,
    choice: Choice,
    /// Held until the exchange is over, so that the service's bound of requests under way holds.
    permit: Permit,
    timeouts: Timeouts,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy").finish_non_exhaustive()
    }
}

/// Begins a copy of a request if its route wants one. `request` is the framework's copy of what was
/// `sent`, before it is prepared for the first service.
pub(super) fn begin(sent: &RequestHeader, request: &RequestHeader, context: &mut Context) {
    if std::mem::replace(&mut context.is_copy_decided, true) {
        // Its body comes again from the start.
        if let Some(copy) = &mut context.copy {
            copy.body.clear();
            copy.size = 0;
        }
        return;
    }
    context.copy = copy(sent, request, context).map(Box::new);
}

fn copy(sent: &RequestHeader, request: &RequestHeader, context: &Context) -> Option<Copy> {
    let route = context.route()?;
    let mirror = route.forward()?.mirror.as_ref()?;
    let is_chosen = mirror.share >= 100 || fastrand::u8(..100) < mirror.share;
    if !is_chosen || sent.headers.contains_key(header::UPGRADE) {
        return None;
    }
    let service = mirror.service.clone();
    // A copy too many is not worth an error.
    let Admission::Granted(permit) = service.admit(context.arrived) else {
        return None;
    };
    let key = service.hash_key();
    let key = key.and_then(|key| affinity::of(key, sent, context));
    let choice = service
        .choose(Tried::default(), key.as_deref(), context.arrived)
        .ok()?;
    if !service.may_connect(&permit) {
        return None;
    }
    let mut header = request.clone();
    forward::prepare(sent, &mut header, (&service, &choice.endpoint), context).ok()?;
    header.remove_header(&header::EXPECT);
    let mark = HeaderValue::from_static("1");
    header.insert_header(X_TOLLGATE_MIRROR, mark).ok()?;
    Some(Copy {
        header,
        body: Vec::new(),
        size: 0,
        choice,
        permit,
        timeouts: route.policies.timeouts,
        service,
    })
}

/// A part of the request's body passed; after the last one the copy is sent.
pub(super) fn passed(
    part: Option<&Bytes>,
    is_end: bool,
    backends: &Arc<Backends>,
    context: &mut Context,
) {
    let Some(copy) = &mut context.copy else {
        return;
    };
    if let Some(part) = part {
        copy.size += part.len();
        copy.body.push(part.clone());
    }
    if copy.size > LARGEST_BODY {
        copy.service.meter.count(ServiceEvent::MirrorDropped);
        context.copy = None;
    } else if is_end && let Some(copy) = context.copy.take() {
        context.note(Flag::Mirrored);
        let backends = backends.clone();
        tokio::spawn(async move { copy.send(&backends).await });
    }
}

impl Copy {
    async fn send(self, backends: &Backends) {
        let Some(peer) = self
            .choice
            .endpoint
            .peer(&self.timeouts, self.timeouts.connect)
        else {
            return;
        };
        let Self {
            header,
            body,
            service,
            choice,
            permit,
            timeouts,
            ..
        } = self;
        let question = Question {
            header,
            body,
            first_byte: timeouts.first_byte,
            until: None,
        };
        let exchange = async {
            let end = backends.ask(peer, question, Some(&permit)).await;
            service.exchanged(&choice.endpoint, end.as_ref());
            let mut answer = end?;
            let seen = (Outcome::of(answer.header.status), Some(answer.took));
            while let Ok(Some(_)) = answer.session.read_response_body().await {}
            backends.keep(answer).await;
            Ok::<_, Failed>(seen)
        };
        let within = timeouts.total.unwrap_or(LONGEST);
        let mut result = ServiceEvent::MirrorFailed;
        let (outcome, took) = match tokio::time::timeout(within, exchange).await {
            Ok(Ok(seen)) => {
                result = ServiceEvent::MirrorAnswered;
                seen
            }
            Ok(Err(failed)) => {
                let error = failed.error();
                log::debug!("a copy was not answered: service={} {error}", service.name);
                (Outcome::Failure, None)
            }
            Err(_) => (Outcome::Failure, Some(within)),
        };
        service.observe(&choice, outcome, (took, permit.is_probe()), Instant::now());
        service.meter.count(result);
        permit.settle();
    }
}
