//! Asks another service whether a request may come in, over connections that are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use pingora::RetryType;
use pingora::http::RequestHeader;

use super::context::Context;
use super::forward::{
    ORIGIN_FIELDS, X_REQUEST_ID, certificate, is_of_certificate, set_origin_fields,
};
use super::reply::Reply;
use super::trace;
use crate::auth::{CLIENT_CERT, Decider, Decision, Identity};
use crate::upstream::{
    Admission, Answer, Backends, Choice, Failed, NoChoice, Outcome, Permit, Question, Service,
    Timeouts, Tried,
};

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What says how the body of an answer is to be read.
const OF_BODY: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
];
/// Most fields that a question has beside those of the client.
const FIELDS_ADDED: usize = 8;
/// Larger bodies of refusals are not passed on, and their connections not kept.
const LARGEST_BODY: usize = 64 * 1024;
/// A connection that its other end has just closed, or an address without anybody, is no answer: so often
/// it is tried again.
const MOST_ATTEMPTS: usize = 3;

/// What became of the question.
#[derive(Debug)]
pub(super) enum Asked {
    /// The request may come in.
    Passed {
        /// Whom it comes from.
        identity: Arc<Identity>,
        /// What the client is told beside the answer.
        told: Vec<(HeaderName, HeaderValue)>,
    },
    /// It may not, and the client is answered so.
    Refused(Box<Reply>),
    /// Nobody decided.
    Failed,
}

/// Asks `decider` about a request.
pub(super) async fn ask(
    decider: &Decider,
    sent: &RequestHeader,
    backends: &Backends,
    context: &Context,
) -> Asked {
    let Some(service) = context.snapshot.decider(decider.number) else {
        return Asked::Failed;
    };
    let until = Instant::now() + decider.timeout;
    let decided = match question(decider, sent, context) {
        None => Err("the request can't be told".into()),
        Some(question) => decide(decider, service, question, until, backends).await,
    };
    match decided {
        Ok(asked) => {
            if decider.observe(false) {
                log::info!("requests are decided about again: by={}", service.name);
            }
            asked
        }
        Err(reason) => {
            if decider.observe(true) {
                let rest = match decider.is_open_on_failure {
                    true => "some come in unchecked",
                    false => "they are refused",
                };
                let name = &service.name;
                log::warn!("requests are not decided about, {rest}: by={name} reason={reason}");
            }
            Asked::Failed
        }
    }
}

async fn decide(
    decider: &Decider,
    service: &Service,
    question: RequestHeader,
    until: Instant,
    backends: &Backends,
) -> Result<Asked, String> {
    let mut answer = exchange(service, question, until, backends).await?;
    let status = answer.header.status;
    let decision = decider.judge(status, &answer.header.headers);
    let body = body(&mut answer, until).await;
    let of_body = match &decision {
        Decision::Refused(_) => of_body(&answer.header.headers),
        _ => Vec::new(),
    };
    // Of an answer that did not come as a whole, the rest may still be on the way.
    if body.is_some() {
        backends.keep(answer).await;
    }
    match decision {
        Decision::None(reason) => Err(format!("{reason}: {status}")),
        Decision::Passed { identity, told } => Ok(Asked::Passed { identity, told }),
        Decision::Refused(mut told) => {
            // Nothing has to be said to who is sent elsewhere.
            let body = body.filter(|body| !body.is_empty() || status.is_redirection());
            if body.is_some() {
                told.extend(of_body);
            }
            let reply = Reply::refused_elsewhere(status, told, body);
            Ok(Asked::Refused(reply.into()))
        }
    }
}

