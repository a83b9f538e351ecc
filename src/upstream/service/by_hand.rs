//! What operators have changed of a service, so that the process that takes over goes on with it.

use serde::{Deserialize, Serialize};

use super::Service;
use crate::upstream::breaker::CircuitMode;

/// What operators have changed of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// The name of the service.
    pub service: Box<str>,
    /// Endpoints that they have taken out of service, whether they are there or not.
    pub drained: Vec<Box<str>>,
    /// What they have its circuit be.
    pub circuit: CircuitMode,
}

impl Service {
    /// What operators have changed of it, if they have.
    pub fn by_hand(&self) -> Option<ByHand> {
        let drained: Vec<_> = self.record.drained.names().iter().cloned().collect();
        let circuit = self.circuit_mode();
        (!drained.is_empty() || circuit != CircuitMode::Automatic).then(|| ByHand {
            service: self.name.clone(),
            drained,
            circuit,
        })
    }

    /// Goes on with what operators have changed of it before this process was there.
    pub fn take_over(&self, before: ByHand) {
        if before.circuit != CircuitMode::Automatic {
            self.force_circuit(before.circuit);
        }
        let mut drained = self.record.drained.names();
        for name in before.drained {
            log::warn!("endpoint drained: service={} endpoint={name}", self.name);
            drained.insert(name);
        }
        self.record.drained.changed();
        self.renew(&drained);
    }
}
