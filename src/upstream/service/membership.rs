//! How the endpoints of a service come about: from its targets, its names, and its predecessor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::Service;
use super::draining::Names;
use crate::telemetry::Meters;
use crate::upstream::balance::{Law, Pool};
use crate::upstream::discovery::Name;
use crate::upstream::endpoint::Endpoint;

/// One entry of the list of targets.
#[derive(Debug)]
pub(in crate::upstream) enum Target {
    /// An endpoint with its weight, and its name unless it goes by its address.
    Endpoint(Arc<Endpoint>, u32, Option<Arc<Name>>),
    /// Whatever the name stands for.
    Name(Arc<Name>),
}

impl Service {
    /// This service, with what `known`, its predecessor of the same name, knows: endpoints that both
    /// have live on, and the turn goes on where it was. If nothing differs it is `known` itself.
    pub fn succeed(mut self, known: &Arc<Self>) -> Arc<Self> {
        for target in &mut self.targets {
            if let Some(same) = known.targets.iter().find(|it| it.is_same_as(target)) {
                target.adopt(same);
            }
        }
        let is_same = self.targets.len() == known.targets.len()
            && std::iter::zip(&self.targets, &known.targets).all(|(this, that)| this.is(that));
        if is_same && self.rules == known.rules {
            return known.clone();
        }
        self.record = known.record.clone();
        // Counted before it is read, so that no change is missed.
        self.followed = AtomicU64::new(self.changes());
        let pool = self.gather(&self.record.drained.names());
        self.pool.store(Arc::new(pool));
        if self.rules.breaker.is_none() {
            self.record.circuit.reset();
        }
        if self.rules.health_check.is_none() {
            self.forget_checks();
        }
        self.turn = AtomicUsize::new(known.turn.load(Ordering::Relaxed));
        Arc::new(self)
    }

    /// Its targets as written: scheme and host, and the path put before every forwarded path.
    pub fn targets(&self) -> Vec<(String, String)> {
        let targets = self.targets.iter().map(|target| match target {
            Target::Endpoint(endpoint, ..) => (endpoint.as_str(), endpoint.prefix().to_owned()),
            Target::Name(name) => (name.as_str(), name.prefix().to_owned()),
        });
        let targets = targets.map(|(origin, prefix)| (origin.to_owned(), prefix));
        targets.collect()
    }

    /// The names that lead to its endpoints.
    pub(in crate::upstream) fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.targets.iter().filter_map(|target| match target {
            Target::Endpoint(_, _, name) => name.as_ref(),
            Target::Name(name) => Some(name),
        })
    }

    /// All endpoints with their weights, in the order of the targets.
    pub(super) fn members(&self) -> Vec<(Arc<Endpoint>, u32)> {
        members(&self.targets)
    }

    fn gather(&self, drained: &Names) -> Pool {
        let counted_as = (&*self.name, &self.meters);
        pool(&self.targets, drained, &self.rules.law, counted_as)
    }

    fn changes(&self) -> u64 {
        let names = self.names().map(|name| name.changes());
        // A service that a reload is about to put in force learns of these here, too.
        names.sum::<u64>() + self.record.drained.changes()
    }

    /// Takes over what was found by its names, if that is new.
    pub(in crate::upstream) fn follow_names(&self) {
        let changes = self.changes();
        if self.followed.swap(changes, Ordering::Relaxed) != changes {
            self.renew(&self.record.drained.names());
        }
    }

    /// Gathers its endpoints anew. Those that join others start slowly. The names of the drained ones are held
    /// meanwhile, so that nobody puts an older pool in the place of this one.
    pub(super) fn renew(&self, drained: &Names) {
        let known = self.pool.load();
        let pool = self.gather(drained);
        if pool.is_same_as(&known) {
            return;
        }
        if known.endpoints().iter().any(|it| it.is_resolved()) {
            let now = self.record.at(Instant::now());
            for endpoint in pool.endpoints() {
                if !known.endpoints().iter().any(|it| Arc::ptr_eq(it, endpoint)) {
                    endpoint.health.came_back(now);
                    self.record.watch(now + self.rules.slow_start);
                }
            }
        }
        self.pool.store(Arc::new(pool));
        self.count_down();
    }
}

impl Target {
    /// Whether the same endpoints are found by it in the same way.
    fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(this, ..), Self::Endpoint(that, ..)) => this.is_same_as(that),
            (Self::Name(this), Self::Name(that)) => this.is_same_as(that),
            _ => false,
        }
    }

    /// Takes over the endpoints of `known`, which is the same; the weight stays its own.
    fn adopt(&mut self, known: &Self) {
        match (self, known) {
            (Self::Endpoint(endpoint, _, name), Self::Endpoint(same, _, its)) => {
                endpoint.clone_from(same);
                name.clone_from(its);
            }
            (Self::Name(name), Self::Name(same)) => name.clone_from(same),
            _ => {}
        }
    }

    /// Whether it is the very same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(this, weight, _), Self::Endpoint(that, other, _)) => {
                Arc::ptr_eq(this, that) && weight == other
            }
            (Self::Name(this), Self::Name(that)) => Arc::ptr_eq(this, that),
            _ => false,
        }
    }
}

/// The endpoints of targets, which are counted as those of the service of this name.
pub(super) fn pool(
    targets: &[Target],
    drained: &Names,
    law: &Law,
    (service, meters): (&str, &Meters),
) -> Pool {
    let members = members(targets);
    for (endpoint, _) in &members {
        endpoint.count_for(service, meters);
    }
    let is_drained = |(endpoint, _): &(Arc<Endpoint>, u32)| drained.contains(endpoint.as_str());
    let (drained, members): (Vec<_>, _) = members.into_iter().partition(is_drained);
    let drained = drained.into_iter().map(|(endpoint, _)| endpoint);
    Pool::new(members, law).beside(drained.collect())
}

fn members(targets: &[Target]) -> Vec<(Arc<Endpoint>, u32)> {
    let mut members = Vec::with_capacity(targets.len());
    for target in targets {
        match target {
            Target::Endpoint(endpoint, weight, _) => members.push((endpoint.clone(), *weight)),
            Target::Name(name) => members.extend(name.found()),
        }
    }
    members
}
