//! A service: its endpoints and whose turn it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::tls::x509::X509;

use super::balance::smooth_order;
use super::breaker::{Admission, Circuit, CircuitBreaker, CircuitState, Turn};
use super::endpoint::{Endpoint, EndpointSettings};
use super::outlier::{Outcome, OutlierDetection};
use super::retry::Budget;
use super::url::BaseUrl;
use crate::config::{self, Diagnostics, HostHeader, Span, Spanned};

/// Most targets of a service.
const MOST_TARGETS: usize = 1000;

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

/// A service: endpoints that do the same.
#[derive(Debug)]
pub struct Service {
    /// The name in the service map.
    pub name: Box<str>,
    /// The `Host` that its backends see.
    pub host: HostPolicy,
    endpoints: Box<[Arc<Endpoint>]>,
    order: Box<[u16]>,
    turn: AtomicUsize,
    outliers: Option<OutlierDetection>,
    breaker: Option<CircuitBreaker>,
    record: Arc<Record>,
}

/// What is remembered of a service beside its endpoints, across reloads.
#[derive(Debug)]
struct Record {
    /// Moments are counted from here.
    begun: Instant,
    budget: Budget,
    circuit: Arc<Circuit>,
    /// Until when the last ejection lasts, in milliseconds: as long as nobody is ejected, this is all
    /// that is looked at.
    ejections_until: AtomicU64,
}

/// The endpoint of one attempt.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    index: usize,
}

/// Which endpoints a request has been tried at. Only the first 64 are remembered apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    all: u64,
    unreachable: u64,
}

/// How good a choice an endpoint is; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Fresh,
    /// It failed this request, and may do better now.
    Tried,
    /// It failed others.
    Ejected,
    /// It could not even be connected to.
    Unreachable,
}

impl Tried {
    /// Remembers a choice.
    pub fn insert(&mut self, choice: &Choice) {
        self.all |= 1 << (choice.index % 64);
    }

    /// Remembers that it could not be connected to.
    pub fn insert_unreachable(&mut self, choice: &Choice) {
        self.unreachable |= 1 << (choice.index % 64);
    }

    fn contains(self, index: usize) -> bool {
        self.all & (1 << (index % 64)) != 0
    }

    fn rank(self, index: usize, is_ejected: bool) -> Rank {
        if self.unreachable & (1 << (index % 64)) != 0 {
            Rank::Unreachable
        } else if is_ejected {
            Rank::Ejected
        } else if self.contains(index) {
            Rank::Tried
        } else {
            Rank::Fresh
        }
    }
}

impl Record {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            budget: Budget::default(),
            circuit: Arc::default(),
            ejections_until: AtomicU64::new(0),
        }
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

impl Service {
    /// A service from its section. `None` for one without backends, which may only redirect and
    /// answer itself, and for one with errors, which have been reported.
    pub fn compile(
        name: &str,
        section: &Spanned<config::Service>,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let targets = targets(section, diagnostics)?;
        let settings = endpoint_settings(section, base, diagnostics)?;
        let mut endpoints = Vec::with_capacity(targets.len());
        let mut weights = Vec::with_capacity(targets.len());
        let mut is_complete = true;
        for (url, weight) in &targets {
            if !(1..=1000).contains(&weight.value) {
                diagnostics
                    .error(weight.span, format!("weight {weight} is out of range"))
                    .help("weights are whole numbers from 1 to 1000");
                is_complete = false;
                continue;
            }
            match BaseUrl::parse(url).and_then(|url| Endpoint::new(url, &settings)) {
                Ok(endpoint) => {
                    endpoints.push(Arc::new(endpoint));
                    weights.push(weight.value);
                }
                Err(reason) => {
                    diagnostics.error(url.span, reason);
                    is_complete = false;
                }
            }
        }
        warn_about_tls(section, &endpoints, diagnostics);
        let outliers = OutlierDetection::compile(section.outlier_detection.as_deref(), diagnostics);
        let breaker = CircuitBreaker::compile(section.circuit_breaker.as_deref(), diagnostics);
        let host = match section.host_header.as_deref() {
            None | Some(HostHeader::Upstream) => HostPolicy::Upstream,
            Some(HostHeader::Client) => HostPolicy::Client,
            // The text was checked when it was read.
            Some(HostHeader::Fixed(name)) => HostPolicy::Fixed(HeaderValue::from_str(name).ok()?),
        };
        is_complete.then(|| Self {
            name: name.into(),
            host,
            order: smooth_order(&weights),
            endpoints: endpoints.into(),
            turn: AtomicUsize::new(0),
            outliers,
            breaker,
            record: Arc::new(Record::new()),
        })
    }

