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
    /// Its share of the requests, compared with those of the others.
    pub weight: u32,
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
    /// Operators have taken it out of service.
    Drained,
}

impl EndpointState {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Healthy, "healthy"),
        (Self::Unhealthy, "unhealthy"),
        (Self::Ejected, "ejected"),
        (Self::Drained, "drained"),
    ];

    /// The word of this one.
    pub fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl Service {
    /// How each of its endpoints stands.
    pub fn standings(&self, now: Instant) -> Vec<Standing> {
        let now = self.record.at(now);
        let is_checked = self.rules.health_check.is_some();
        let drained = self.record.drained.names();
        let standing = |(endpoint, weight): (Arc<Endpoint>, u32)| Standing {
            weight,
            state: match &endpoint.health {
                _ if drained.contains(endpoint.as_str()) => EndpointState::Drained,
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
        self.members().into_iter().map(standing).collect()
    }
}
