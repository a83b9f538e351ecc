//! How each of its endpoints stands now, for operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Service;
use crate::upstream::balance::Law;
use crate::upstream::endpoint::Endpoint;

/// How an endpoint stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Whether it gets requests.
    pub state: EndpointState,
    /// Requests under way to it.
    pub in_flight: u32,
    /// How long its answers take, where requests are shared by that and some have come.
    pub latency: Option<Duration>,
}

/// Whether an endpoint gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// It does.
    Healthy,
    /// Its checks say that it is down.
    Unhealthy,
    /// It failed requests, and gets none for a while.
    Ejected,
}

impl EndpointState {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Healthy, "healthy"),
        (Self::Unhealthy, "unhealthy"),
        (Self::Ejected, "ejected"),
    ];
}

impl Service {
    /// How each of its endpoints stands.
    pub fn standings(&self, now: Instant) -> Vec<Standing> {
        let now = self.record.at(now);
        let is_checked = self.rules.health_check.is_some();
        let standing = |endpoint: Arc<Endpoint>| Standing {
            state: match &endpoint.health {
                health if is_checked && health.is_down() => EndpointState::Unhealthy,
                health if health.is_ejected(now) => EndpointState::Ejected,
                _ => EndpointState::Healthy,
            },
            in_flight: endpoint.load.in_flight(),
            latency: match self.rules.law {
                Law::PeakEwma => endpoint.load.latency(now),
                _ => None,
            },
            endpoint,
        };
        self.endpoints().into_iter().map(standing).collect()
    }
}
