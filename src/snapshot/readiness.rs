//! What has to be well for the gateway to be ready, beside itself.

use std::sync::Arc;
use std::time::Instant;

use super::Snapshot;
use super::action::{self, Services};
use crate::config::{Config, Diagnostics};
use crate::limits::StoreState;
use crate::upstream::{CircuitState, Service};

/// What the gateway depends on.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    services: Box<[Arc<Service>]>,
    has_store: bool,
    has_key_sets: bool,
}

impl Dependencies {
    pub(super) fn compile(
        config: &Config,
        services: &Services<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let Some(admin) = config.admin.0.on() else {
            return Self::default();
        };
        let written = &admin.ready_when;
        if written.redis.value && config.redis.is_none() {
            diagnostics
                .error(
                    written.redis.span,
                    "`ready_when.redis` without a `redis` section",
                )
                .help("add `redis: { url: redis://127.0.0.1:6379 }` at the top");
        }
        let named = written.services.iter();
        Self {
            services: named
                .filter_map(|name| action::named(name, services, diagnostics))
                .collect(),
            has_store: written.redis.value,
            has_key_sets: written.key_sets,
        }
    }
}

impl Snapshot {
    /// Why the gateway should get no traffic: what it depends on and is not well.
    pub fn unready(&self, now: Instant) -> Vec<String> {
        let Dependencies {
            services,
            has_store,
            has_key_sets,
        } = &self.dependencies;
        let mut reasons = Vec::new();
        for service in services {
            let name = &service.name;
            if service.circuit(now) == CircuitState::Open {
                reasons.push(format!("the circuit of service {name} is open"));
            } else if !service.has_healthy_endpoint(now) {
                reasons.push(format!("service {name} has no healthy endpoint"));
            }
        }
        let store = self.shared_limits.as_ref().filter(|_| *has_store);
        if store.is_some_and(|store| store.state() != StoreState::Up) {
            reasons.push("the store of shared limits is not up".to_owned());
        }
        let mut lacking: Vec<_> = self
            .providers
            .iter()
            .filter(|(_, provider)| *has_key_sets && !provider.has_keys())
            .map(|(name, _)| format!("the keys of provider {name} have not been fetched"))
            .collect();
        lacking.sort_unstable();
        reasons.extend(lacking);
        reasons
    }
}
