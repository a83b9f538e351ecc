//! A service: endpoints that do the same, and what is known of them together.

mod by_hand;
mod checks;
mod draining;
mod forcing;
mod hedging;
mod measured;
mod membership;
mod standing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::telemetry::{Meters, ServiceEvent, ServiceMeter};
use crate::upstream::balance::{Choice, HashKey, Law, Pool, Rank, Seen, Tried};
use crate::upstream::breaker::{Admission, Circuit, CircuitBreaker, CircuitState, Permit, Turn};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::health::{HealthCheck, Outcome, OutlierDetection};
use crate::upstream::latencies::Latencies;
use crate::upstream::retry::Budget;
use crate::upstream::window::Window;
pub use by_hand::ByHand;
use draining::{Drained, Names};
pub(super) use membership::Target;
use membership::pool;
pub use standing::{EndpointState, Standing};

/// The `Host` that backends see.
#[derive(Debug, Clone, PartialEq)]
pub enum HostPolicy {
    /// That of the endpoint's URL.
    Upstream,
    /// What the client sent.
    Client,
    /// This one.
    Fixed(HeaderValue),
}

/// What a service is told.
#[derive(Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) host: HostPolicy,
    pub(super) law: Law,
    pub(super) slow_start: Duration,
    pub(super) outliers: Option<OutlierDetection>,
    pub(super) breaker: Option<CircuitBreaker>,
    pub(super) health_check: Option<HealthCheck>,
}

/// Why there is no endpoint for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChoice {
    /// None has a known address.
    Unresolved,
    /// Operators have taken all of them out of service.
    Drained,
    /// All have as many connections as they bear.
    Full,
}

/// A service: endpoints that do the same.
#[derive(Debug)]
pub struct Service {
    /// The name in the service map.
    pub name: Box<str>,
    /// Where it is counted what befalls it.
    pub meter: ServiceMeter,
    /// Where its backends are.
    meters: Meters,
    rules: Rules,
    targets: Box<[Target]>,
    /// The endpoints of all targets, as they are now.
    pool: ArcSwap<Pool>,
    /// How many changes of names the pool knows of.
    followed: AtomicU64,
    turn: AtomicUsize,
    record: Arc<Record>,
}

/// What is remembered of a service beside its endpoints, across reloads.
#[derive(Debug)]
struct Record {
    /// Moments are counted from here.
    begun: Instant,
    budget: Budget,
    /// Second attempts that began while the first went on.
    hedges: Window,
    latencies: Latencies,
    circuit: Arc<Circuit>,
    drained: Drained,
    /// Until when there is something to know of the endpoints, in milliseconds: an ejection, or one
    /// that warms up. As long as all is well, this and the next are all that is looked at.
    watched_until: AtomicU64,
    /// Whether checks say of some endpoint that it is down.
    has_down: AtomicBool,
}

impl Record {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            budget: Budget::default(),
            hedges: Window::default(),
            latencies: Latencies::default(),
            circuit: Arc::default(),
            drained: Drained::default(),
            watched_until: AtomicU64::new(0),
            has_down: AtomicBool::new(false),
        }
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// Something is to be known until then.
    fn watch(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.watched_until.fetch_max(until, Ordering::Relaxed);
    }

    fn is_watched(&self, now: Duration) -> bool {
        let until = self.watched_until.load(Ordering::Relaxed);
        (until != 0 && u128::from(until) > now.as_millis()) || self.has_down.load(Ordering::Relaxed)
    }
}

impl Service {
    /// A service of these targets.
    pub(super) fn new(name: &str, rules: Rules, targets: Vec<Target>, meters: &Meters) -> Self {
        Self {
            name: name.into(),
            meter: meters.service(name),
            meters: meters.clone(),
            pool: ArcSwap::from_pointee(pool(&targets, &Names::new(), &rules.law, (name, meters))),
            rules,
            targets: targets.into(),
            followed: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            record: Arc::new(Record::new()),
        }
    }

