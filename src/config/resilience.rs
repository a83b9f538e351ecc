//! What is done about backends that fail.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::Toggle;
use super::source::Spanned;
use super::units::{Period, Share};

/// Which failed attempts are repeated, at another backend where there is one.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, 1 to 10, the first one included. Default 3.
    pub attempts: Spanned<u32>,
    /// What is repeated: `connect_failure` (whatever the method, since nothing was sent), `reset`
    /// (the connection broke before the answer, or that was no HTTP), `timeout` (no answer in time), and statuses from 500
    /// to 599. Default `[connect_failure, reset, 502, 503, 504]`.
    pub on: Vec<Spanned<RetryOn>>,
    /// Repetitions as a share of the service's requests of the last ten seconds; 3 a second are
    /// always allowed. Default `20%`.
    pub budget: Share,
    /// The longest pause before the second attempt; it doubles with each further one, up to `250ms`,
    /// and anything up to it is waited. Default `25ms`.
    pub backoff: Spanned<Period>,
    /// How long one attempt may take to the first byte, if that is shorter than `first_byte`.
    pub per_try_timeout: Option<Spanned<Period>>,
    /// Whether methods are repeated that are not idempotent (RFC 9110 §9.2.2), such as `POST`. Only
    /// where the backends bear to be asked twice. Default `false`.
    pub all_methods: bool,
    /// After which time a request without a body, whose method is idempotent, is sent to a second
    /// backend while the first goes on; the first answer is the client's. A time, or `p50` to `p99`: when
    /// so many of a hundred answers have come. Default `off`.
    pub hedge_after: Spanned<Toggle<HedgeAfter>>,
    /// How many requests get a second attempt in this way, as a share of the service's requests of the
    /// last ten seconds. Default `2%`.
    pub hedge_budget: Spanned<Share>,
}

/// When a second attempt begins while the first goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// When so many percent of the service's answers have come.
    Percentile(u8),
    /// After this time.
    Fixed(Duration),
}

/// A failure that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection.
    ConnectFailure,
    /// The connection broke before the answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// This status.
    Status(u16),
}

/// When a backend gets no requests for a while, because of how it answered others.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Failures in a row: no connection, no answer, or 502, 503, 504. Default 5. Beside it, more than
    /// half of at least 20 answers in ten seconds, and more than elsewhere in the service.
    pub consecutive_failures: Spanned<u32>,
    /// For how long, the first time; each further time as much longer, up to `5m`. Default `30s`.
    pub ejection: Spanned<Period>,
    /// The share of the backends that may be ejected at once; one always may. Default `50%`.
    pub max_ejected: Share,
}

/// When a service that fails gets no requests at all for a while, and how many at once it ever gets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// The share of attempts of the last ten seconds that fail – no connection, no answer, or 502,
    /// 503, 504 – from which on the circuit opens. Default `50%`.
    pub failure_rate: Spanned<Share>,
    /// From which time to the first byte on an answer is slow. Default: none is.
    pub slow_call: Option<Spanned<Period>>,
    /// The share of slow answers from which on the circuit opens. Default `80%`.
    pub slow_call_rate: Spanned<Share>,
    /// Attempts in the last ten seconds below which it never opens. Default 20.
    pub minimum_requests: Spanned<u32>,
    /// For how long it is open at first; twice as long each further time, up to `1m`. Default `5s`.
    pub open_for: Spanned<Period>,
    /// Requests that are let through then; if they all go well the circuit closes. Default 3.
    pub half_open_requests: Spanned<u32>,
    /// Requests under way at most. Default 1000.
    pub max_in_flight: Spanned<u32>,
    /// Whether fewer are let through while answers take longer than they did: `gradient`. Default:
    /// `max_in_flight` alone rules.
    pub adaptive: Option<Adaptive>,
    /// Requests waiting for a connection at most. Default: as many as are under way.
    pub max_pending: Option<Spanned<u32>>,
    /// Connections in use to one target at most. Default: as many as there are requests.
    pub max_connections: Option<Spanned<u32>>,
}

/// How the number of requests under way follows what the service bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adaptive {
    /// By how much longer answers take than they did (Gradient2 of Netflix's concurrency-limits).
    Gradient,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            failure_rate: Share(50).into(),
            slow_call: None,
            slow_call_rate: Share(80).into(),
            minimum_requests: 20.into(),
            open_for: Period::seconds(5).into(),
            half_open_requests: 3.into(),
            max_in_flight: 1000.into(),
            adaptive: None,
            max_pending: None,
            max_connections: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        let on = [
            RetryOn::ConnectFailure,
            RetryOn::Reset,
            RetryOn::Status(502),
            RetryOn::Status(503),
            RetryOn::Status(504),
        ];
        Self {
            attempts: 3.into(),
            on: on.map(Spanned::from).into(),
            budget: Share(20),
            backoff: Period::millis(25).into(),
            per_try_timeout: None,
            all_methods: false,
            hedge_after: Toggle::Off.into(),
            hedge_budget: Share(2).into(),
        }
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5.into(),
            ejection: Period::seconds(30).into(),
            max_ejected: Share(50),
        }
    }
}
