//! How the services are: which circuits are not closed, and which endpoints get no requests.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Encoder, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::{Deserialize, Serialize};

use super::limit_store;
use crate::snapshot::Snapshot;
use crate::upstream::{CircuitState, Endpoint};

/// A service that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impaired {
    /// Its name.
    pub service: String,
    /// `closed`, `half_open` or `open`.
    pub circuit: String,
    /// Endpoints that get no requests for now.
    pub ejected: Vec<String>,
    /// Endpoints of which checks say that they are down.
    pub down: Vec<String>,
}

/// The services that are not as they should be.
pub(super) fn impaired(snapshot: &Snapshot, now: Instant) -> Vec<Impaired> {
    let services = snapshot.services().iter().map(|service| Impaired {
        service: service.name.to_string(),
        circuit: word(service.circuit(now)).to_owned(),
        ejected: names(&service.ejected_endpoints(now)),
        down: names(&service.endpoints_down()),
    });
    services
        .filter(|it| it.circuit != "closed" || !it.ejected.is_empty() || !it.down.is_empty())
        .collect()
}

/// The same as metrics, of all services, and how the store of limits is.
pub(super) fn metrics(
    snapshot: &Snapshot,
    level: u8,
    now: Instant,
) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &["service"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let overload = IntGauge::new(
        "tollgate_overload_level",
        "How much presses: 0 nothing, 1 low priority is shed, 2 all but high, 3 connections too.",
    )?;
    overload.set(level.into());
    registry.register(Box::new(overload))?;
    let circuits = gauge(
        "tollgate_circuit_breaker_state",
        "Where the circuit stands: 0 closed, 1 half open, 2 open.",
    )?;
    let ejected = gauge(
        "tollgate_endpoints_ejected",
        "Endpoints that get no requests because they failed.",
    )?;
    let down = gauge(
        "tollgate_endpoints_down",
        "Endpoints that get no requests because their checks failed.",
    )?;
    for service in snapshot.services() {
        let state = match service.circuit(now) {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        circuits.with_label_values(&[&service.name]).set(state);
        for (gauge, endpoints) in [
            (&ejected, service.ejected_endpoints(now)),
            (&down, service.endpoints_down()),
        ] {
            let count = i64::try_from(endpoints.len()).unwrap_or(i64::MAX);
            gauge.with_label_values(&[&service.name]).set(count);
        }
    }
    limit_store::register(snapshot, &registry)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn names(endpoints: &[Arc<Endpoint>]) -> Vec<String> {
    let names = endpoints.iter().map(|it| it.as_str().to_owned());
    names.collect()
}

fn word(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half_open",
        CircuitState::Open => "open",
    }
}