    /// This service, with what `known`, its predecessor of the same name, knows: endpoints that both
    /// have live on, and the turn goes on where it was. If nothing differs it is `known` itself.
    pub fn succeed(mut self, known: &Arc<Self>) -> Arc<Self> {
        for endpoint in &mut self.endpoints {
            if let Some(same) = known.endpoints.iter().find(|it| it.is_same_as(endpoint)) {
                *endpoint = same.clone();
            }
        }
        let has_same_endpoints = self.endpoints.len() == known.endpoints.len()
            && std::iter::zip(&self.endpoints, &known.endpoints)
                .all(|(this, that)| Arc::ptr_eq(this, that));
        if has_same_endpoints
            && self.order == known.order
            && self.host == known.host
            && self.outliers == known.outliers
            && self.breaker == known.breaker
        {
            return known.clone();
        }
        self.record = known.record.clone();
        if self.breaker.is_none() {
            self.record.circuit.reset();
        }
        self.turn = AtomicUsize::new(known.turn.load(Ordering::Relaxed));
        Arc::new(self)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint whose turn it is among those that are resolved: one that was not tried and is not
    /// ejected, or the best there is; `None` if none is resolved.
    pub fn choose(&self, tried: Tried, now: Instant) -> Option<Choice> {
        // Repetitions take no turn, or one bad endpoint would have every first attempt.
        let turn = match tried.all {
            0 => self.turn.fetch_add(1, Ordering::Relaxed),
            _ => self.turn.load(Ordering::Relaxed),
        };
        let now = self.record.at(now);
        let ejections = self.are_ejections_heeded(now);
        let mut best = None;
        for step in 0..self.order.len() {
            let index = usize::from(self.order[turn.wrapping_add(step) % self.order.len()]);
            let endpoint = &self.endpoints[index];
            if !endpoint.is_resolved() {
                continue;
            }
            let rank = tried.rank(index, ejections && endpoint.health.is_ejected(now));
            if rank == Rank::Fresh {
                return Some(self.choice(index));
            }
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| self.choice(index))
    }

    /// Whether there is an endpoint with an address that was not tried.
    pub fn has_untried(&self, tried: Tried) -> bool {
        self.endpoints
            .iter()
            .enumerate()
            .any(|(index, endpoint)| !tried.contains(index) && endpoint.is_resolved())
    }

    /// Whether a request may go to this service. If so, it adds to what may be repeated.
    pub fn admit(&self, now: Instant) -> Admission {
        let now = self.record.at(now);
        let admission = self.record.circuit.admit(self.breaker.as_ref(), now);
        if matches!(admission, Admission::Granted(_)) {
            self.record.budget.request(now);
        }
        admission
    }

    /// Where the circuit stands.
    pub fn circuit(&self, now: Instant) -> CircuitState {
        match &self.breaker {
            Some(_) => self.record.circuit.state(self.record.at(now)),
            None => CircuitState::Closed,
        }
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
        if let Some(rule) = &self.breaker {
            let (at, random) = (self.record.at(now), fastrand::f64());
            let circuit = &self.record.circuit;
            match circuit.observe(rule, outcome, took, is_probe, at, random) {
                Some(Turn::Opened(length)) => {
                    log::warn!("circuit opened: service={} for={length:.1?}", self.name);
                }
                Some(Turn::Closed) => log::info!("circuit closed: service={}", self.name),
                None => {}
            }
        }
        self.observe_endpoint(choice, outcome, now);
    }

    fn observe_endpoint(&self, choice: &Choice, outcome: Outcome, now: Instant) {
        let Some(rule) = &self.outliers else { return };
        // With nobody to take its place, an endpoint is better than none.
        if self.endpoints.len() < 2 {
            return;
        }
        let now = self.record.at(now);
        let health = &choice.endpoint.health;
        let Some(reason) = health.observe(outcome, rule, || self.counts(now), now) else {
            return;
        };
        if health.is_ejected(now) || self.ejected(now) >= rule.most_of(self.endpoints.len()) {
            return;
        }
        let length = health.eject(rule, now, fastrand::f64());
        let until = u64::try_from((now + length).as_millis()).unwrap_or(u64::MAX);
        self.record
            .ejections_until
            .fetch_max(until, Ordering::Relaxed);
        log::warn!(
            "endpoint ejected: service={} endpoint={} reason={reason:?} for={length:.1?}",
            self.name,
            choice.endpoint.as_str(),
        );
    }

    /// The endpoints that are ejected, by name.
    pub fn ejected_endpoints(&self, now: Instant) -> Vec<&str> {
        let now = self.record.at(now);
        let ejected = self.endpoints.iter().filter(|it| it.health.is_ejected(now));
        ejected.map(|endpoint| endpoint.as_str()).collect()
    }

    /// Whether ejected endpoints are passed over: only while at least half of them can take requests,
    /// or what is left would be overrun (Envoy's panic threshold).
    fn are_ejections_heeded(&self, now: Duration) -> bool {
        let until = self.record.ejections_until.load(Ordering::Relaxed);
        until != 0 && u128::from(until) > now.as_millis() && {
            let is_well = |it: &&Arc<Endpoint>| it.is_resolved() && !it.health.is_ejected(now);
            let half = self.endpoints.len().div_ceil(2);
            self.endpoints.iter().filter(is_well).take(half).count() == half
        }
    }

    fn ejected(&self, now: Duration) -> usize {
        let is_ejected = |it: &&Arc<Endpoint>| it.health.is_ejected(now);
        self.endpoints.iter().filter(is_ejected).count()
    }

    /// Good and bad answers of all endpoints.
    fn counts(&self, now: Duration) -> (u64, u64) {
        self.endpoints.iter().fold((0, 0), |sum, endpoint| {
            let counts = endpoint.health.counts(now);
            (sum.0 + counts.0, sum.1 + counts.1)
        })
    }

    fn choice(&self, index: usize) -> Choice {
        Choice {
            endpoint: self.endpoints[index].clone(),
            index,
        }
    }
}

/// The URLs and weights of a section, whichever way they are written.
fn targets(
    section: &Spanned<config::Service>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(Spanned<String>, Spanned<u32>)>> {
    match (&section.base_url, &section.targets) {
        (Some(url), None) => Some(vec![(url.clone(), 1.into())]),
        (None, Some(targets))
            if targets.is_empty() && diagnostics.has_error_within(targets.span) =>
        {
            None
        }
        (None, Some(targets)) if targets.is_empty() => {
            diagnostics
                .error(targets.span, "`targets` is empty")
                .help("list at least one URL, such as `- http://127.0.0.1:9001`");
            None
        }
        (None, Some(targets)) if targets.len() > MOST_TARGETS => {
            diagnostics.error(
                targets.span,
                format!(
                    "{} targets are too many: at most {MOST_TARGETS}",
                    targets.len()
                ),
            );
            None
        }
        (None, Some(targets)) => Some(listed(targets, diagnostics)),
        (Some(url), Some(targets)) => {
            diagnostics
                .error(targets.span, "both `base_url` and `targets` are given")
                .related(url.span, "`base_url` is here")
                .help("move the `base_url` into the list of targets");
            None
        }
        (None, None) => None,
    }
}

fn listed(
    targets: &Spanned<Vec<Spanned<config::Target>>>,
    diagnostics: &mut Diagnostics,
) -> Vec<(Spanned<String>, Spanned<u32>)> {
    let mut seen: std::collections::HashMap<&str, Span> = std::collections::HashMap::new();
    let mut list = Vec::with_capacity(targets.len());
    for target in targets.iter() {
        let url = target.url();
        let span = url.span.or(target.span);
        if let Some(first) = seen.insert(url.as_str(), span) {
            diagnostics
                .warning(span, format!("`{url}` is listed twice"))
                .related(first, "first listed here")
                .help("give it a `weight` of 2 instead");
        }
        list.push((Spanned::new(url.value.clone(), span), target.weight()));
    }
    list
}

fn endpoint_settings(
    section: &config::Service,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<EndpointSettings> {
    let Some(tls) = &section.tls else {
        return Some(EndpointSettings::default());
    };
    let mut settings = EndpointSettings {
        server_name: tls.server_name.as_ref().map(|name| name.as_str().into()),
        skip_verification: !tls.verify.value,
        trust: 1,
        ..EndpointSettings::default()
    };
    if settings.skip_verification {
        diagnostics
            .warning(
                tls.verify.span,
                "certificates of this service are not verified",
            )
            .label("anyone on the way can pose as the backend")
            .help("trust its authority with `ca: path.pem` instead");
    }
    if let Some(name) = &tls.server_name
        && name.is_empty()
    {
        diagnostics
            .error(
                name.span,
                "`server_name` is empty, which would switch verification off",
            )
            .help("leave it out to use the URL's host");
        return None;
    }
    if let Some(file) = &tls.ca {
        let pem = match std::fs::read(base.join(file.as_str())) {
            Ok(pem) => pem,
            Err(error) => {
                diagnostics.error(file.span, format!("`{file}` can't be read: {error}"));
                return None;
            }
        };
        match X509::stack_from_pem(&pem) {
            Ok(certificates) if !certificates.is_empty() => {
                let mut hasher = std::hash::DefaultHasher::new();
                std::hash::Hash::hash(&(&pem, &settings.server_name), &mut hasher);
                settings.trust = std::hash::Hasher::finish(&hasher);
                settings.ca = Some(Arc::new(certificates.into()));
            }
            _ => {
                diagnostics
                    .error(file.span, format!("`{file}` holds no certificate"))
                    .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
                return None;
            }
        }
    }
    Some(settings)
}

fn warn_about_tls(
    section: &config::Service,
    endpoints: &[Arc<Endpoint>],
    diagnostics: &mut Diagnostics,
) {
    if let Some(tls) = &section.tls
        && !endpoints.is_empty()
        && endpoints
            .iter()
            .all(|endpoint| endpoint.as_str().starts_with("http://"))
    {
        diagnostics
            .warning(
                tls.span,
                "`tls` has no effect: no backend of this service is `https`",
            )
            .help("write `https://` in its URL, or remove `tls`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Target, WeightedTarget};

    fn service(targets: &[(&str, u32)]) -> (Option<Service>, Diagnostics) {
        let targets: Vec<Spanned<Target>> = targets
            .iter()
            .map(|(url, weight)| {
                Target::Weighted(WeightedTarget {
                    url: (*url).to_owned().into(),
                    weight: (*weight).into(),
                })
                .into()
            })
            .collect();
        let section = config::Service {
            targets: Some(targets.into()),
            ..config::Service::default()
        };
        let mut diagnostics = Diagnostics::default();
        let service = Service::compile("s", &section.into(), Path::new("."), &mut diagnostics);
        (service, diagnostics)
    }

    #[test]
    fn endpoints_take_turns_by_weight() {
        let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 3)]);
        let service = service.unwrap();
        let visits: Vec<_> = (0..8)
            .map(|_| {
                service
                    .choose(Tried::default(), Instant::now())
                    .unwrap()
                    .index
            })
            .collect();
        assert_eq!(visits.iter().filter(|index| **index == 1).count(), 6);
    }

    #[test]
    fn a_second_attempt_goes_elsewhere() {
        let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 1000)]);
        let service = service.unwrap();
        for _ in 0..100 {
            let mut tried = Tried::default();
            let first = service.choose(tried, Instant::now()).unwrap();
            tried.insert(&first);
            let second = service.choose(tried, Instant::now()).unwrap();
            assert_ne!(first.index, second.index);
            tried.insert(&second);
            assert!(service.choose(tried, Instant::now()).is_some());
        }
    }

    #[test]
    fn unresolved_endpoints_are_passed_over() {
        let (service, _) = service(&[("http://name.example:1", 1), ("http://10.0.0.2:1", 1)]);
        let service = service.unwrap();
        assert!((0..4).all(|_| {
            service
                .choose(Tried::default(), Instant::now())
                .unwrap()
                .index
                == 1
        }));
    }

    #[test]
    fn a_successor_keeps_what_is_known_of_the_endpoints_that_stay() {
        let known = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
        let known = Arc::new(known.0.unwrap());
        known.endpoints[1].publish(&["10.0.0.1".parse().unwrap()]);
        known.choose(Tried::default(), Instant::now()).unwrap();
        let same = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
        assert!(Arc::ptr_eq(&same.0.unwrap().succeed(&known), &known));
        let edited = service(&[("http://b.example:1", 1), ("http://c.example:1", 1)]);
        let edited = edited.0.unwrap().succeed(&known);
        assert!(Arc::ptr_eq(&edited.endpoints[0], &known.endpoints[1]));
        assert!(edited.endpoints[0].is_resolved() && !edited.endpoints[1].is_resolved());
        assert_eq!(edited.turn.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_bad_target_is_reported() {
        let (service, diagnostics) = service(&[("host:1", 1), ("http://h", 0), ("http://h", 1)]);
        assert!(service.is_none());
        assert_eq!(diagnostics.as_slice().len(), 3);
    }

    fn three() -> Service {
        let targets = [
            "http://10.0.0.1:1",
            "http://10.0.0.2:1",
            "http://10.0.0.3:1",
        ];
        service(&targets.map(|url| (url, 1))).0.unwrap()
    }

    /// The endpoints that get requests.
    fn chosen(service: &Service, tried: Tried, now: Instant) -> Vec<usize> {
        let mut chosen: Vec<_> = (0..30)
            .map(|_| service.choose(tried, now).unwrap().index)
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn fail(service: &Service, index: usize, now: Instant) {
        for _ in 0..5 {
            service.observe(&service.choice(index), Outcome::Failure, (None, false), now);
        }
    }

    #[test]
    fn who_fails_gets_no_requests_until_its_time_is_over() {
        let service = three();
        let now = Instant::now();
        fail(&service, 1, now);
        assert_eq!(chosen(&service, Tried::default(), now), [0, 2]);
        assert_eq!(service.ejected_endpoints(now), ["http://10.0.0.2:1"]);
        let later = now + Duration::from_secs(34);
        assert_eq!(chosen(&service, Tried::default(), later), [0, 1, 2]);
    }

    #[test]
    fn no_more_than_the_share_is_ejected() {
        let service = three();
        let now = Instant::now();
        for index in [0, 1, 2] {
            fail(&service, index, now);
        }
        assert_eq!(chosen(&service, Tried::default(), now), [1, 2]);
    }

    #[test]
    fn the_only_endpoint_is_never_ejected() {
        let service = service(&[("http://10.0.0.1:1", 1)]).0.unwrap();
        let now = Instant::now();
        fail(&service, 0, now);
        assert!(service.ejected_endpoints(now).is_empty());
        assert!(service.choose(Tried::default(), now).is_some());
    }

    #[test]
    fn a_repetition_goes_where_it_has_the_best_chance() {
        let service = three();
        let now = Instant::now();
        fail(&service, 2, now);
        let mut tried = Tried::default();
        tried.insert(&service.choice(0));
        assert_eq!(chosen(&service, tried, now), [1]);
        // All that are well failed this request: rather one of them again than who fails everybody.
        tried.insert(&service.choice(1));
        assert_ne!(chosen(&service, tried, now), [2]);
        tried.insert_unreachable(&service.choice(0));
        assert_eq!(chosen(&service, tried, now), [1]);
        tried.insert_unreachable(&service.choice(1));
        assert_eq!(chosen(&service, tried, now), [2]);
    }

    #[test]
    fn an_ejection_outlives_a_reload() {
        let known = Arc::new(three());
        let now = Instant::now();
        fail(&known, 1, now);
        let targets = [
            "http://10.0.0.1:1",
            "http://10.0.0.2:1",
            "http://10.0.0.4:1",
        ];
        let edited = service(&targets.map(|url| (url, 1)))
            .0
            .unwrap()
            .succeed(&known);
        assert_eq!(chosen(&edited, Tried::default(), now), [0, 2]);
    }
}
