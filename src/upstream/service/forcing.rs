//! Where its circuit stands, and what operators have it be.

use std::time::Instant;

use super::Service;
use crate::upstream::breaker::{CircuitMode, CircuitState};

impl Service {
    /// Where the circuit stands.
    pub fn circuit(&self, now: Instant) -> CircuitState {
        let circuit = &self.record.circuit;
        match (&self.rules.breaker, circuit.mode()) {
            // Without a rule only operators open it.
            (None, CircuitMode::Automatic | CircuitMode::ForcedClosed) => CircuitState::Closed,
            _ => circuit.state(self.record.at(now)),
        }
    }

    /// Who says so.
    pub fn circuit_mode(&self) -> CircuitMode {
        self.record.circuit.mode()
    }

    /// Has the circuit be open or closed whatever happens, or lets the rule open it again.
    pub fn force_circuit(&self, mode: CircuitMode) {
        if self.record.circuit.force(mode) == mode {
            return;
        }
        let service = &self.name;
        match mode {
            CircuitMode::ForcedOpen => log::warn!("circuit forced open: service={service}"),
            CircuitMode::ForcedClosed => log::warn!("circuit forced closed: service={service}"),
            CircuitMode::Automatic => log::info!("circuit automatic again: service={service}"),
        }
    }

    /// Requests under way to the service; connections that were handed over to another protocol are none.
    pub fn in_flight(&self) -> u32 {
        self.record.circuit.in_flight()
    }
}
