//! The operators' address: what comes in, who may ask it, and what answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::task::JoinError;

use super::answer::{Answer, Body};
use super::backends;
use super::cache;
use super::certificates;
use super::commands::{self, Commands};
use super::config;
use super::consumers;
use super::dashboard;
use super::endpoints;
use super::explain;
use super::in_force::{Configured, InForce};
use super::limit_store;
use super::limits;
use super::log_level;
use super::niceness::{give_way, rest};
use super::openapi;
use super::operations::{Ask, Unknown, find};
use super::readiness::{Readiness, Unready};
use super::recent;
use super::routes;
use super::services;
use super::status::{Report, Status};
use super::traffic::{self, Traffic};
use crate::proxy::Pressure;
use crate::snapshot::Store;
use crate::telemetry::{Exposed, Format, ProcessLog, RecentRequests};

/// The longest body that is read.
const LONGEST_BODY: usize = 64 * 1024;
/// The longest piece of a body that is sent at once, in bytes.
const LONGEST_PIECE: usize = 256 * 1024;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a connection may rest between requests, in seconds.
const KEEP_ALIVE: u64 = 60;

/// What answers on the operators' address.
#[derive(Debug)]
pub struct Api {
    /// Whether traffic should come.
    pub readiness: Readiness,
    /// What is known.
    pub status: Arc<Status>,
    /// Where the token is.
    pub snapshots: Arc<Store>,
    /// What the configuration says.
    pub in_force: Arc<InForce>,
    /// What rate limits have counted.
    pub limits: Arc<crate::limits::Store>,
    /// How much presses.
    pub pressure: Arc<Pressure>,
    /// What requests came.
    pub traffic: Arc<Traffic>,
    /// The requests that are kept.
    pub recent: Arc<RecentRequests>,
    /// What the process says about itself.
    pub process_log: Arc<ProcessLog>,
    /// What may be asked.
    pub commands: Commands,
    /// Whether only this machine reaches the address.
    pub is_loopback: bool,
}

#[async_trait]
impl HttpServerApp for Api {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        give_way();
        if !session.read_request().await.ok()? {
            return None;
        }
        session.set_keepalive((!*shutdown.borrow()).then_some(KEEP_ALIVE));
        let body = read_body(&mut session).await;
        let answer = self.answer(session.req_header(), &body).await;
        let is_head = session.req_header().method == Method::HEAD;
        let (response, body) = answer.into_parts().ok()?;
        let response = Box::new(response);
        session.write_response_header(response).await.ok()?;
        match body {
            _ if is_head => {}
            Body::Whole(body) => send(&mut session, body).await.ok()?,
            Body::Events(subscription) => {
                let sent = subscription.send(&mut session, shutdown.clone());
                sent.await.ok()?;
                return None;
            }
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

impl Api {
    async fn answer(&self, request: &RequestHeader, body: &[u8]) -> Answer {
        if let Some(file) = dashboard::file(&request.method, request.uri.path()) {
            return file;
        }
        let operation = match find(&request.method, request.uri.path()) {
            Ok(operation) => operation,
            Err(unknown) => return refused(&unknown),
        };
        let snapshot = self.snapshots.load();
        let token = snapshot.settings.admin_token.as_deref();
        if let Err(refusal) = operation
            .access
            .check(&request.headers, token, self.is_loopback)
        {
            return refusal;
        }
        let query = request.uri.query().unwrap_or_default();
        match operation.ask {
            Ask::Health => Answer::text(StatusCode::OK, "ok"),
            Ask::Startup if self.readiness.has_started().await => {
                Answer::text(StatusCode::OK, "started")
            }
            Ask::Startup => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Ask::Readiness => self.is_ready().await,
            Ask::Document => Answer::json(StatusCode::OK, &openapi::document()),
            Ask::Status => self.status(),
            Ask::Metrics => self.metrics(&request.headers).await,
            Ask::Traffic => self.traffic(query),
            Ask::Events => match self.traffic.follow() {
                Some(subscription) => Answer::events(subscription),
                None => Answer::text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "as many follow the events as may",
                ),
            },
            Ask::Config => self.about(|it, status| config::show(&it, &status)).await,
            Ask::Routes => self.about(|it, _| routes::show(&it)).await,
            Ask::Explain => explain::answer(&self.in_force.load_full(), query).await,
            Ask::Consumers => consumers::show(&self.in_force.load_full(), &self.limits).await,
            Ask::Cache => cache::show(&snapshot),
            Ask::Certificates => Answer::json(StatusCode::OK, &certificates::list(&snapshot)),
            Ask::Limits => limits::answer(&snapshot, &self.limits, query, false).await,
            Ask::ResetLimit => limits::answer(&snapshot, &self.limits, query, true).await,
            Ask::Services => backends::list(&snapshot),
            Ask::Drain => backends::drain(&snapshot, query),
            Ask::Enable => backends::enable(&snapshot, query),
            Ask::Circuit => backends::force(&snapshot, query),
            Ask::Errors => recent::errors(&self.recent, query),
            Ask::Slow => recent::slow(&self.recent, query),
            Ask::LogLevel => log_level::show(&self.process_log),
            Ask::SetLogLevel => log_level::set(&self.process_log, query),
            Ask::Diff => commands::answer(self.commands.compare().await),
            Ask::Reload => commands::answer(self.commands.reload().await),
            Ask::Purge => cache::purge(snapshot.cache, body).await,
        }
    }

    async fn is_ready(&self) -> Answer {
        let unready = |why: &str| Answer::text(StatusCode::SERVICE_UNAVAILABLE, why);
        match self.readiness.check().await {
            Err(Unready::Starting) => unready("starting"),
            Err(Unready::Draining) => unready("draining"),
            Ok(()) => match self.snapshots.load().unready(Instant::now()) {
                reasons if reasons.is_empty() => Answer::text(StatusCode::OK, "ready"),
                reasons => unready(&reasons.join("\n")),
            },
        }
    }

    fn status(&self) -> Answer {
        let mut report = self.status.report();
        report.overload = self.pressure.level() as u8;
        let snapshot = self.snapshots.load();
        report.impaired = services::impaired(&snapshot, Instant::now());
        report.limit_store = limit_store::impaired(&snapshot);
        report.certificates = certificates::list(&snapshot);
        Answer::json(StatusCode::OK, &report)
    }

    fn traffic(&self, query: &str) -> Answer {
        match traffic::Question::read(query) {
            Ok(question) => Answer::json(StatusCode::OK, &self.traffic.report(&question)),
            Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, &wrong),
        }
    }