/// What is asked: a request like the client's without its body, of which only some headers are shown.
fn question(decider: &Decider, sent: &RequestHeader, context: &Context) -> Option<RequestHeader> {
    let mut question = http::Request::new(()).into_parts().0;
    question.uri = decider.target.clone().into();
    question.version = Version::HTTP_11;
    let headers = &mut question.headers;
    headers
        .try_reserve(decider.seen.len() + FIELDS_ADDED)
        .ok()?;
    let is_believed = |name: &HeaderName| context.is_from_trusted_proxy || !is_of_certificate(name);
    let copy = |names: &[HeaderName], headers: &mut HeaderMap| {
        for name in names.iter().filter(|name| is_believed(name)) {
            for value in sent.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    };
    copy(&decider.seen, headers);
    if context.is_from_trusted_proxy {
        copy(&ORIGIN_FIELDS, headers);
    } else if let Some(shown) = certificate(context)
        && decider.seen.contains(&CLIENT_CERT)
    {
        headers.insert(CLIENT_CERT, shown.clone());
    }
    set_origin_fields(headers, sent.headers.get(header::HOST), context);
    let method = match sent.method {
        Method::GET => HeaderValue::from_static("GET"),
        ref method => HeaderValue::from_str(method.as_str()).ok()?,
    };
    headers.insert(X_FORWARDED_METHOD, method);
    headers.insert(X_FORWARDED_URI, target(sent, context)?);
    headers.insert(X_REQUEST_ID, context.id.clone());
    trace::tell_decider(headers, context);
    Some(question.into())
}

/// The target as routes and backends see it: who decides by another spelling of the path could be led
/// astray.
fn target(sent: &RequestHeader, context: &Context) -> Option<HeaderValue> {
    let uri = &sent.uri;
    let (path, query) = (context.path(uri), uri.query());
    let mut target = String::with_capacity(path.len() + query.map_or(0, |it| it.len() + 1));
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    HeaderValue::from_maybe_shared(Bytes::from(target)).ok()
}

/// Why nobody can be asked.
fn why_none(reason: NoChoice) -> &'static str {
    match reason {
        NoChoice::Unresolved => "its name has no known address",
        NoChoice::Drained => "it is out of service for now",
        NoChoice::Full => "too many connections to it are in use",
    }
}

/// Sends the question and waits for the answer's header.
async fn exchange(
    service: &Service,
    question: RequestHeader,
    until: Instant,
    backends: &Backends,
) -> Result<Answer, String> {
    let begun = Instant::now();
    let permit = match service.admit(begun) {
        Admission::Granted(permit) => permit,
        Admission::Open(_) | Admission::ForcedOpen => return Err("its circuit is open".into()),
        Admission::Full => return Err("too many requests are under way to it".into()),
    };
    let mut attempt = 1;
    loop {
        let now = Instant::now();
        let choice = service
            .choose(Tried::default(), None, now)
            .map_err(|reason| why_none(reason).to_owned())?;
        let left = until.saturating_duration_since(now);
        let addresses = choice.endpoint.addresses().len();
        // Another address has a chance, too.
        let within = if addresses > attempt { left / 2 } else { left };
        let Some(peer) = choice.endpoint.peer(&patience(left), within) else {
            return Err("its name has no known address".into());
        };
        let mut header = question.clone();
        let host = choice.endpoint.host().clone();
        header
            .insert_header(header::HOST, host)
            .map_err(|error| error.to_string())?;
        let question = Question {
            header,
            body: Vec::new(),
            first_byte: None,
            until: Some(until),
        };
        let end = backends.ask(peer, question, Some(&permit)).await;
        service.exchanged(&choice.endpoint, end.as_ref());
        let failed = match end {
            Ok(answer) => {
                let outcome = Outcome::of(answer.header.status);
                settle(service, &choice, &permit, outcome, Some(answer.took));
                return Ok(answer);
            }
            Err(failed) => failed,
        };
        let is_worth_another = match &failed {
            Failed::Connecting(_) => {
                choice.endpoint.avoid_current_address();
                attempt < addresses
            }
            Failed::Asking { error, is_reused } => {
                *is_reused && matches!(error.retry, RetryType::ReusedOnly)
            }
        };
        if !is_worth_another || attempt == MOST_ATTEMPTS || Instant::now() >= until {
            settle(service, &choice, &permit, Outcome::Failure, None);
            return Err(failed.error().to_string());
        }
        attempt += 1;
    }
}

fn settle(
    service: &Service,
    choice: &Choice,
    permit: &Permit,
    outcome: Outcome,
    took: Option<Duration>,
) {
    service.observe(choice, outcome, (took, permit.is_probe()), Instant::now());
    permit.settle();
}

fn patience(left: Duration) -> Timeouts {
    Timeouts {
        connect: left,
        first_byte: Some(left),
        idle: Some(left),
        total: Some(left),
        websocket: None,
    }
}

fn of_body(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let fields = OF_BODY.iter();
    let fields = fields.filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    fields.collect()
}

/// The body, if it comes as a whole, in time, and is not too large.
async fn body(answer: &mut Answer, until: Instant) -> Option<Bytes> {
    let read = async {
        let mut body = Vec::new();
        while let Some(part) = answer.session.read_response_body().await.ok()? {
            body.extend_from_slice(&part);
            if body.len() > LARGEST_BODY {
                return None;
            }
        }
        Some(body.into())
    };
    tokio::time::timeout_at(until.into(), read).await.ok()?
}
