//! How backends are asked whether they are well.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::Spanned;
use super::units::Period;

/// A question that is put to every target again and again. One that does not answer well gets no
/// requests.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// How it is asked: `http` (the default), `tcp` (a connection is enough; with `https` a TLS
    /// handshake), or `grpc` (the health checking protocol, `grpc.health.v1`, over HTTP/2).
    pub protocol: HealthProtocol,
    /// The path to GET, as the backend knows it. Default `/`.
    pub path: Option<Spanned<String>>,
    /// The statuses that mean well. Default: 200 to 299.
    pub statuses: Vec<Spanned<u16>>,
    /// The gRPC service to ask for. Default: the server as a whole.
    pub service: Option<Spanned<String>>,
    /// The time between two checks of a target, a seventh more or less. Default `5s`.
    pub interval: Spanned<Period>,
    /// How long a check may take, at most the interval. Default `1s`.
    pub timeout: Option<Spanned<Period>>,
    /// Good checks in a row after which a target that is down is up. Default 2.
    pub healthy_after: Spanned<u32>,
    /// Bad checks in a row after which a target is down. Default 3.
    pub unhealthy_after: Spanned<u32>,
}

/// How a backend is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthProtocol {
    /// `GET`, by the status.
    #[default]
    Http,
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            protocol: HealthProtocol::Http,
            path: None,
            statuses: Vec::new(),
            service: None,
            interval: Period::seconds(5).into(),
            timeout: None,
            healthy_after: 2.into(),
            unhealthy_after: 3.into(),
        }
    }
}
