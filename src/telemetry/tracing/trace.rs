//! What happened to a request whose spans are exported: plain facts, owned.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::{Method, Version};

use super::id::{SpanId, TraceId};

/// One request, from its arrival to its end. Times are counted from the arrival.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the names are those of the access log's fields"
)]
pub struct Trace {
    pub trace: TraceId,
    /// The span of the request as a whole.
    pub span: SpanId,
    /// The span that it came from.
    pub parent: Option<SpanId>,
    /// Whether this was decided when it came.
    pub is_sampled: bool,
    pub arrived: SystemTime,
    pub took: Duration,
    pub method: Method,
    pub is_tls: bool,
    /// The `Host` field.
    pub host: Option<Box<str>>,
    pub path: Box<str>,
    pub version: Version,
    pub route: Option<Box<str>>,
    pub service: Option<Box<str>>,
    pub consumer: Option<Box<str>>,
    pub client: Option<IpAddr>,
    pub user_agent: Option<Box<str>>,
    pub id: Box<str>,
    /// 0 if it was not answered.
    pub status: u16,
    /// Why it failed, if it did: a word of the access log, or its status.
    pub failure: Option<Box<str>>,
    pub flags: Vec<&'static str>,
    pub phases: Vec<PhaseSpan>,
    pub attempts: Vec<Attempt>,
}

/// A part of the pipeline that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The rate limits decide.
    RateLimit,
    /// It waits for a rate limit, within that.
    Queue,
    /// It is found out who comes.
    Authenticate,
}

/// A phase as it went.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PhaseSpan {
    pub phase: Phase,
    pub span: SpanId,
    pub begun: Duration,
    pub ended: Duration,
}

/// A request to a backend.
#[derive(Debug)]
pub struct Attempt {
    /// Its span, which the backend was told.
    pub span: SpanId,
    /// Which it is, counted from 1.
    pub number: u32,
    /// When it began.
    pub begun: Duration,
    /// When a connection was there.
    pub connected: Option<Duration>,
    /// Whether that had been there before.
    pub is_reused: bool,
    /// When it was over.
    pub ended: Duration,
    /// What was answered.
    pub status: Option<u16>,
    /// Why there was no answer, or none that was complete: a word of the access log.
    pub failure: Option<&'static str>,
    /// `http://host:port`.
    pub endpoint: Box<str>,
    /// What was asked for there, without the query.
    pub path: Box<str>,
}

impl Phase {
    /// The name of its span.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Queue => "queue",
            Self::Authenticate => "authenticate",
        }
    }
}

#[cfg(test)]
impl Trace {
    /// `GET /orders/7` for `shop.example:8443`, answered with 200 by the second attempt.
    pub(super) fn example() -> Self {
        let millis = Duration::from_millis;
        let attempt = |number: u32, failure| Attempt {
            span: SpanId::random(),
            number,
            begun: millis(10 * u64::from(number)),
            connected: Some(millis(10 * u64::from(number) + 2)),
            is_reused: number > 1,
            ended: millis(10 * u64::from(number) + 5),
            status: failure,
            failure: None,
            endpoint: "https://10.0.0.1:9001".into(),
            path: "/v2/orders/7".into(),
        };
        let phase = |phase, begun, ended| PhaseSpan {
            phase,
            span: SpanId::random(),
            begun: millis(begun),
            ended: millis(ended),
        };
        Self {
            trace: TraceId::random(),
            span: SpanId::random(),
            parent: Some(SpanId::random()),
            is_sampled: true,
            arrived: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            took: millis(30),
            method: Method::GET,
            is_tls: true,
            host: Some("shop.example:8443".into()),
            path: "/orders/7".into(),
            version: Version::HTTP_11,
            route: Some("/orders/{id}".into()),
            service: Some("orders".into()),
            consumer: Some("acme".into()),
            client: Some(IpAddr::from([192, 0, 2, 7])),
            user_agent: Some("curl".into()),
            id: "0197".into(),
            status: 200,
            failure: None,
            flags: vec!["queued", "retried"],
            phases: vec![
                phase(Phase::RateLimit, 1, 8),
                phase(Phase::Queue, 2, 8),
                phase(Phase::Authenticate, 8, 9),
            ],
            attempts: vec![attempt(1, Some(503)), attempt(2, Some(200))],
        }
    }
}
