//! Which endpoints of a service are to be checked, and what came of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Service;
use crate::telemetry::ServiceEvent;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::health::HealthCheck;

impl Service {
    /// How its endpoints are checked.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.rules.health_check.as_ref()
    }

    /// The endpoints that are to be checked now.
    pub(in crate::upstream) fn due_for_check(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        let Some(rule) = &self.rules.health_check else {
            return Vec::new();
        };
        let now = self.record.at(now);
        let pool = self.pool.load();
        let is_due =
            |it: &&Arc<Endpoint>| it.is_resolved() && it.checks.is_due(rule, now, fastrand::f64());
        pool.with_drained().filter(is_due).cloned().collect()
    }

    /// Learns how a check of one of its endpoints went.
    pub(in crate::upstream) fn checked(
        &self,
        endpoint: &Endpoint,
        result: Result<(), String>,
        now: Instant,
    ) {
        let Some(rule) = &self.rules.health_check else {
            return;
        };
        let now = self.record.at(now);
        self.meter.count(match result {
            Ok(()) => ServiceEvent::CheckPassed,
            Err(_) => ServiceEvent::CheckFailed,
        });
        let Some(is_down) = endpoint.checks.learn(rule, result.is_ok()) else {
            return;
        };
        if !endpoint.health.checked(is_down, now) {
            return;
        }
        let has_down = self
            .pool
            .load()
            .endpoints()
            .iter()
            .any(|it| it.health.is_down());
        self.record.has_down.store(has_down, Ordering::Relaxed);
        let (service, name) = (&self.name, endpoint.as_str());
        match result {
            Err(reason) => {
                log::warn!("endpoint down: service={service} endpoint={name} reason={reason}");
            }
            Ok(()) => {
                self.record.watch(now + self.rules.slow_start);
                log::info!("endpoint up: service={service} endpoint={name}");
            }
        }
    }

    pub(super) fn count_down(&self) {
        let has_down = self
            .pool
            .load()
            .endpoints()
            .iter()
            .any(|it| it.health.is_down());
        self.record.has_down.store(has_down, Ordering::Relaxed);
    }

    /// Without checks nobody would find out that an endpoint is up again.
    pub(super) fn forget_checks(&self) {
        for endpoint in self.pool.load().with_drained() {
            endpoint.health.checked(false, Duration::ZERO);
        }
        self.record.has_down.store(false, Ordering::Relaxed);
    }

    /// Whether an endpoint gets requests because it is well, not for want of a better one.
    pub fn has_healthy_endpoint(&self, now: Instant) -> bool {
        let now = self.record.at(now);
        let is_checked = self.health_check().is_some();
        self.endpoints()
            .iter()
            .any(|it| !(it.health.is_ejected(now) || is_checked && it.health.is_down()))
    }

    /// The endpoints of which checks say that they are down.
    pub fn endpoints_down(&self) -> Vec<Arc<Endpoint>> {
        let mut endpoints = self.endpoints();
        endpoints.retain(|it| self.health_check().is_some() && it.health.is_down());
        endpoints
    }
}