    /// What there is to say of the configuration in force, which may take long where that is large.
    async fn about(
        &self,
        say: impl FnOnce(Arc<Configured>, Report) -> Answer + Send + 'static,
    ) -> Answer {
        let (in_force, status) = (self.in_force.load_full(), self.status.report());
        let say = move || {
            give_way();
            say(in_force, status)
        };
        let said = tokio::task::spawn_blocking(say).await;
        said.unwrap_or_else(|error| failed(&error))
    }

    /// What is counted, written beside what else is asked for here.
    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let accept = headers.get(header::ACCEPT);
        let format = Format::wanted(accept.and_then(|accept| accept.to_str().ok()));
        let (snapshot, status) = (self.snapshots.load(), self.status.clone());
        let pressure = self.pressure.clone();
        let write = move || {
            give_way();
            status.metrics.page(format, rest, |page| {
                pressure.expose(page);
                let now = Instant::now();
                services::expose(&snapshot, now, page);
                endpoints::expose(&snapshot, now, page);
                limit_store::expose(&snapshot, page);
                certificates::expose(&snapshot, page);
                if let Some(cache) = snapshot.cache {
                    cache::expose(cache, page);
                }
            })
        };
        let kind = HeaderValue::from_static(format.content_type());
        match tokio::task::spawn_blocking(write).await {
            Ok(text) => Answer::of(StatusCode::OK, kind, text),
            Err(error) => failed(&error),
        }
    }
}

/// The answer when the work on it has ended before its time.
fn failed(error: &JoinError) -> Answer {
    Answer::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

/// Sends a body, a long one in pieces with pauses in between: the kernel copies all that it is given at once.
async fn send(session: &mut ServerSession, mut body: Bytes) -> pingora::Result<()> {
    while body.len() > LONGEST_PIECE {
        let piece = body.split_to(LONGEST_PIECE);
        session.write_response_body(piece, false).await?;
        tokio::time::sleep(PAUSE).await;
    }
    session.write_response_body(body, true).await
}

/// The answer to what can't be asked.
fn refused(unknown: &Unknown) -> Answer {
    match unknown {
        Unknown::Path(paths) => {
            let text = format!("here are {}", paths.join(", "));
            Answer::text(StatusCode::NOT_FOUND, &text)
        }
        Unknown::Method(methods) => {
            let methods = methods.join(", ");
            let answer = Answer::text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods}"));
            match HeaderValue::try_from(methods) {
                Ok(methods) => answer.with(header::ALLOW, methods),
                Err(_) => answer,
            }
        }
    }
}

/// What was sent, as far as it is no longer than anything can be that is asked for.
async fn read_body(session: &mut ServerSession) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() <= LONGEST_BODY
        && let Ok(Some(part)) = session.read_request_body().await
    {
        body.extend_from_slice(&part);
    }
    body
}
