//! How the services are: which circuits are not closed, and which endpoints get no requests.

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::telemetry::Exposition;
use crate::upstream::{CircuitMode, CircuitState, Endpoint};

/// A service that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Impaired {
    /// Its name.
    pub service: String,
    /// `closed`, `half_open` or `open`.
    pub circuit: String,
    /// `automatic`, or `forced_open` or `forced_closed` by operators.
    #[serde(default)]
    pub circuit_is: String,
    /// Endpoints that get no requests for now.
    pub ejected: Vec<String>,
    /// Endpoints of which checks say that they are down.
    pub down: Vec<String>,
    /// Endpoints that operators have taken out of service.
    #[serde(default)]
    pub drained: Vec<String>,
}

/// The services that are not as they should be.
pub(super) fn impaired(snapshot: &Snapshot, now: Instant) -> Vec<Impaired> {
    let services = snapshot.services().iter().map(|service| Impaired {
        service: service.name.to_string(),
        circuit: word(service.circuit(now)).to_owned(),
        circuit_is: service.circuit_mode().word().to_owned(),
        ejected: names(&service.ejected_endpoints(now)),
        down: names(&service.endpoints_down()),
        drained: names(&service.drained_endpoints()),
    });
    services.filter(Impaired::is_so).collect()
}

impl Impaired {
    fn is_so(&self) -> bool {
        self.circuit != word(CircuitState::Closed)
            || self.circuit_is != CircuitMode::Automatic.word()
            || [&self.ejected, &self.down, &self.drained]
                .iter()
                .any(|endpoints| !endpoints.is_empty())
    }
}

/// The same as metrics, of all services.
pub(super) fn expose(snapshot: &Snapshot, now: Instant, page: &mut Exposition) {
    let services = snapshot.services().iter();
    let services: Vec<_> = services.filter(|it| it.meter.is_own()).collect();
    let mut circuits = page.gauge(
        "tollgate_circuit_breaker_state",
        "Where the circuit stands: 0 closed, 1 half open, 2 open.",
    );
    for service in &services {
        let state = match service.circuit(now) {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        circuits.sample(&[("service", &service.name)], state);
    }
    let mut forced = page.gauge(
        "tollgate_circuit_breaker_forced",
        "Whether operators say where the circuit stands, and not its rule.",
    );
    for service in &services {
        let is_forced = service.circuit_mode() != CircuitMode::Automatic;
        forced.sample(&[("service", &service.name)], u64::from(is_forced));
    }
    let mut ejected = page.gauge(
        "tollgate_endpoints_ejected",
        "Endpoints that get no requests because they failed.",
    );
    for service in &services {
        let count = service.ejected_endpoints(now).len() as u64;
        ejected.sample(&[("service", &service.name)], count);
    }
    let mut down = page.gauge(
        "tollgate_endpoints_down",
        "Endpoints that get no requests because their checks failed.",
    );
    for service in &services {
        let count = service.endpoints_down().len() as u64;
        down.sample(&[("service", &service.name)], count);
    }
}

fn names(endpoints: &[Arc<Endpoint>]) -> Vec<String> {
    let names = endpoints.iter().map(|it| it.as_str().to_owned());
    names.collect()
}

/// Where a circuit stands, in a word.
pub(super) fn word(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "closed",
        CircuitState::HalfOpen => "half_open",
        CircuitState::Open => "open",
    }
}