    /// The `Host` that its backends see.
    pub fn host(&self) -> &HostPolicy {
        &self.rules.host
    }

    /// All endpoints but those that operators have taken out of service.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.pool.load().endpoints().to_vec()
    }

    /// What of a request decides which endpoint it gets; `None` if nothing does.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.rules.law {
            Law::Hash(key) => Some(key),
            _ => None,
        }
    }

    /// The endpoint for the next attempt among those that are resolved: one that was not tried and is
    /// well, or the best there is. `key` is what [`Service::hash_key`] asks for.
    ///
    /// # Errors
    /// When none is resolved or in service, or all have as many connections as they bear.
    pub fn choose(
        &self,
        tried: Tried,
        key: Option<&[u8]>,
        now: Instant,
    ) -> Result<Choice, NoChoice> {
        let pool = self.pool.load();
        let now = self.record.at(now);
        let is_watched = self.record.is_watched(now);
        let is_health_heeded = is_watched && self.are_enough_well(&pool, now);
        let seen = Seen {
            law: &self.rules.law,
            turn: &self.turn,
            key,
            tried,
            now,
        };
        let most = self.rules.breaker.as_ref();
        let most = most.and_then(CircuitBreaker::max_connections);
        let is_full = |endpoint: &Endpoint, extra| {
            most.is_some_and(|most| endpoint.load.in_flight() >= most + extra)
        };
        let choice = pool.choose(seen, |index, endpoint| {
            if is_full(endpoint, 0) {
                Rank::Full
            } else if tried.is_unreachable(index) {
                Rank::Unreachable
            } else if is_health_heeded && self.is_unwell(endpoint, now) {
                Rank::Unwell
            } else if tried.contains(index) {
                Rank::Tried
            } else if is_watched && !self.is_warm(endpoint, now) {
                Rank::Warming
            } else {
                Rank::Fresh
            }
        });
        match choice {
            // It counts itself.
            Some(choice) if is_full(&choice.endpoint, 1) => Err(NoChoice::Full),
            Some(choice) => Ok(choice),
            None if pool.is_drained() => Err(NoChoice::Drained),
            None => Err(NoChoice::Unresolved),
        }
    }

    /// Whether a request may wait for a connection; it has its `permit`.
    pub fn may_connect(&self, permit: &Permit) -> bool {
        permit.wait(self.rules.breaker.as_ref())
    }

    /// Whether an endpoint should get no requests for now. What a last check says, of when there were
    /// still checks, does not count: nobody would find out that it is up again.
    fn is_unwell(&self, endpoint: &Endpoint, now: Duration) -> bool {
        let is_checked = self.rules.health_check.is_some();
        endpoint.health.is_ejected(now) || (is_checked && endpoint.health.is_down())
    }

    /// Whether unwell endpoints are passed over: only while at least half of them can take requests, or
    /// what is left would be overrun (Envoy's panic threshold).
    fn are_enough_well(&self, pool: &Pool, now: Duration) -> bool {
        let is_well = |it: &&Arc<Endpoint>| it.is_resolved() && !self.is_unwell(it, now);
        let half = pool.endpoints().len().div_ceil(2);
        pool.endpoints().iter().filter(is_well).take(half).count() == half
    }

    /// Whether an endpoint, which may have just come back, gets this request.
    fn is_warm(&self, endpoint: &Endpoint, now: Duration) -> bool {
        let share = endpoint.health.warmth(now, self.rules.slow_start);
        share >= 1.0 || fastrand::f64() < share
    }

    /// Whether there is an endpoint with an address that was not tried.
    pub fn has_untried(&self, tried: Tried) -> bool {
        let pool = self.pool.load();
        let mut endpoints = pool.endpoints().iter().enumerate();
        endpoints.any(|(index, endpoint)| !tried.contains(index) && endpoint.is_resolved())
    }

    /// Whether a request may go to this service. If so, it adds to what may be repeated.
    pub fn admit(&self, now: Instant) -> Admission {
        let now = self.record.at(now);
        let admission = self.record.circuit.admit(self.rules.breaker.as_ref(), now);
        if matches!(admission, Admission::Granted(_)) {
            self.record.budget.request(now);
        }
        admission
    }

    /// Takes one repetition from the budget; `false` if none is left, or while the circuit is not
    /// closed.
    pub fn take_retry(&self, percent: u8, now: Instant) -> bool {
        self.circuit(now) == CircuitState::Closed
            && self.record.budget.take(percent, self.record.at(now))
    }

    /// Learns how an attempt at one of its endpoints ended, how long its answer took, and whether it
    /// was a probe (see [`super::Permit::is_probe`]).
    pub fn observe(
        &self,
        choice: &Choice,
        outcome: Outcome,
        (took, is_probe): (Option<Duration>, bool),
        now: Instant,
    ) {
        if let Some(rule) = &self.rules.breaker {
            let (at, random) = (self.record.at(now), fastrand::f64());
            let circuit = &self.record.circuit;
            match circuit.observe(rule, outcome, took, is_probe, at, random) {
                Some(Turn::Opened(length)) => {
                    self.meter.count(ServiceEvent::CircuitOpened);
                    log::warn!("circuit opened: service={} for={length:.1?}", self.name);
                }
                Some(Turn::Closed) => {
                    self.meter.count(ServiceEvent::CircuitClosed);
                    log::info!("circuit closed: service={}", self.name);
                }
                None => {}
            }
        }
        if let (Some(took), true) = (took, outcome != Outcome::Failure) {
            self.record.latencies.learn(took);
        }
        self.observe_endpoint(choice, outcome, took, now);
    }

    fn observe_endpoint(
        &self,
        choice: &Choice,
        outcome: Outcome,
        took: Option<Duration>,
        now: Instant,
    ) {
        let now = self.record.at(now);
        if self.rules.law == Law::PeakEwma {
            match (outcome, took) {
                (Outcome::Failure, took) => choice.endpoint.load.failed(took, now),
                (_, Some(took)) => choice.endpoint.load.answered(took, now),
                (_, None) => {}
            }
        }
        let Some(rule) = &self.rules.outliers else {
            return;
        };
        let health = &choice.endpoint.health;
        if outcome == Outcome::Success {
            health.succeeded(now);
            return;
        }
        let pool = self.pool.load();
        let endpoints = pool.endpoints();
        // With nobody to take its place, an endpoint is better than none.
        if endpoints.len() < 2 {
            return;
        }
        let Some(reason) = health.observe(outcome, rule, || counts(endpoints, now), now) else {
            return;
        };
        let ejected = endpoints.iter().filter(|it| it.health.is_ejected(now));
        if health.is_ejected(now) || ejected.count() >= rule.most_of(endpoints.len()) {
            return;
        }
        // Who was taken out of service gets no requests anyway.
        if !endpoints.iter().any(|it| Arc::ptr_eq(it, &choice.endpoint)) {
            return;
        }
        let length = health.eject(rule, now, fastrand::f64());
        self.record.watch(now + length + self.rules.slow_start);
        self.meter.count(ServiceEvent::Ejected);
        log::warn!(
            "endpoint ejected: service={} endpoint={} reason={reason:?} for={length:.1?}",
            self.name,
            choice.endpoint.as_str(),
        );
    }

    /// The endpoints that are ejected.
    pub fn ejected_endpoints(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        let now = self.record.at(now);
        let mut endpoints = self.endpoints();
        endpoints.retain(|it| it.health.is_ejected(now));
        endpoints
    }
}

/// Good and bad answers of all endpoints.
fn counts(endpoints: &[Arc<Endpoint>], now: Duration) -> (u64, u64) {
    endpoints.iter().fold((0, 0), |sum, endpoint| {
        let counts = endpoint.health.counts(now);
        (sum.0 + counts.0, sum.1 + counts.1)
    })
}
