//! Endpoints that operators have taken out of service.
//!
//! They are no part of what is chosen from, so that no request, repetition or key finds them, whatever the law
//! and however few are left. What is under way to them goes on, and so do their checks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Service;
use crate::upstream::endpoint::Endpoint;

pub(super) type Names = BTreeSet<Box<str>>;

/// Which endpoints these are. They are known by name, so that one that a reload or a name server takes away and
/// brings back is still out of service.
#[derive(Debug, Default)]
pub(super) struct Drained {
    names: Mutex<Names>,
    /// Counts how often they changed.
    changes: AtomicU64,
}

impl Drained {
    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Service {
    /// Has an endpoint get no more requests. It is named as logs show it, with or without the scheme.
    /// `false` if there is none of this name.
    pub fn drain(&self, endpoint: &str) -> bool {
        let mut drained = self.record.drained.names();
        let mut is_known = false;
        for (member, _) in self.members() {
            let name = member.as_str();
            if !is_called(name, endpoint) {
                continue;
            }
            is_known = true;
            if drained.insert(name.into()) {
                log::warn!("endpoint drained: service={} endpoint={name}", self.name);
            }
        }
        self.record.drained.changed();
        self.renew(&drained);
        is_known
    }

    /// Has an endpoint get requests again, also if it was ejected. `false` if there is none of this name,
    /// and none was drained that has gone since.
    pub fn enable(&self, endpoint: &str, now: Instant) -> bool {
        let mut drained = self.record.drained.names();
        let at = self.record.at(now);
        let mut enabled = Names::new();
        drained.retain(|name| {
            let is_meant = is_called(name, endpoint);
            if is_meant {
                enabled.insert(name.clone());
            }
            !is_meant
        });
        let mut is_known = !enabled.is_empty();
        for (member, _) in self.members() {
            if !is_called(member.as_str(), endpoint) {
                continue;
            }
            is_known = true;
            if member.health.forgive(at) {
                self.record.watch(at + self.rules.slow_start);
                enabled.insert(member.as_str().into());
            }
        }
        for name in enabled {
            log::info!("endpoint enabled: service={} endpoint={name}", self.name);
        }
        self.record.drained.changed();
        self.renew(&drained);
        is_known
    }

    /// The endpoints that operators have taken out of service.
    pub fn drained_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.pool.load().drained().to_vec()
    }
}

/// Whether somebody means this endpoint.
fn is_called(endpoint: &str, name: &str) -> bool {
    let authority = endpoint.split_once("://").map(|(_, authority)| authority);
    name == endpoint || Some(name) == authority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_named_with_or_without_its_scheme() {
        let endpoint = "http://10.0.0.1:9001";
        for (name, is_meant) in [
            (endpoint, true),
            ("10.0.0.1:9001", true),
            ("https://10.0.0.1:9001", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_called(endpoint, name), is_meant, "{name}");
        }
    }
}
