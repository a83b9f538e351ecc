//! What clients get instead of an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::Respond;
use super::shape::Dictionary;
use super::source::Spanned;

/// What clients get when a service can't answer: an answer of the gateway's own, another service's, or the one
/// that was kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// When: `circuit_open`, `overloaded`, `no_endpoint`, `connect_failure`, `reset`, `timeout`, and
    /// statuses from 500 to 599. Default: all of these words, and 502, 503, 504.
    pub on: Vec<Spanned<FallbackOn>>,
    /// The service that is asked instead. Either this or an answer.
    pub service: Option<Spanned<String>>,
    /// Whether the answer is the kept one, however stale, unless `cache.stale_if_error` says for how long; if none
    /// is kept, the failure is passed on. Needs `cache`. Default `false`.
    pub stale_cache: Spanned<bool>,
    /// The status of the answer. Default 503.
    pub status: Option<Spanned<u16>>,
    /// Header fields of the answer.
    pub headers: Dictionary<Spanned<String>>,
    /// The body of the answer; `text/plain` unless `headers` say otherwise.
    pub body: Option<Spanned<String>>,
}

/// When a fallback applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackOn {
    /// The circuit is open.
    CircuitOpen,
    /// As many requests are under way as the service bears.
    Overloaded,
    /// No backend has a known address.
    NoEndpoint,
    /// No backend could be connected to.
    ConnectFailure,
    /// The connection broke before the answer, or that was no HTTP.
    Reset,
    /// No answer in time.
    Timeout,
    /// This status.
    Status(u16),
}

impl FallbackOn {
    /// All that have a name.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("circuit_open", Self::CircuitOpen),
        ("overloaded", Self::Overloaded),
        ("no_endpoint", Self::NoEndpoint),
        ("connect_failure", Self::ConnectFailure),
        ("reset", Self::Reset),
        ("timeout", Self::Timeout),
    ];
}

impl Default for Fallback {
    fn default() -> Self {
        let named = FallbackOn::NAMED.map(|(_, on)| on);
        let statuses = [502, 503, 504].map(FallbackOn::Status);
        Self {
            on: named
                .into_iter()
                .chain(statuses)
                .map(Spanned::from)
                .collect(),
            service: None,
            stale_cache: false.into(),
            status: None,
            headers: Dictionary::new(),
            body: None,
        }
    }
}

impl Fallback {
    /// The answer, as a route's own would be written.
    pub fn respond(&self) -> Respond {
        Respond {
            status: self.status.clone().unwrap_or_else(|| 503.into()),
            headers: self.headers.clone(),
            body: self
                .body
                .as_ref()
                .map(|it| it.value.clone())
                .unwrap_or_default(),
        }
    }
}
