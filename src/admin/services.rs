//! How the services are: which circuits are not closed, and which endpoints are ejected.

use std::time::Instant;

use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::upstream::CircuitState;

/// A service that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impaired {
    /// Its name.
    pub service: String,
    /// `closed`, `half_open` or `open`.
    pub circuit: String,
    /// Endpoints that get no requests for now.
    pub ejected: Vec<String>,
}

/// The services that are not as they should be.
pub(super) fn impaired(snapshot: &Snapshot, now: Instant) -> Vec<Impaired> {
    let services = snapshot.services().iter().map(|service| Impaired {
        service: service.name.to_string(),
        circuit: word(service.circuit(now)).to_owned(),
        ejected: service
            .ejected_endpoints(now)
            .into_iter()
            .map(|endpoint| endpoint.as_str().to_owned())
            .collect(),
    });
    services
        .filter(|it| it.circuit != "closed" || !it.ejected.is_empty())
        .collect()
}

/// The same as metrics, of all services.
pub(super) fn metrics(snapshot: &Snapshot, now: Instant) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &["service"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let circuits = gauge(
        "tollgate_circuit_breaker_state",
        "Where the circuit stands: 0 closed, 1 half open, 2 open.",
    )?;
    let ejected = gauge(
        "tollgate_endpoints_ejected",
        "Endpoints that get no requests because they failed.",
    )?;
    for service in snapshot.services() {
        let state = match service.circuit(now) {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        circuits.with_label_values(&[&service.name]).set(state);
        let count = service.ejected_endpoints(now).len();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        ejected.with_label_values(&[&service.name]).set(count);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn word(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half_open",
        CircuitState::Open => "open",
    }
}
