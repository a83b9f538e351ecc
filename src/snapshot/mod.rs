//! A configuration compiled: everything resolved, immutable, ready to be asked by requests.
//!
//! Compiling is pure and reports every error. A policy that does not compile is an error of the
//! whole configuration, never a policy that is skipped. What lives on from one snapshot to the next
//! – counts, addresses and turns of backends, verified tokens, used signatures – is shared, not copied:
//! counts are in [`State`], the rest is taken over from the [`Previous`] snapshot where its section is the
//! same, or where it must not be forgotten.

mod action;
mod cache_disk;
mod changes;
mod compile;
mod consumers;
mod cost;
mod deciders;
mod explain;
mod failures;
mod fallback;
mod geoip;
mod inspect;
mod limits;
mod listeners;
mod matching;
mod overload;
mod own;
mod policies;
mod providers;
mod proxy_protocol;
mod readiness;
mod route;
mod settings;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use ahash::AHashSet;
use http::HeaderName;

pub use cache_disk::CacheDisk;
pub use changes::{Change, ChangedRoute, Changes, RouteName};
pub use compile::{Previous, compile};
pub use consumers::ConsumerPolicy;
pub use explain::{Decision, Explanation, PolicyLine, explain, policy_lines};
pub use failures::AuthFailures;
pub use fallback::{Fallback, Instead};
pub use limits::Limits;
pub use listeners::{Listener, Listeners};
pub use overload::OverloadRule;
pub use policies::{Level, Policies};
pub use proxy_protocol::ProxyProtocol;
pub use route::{Action, Forward, Rewrite, Route};
pub use settings::{Bounds, ClientTimeouts, Settings};
pub use store::Store;

use crate::acme::{Acme, Challenges, Renewals};
use crate::auth::{AuthResults, Identity, KeySets, Provider, Workbenches};
use crate::cache::Cache;
use crate::limits::{Buckets, InFlight, Shared};
use crate::routing::{Outcome, Request, RouteTable};
use crate::telemetry::tracing::{Traces, Tracing};
use crate::telemetry::{
    ConsumerRequests, Handshakes, LimitDecisions, LineRules, Meters, RouteMeter,
};
use crate::tls::TicketKeys;
use crate::traffic::{GeoIp, SecurityHeaders, TrustedProxies};
use crate::upstream::{Resolver, Service};

/// All that requests are decided by.
#[derive(Debug)]
pub struct Snapshot {
    routes: Box<[Route]>,
    table: RouteTable,
    /// Behind those that requests are forwarded to, those that decide about them.
    services: Box<[Arc<Service>]>,
    /// Where each of them is written.
    service_places: Box<[Box<str>]>,
    deciders: usize,
    providers: HashMap<String, Arc<Provider>>,
    /// By the consumers' numbers.
    consumers: Box<[ConsumerPolicy]>,
    /// How many bad credentials an address may send.
    pub auth_failures: Option<AuthFailures>,
    /// The store whose counts limits share with other gateways.
    pub shared_limits: Option<Arc<Shared>>,
    geoip: Option<Arc<GeoIp>>,
    /// How requests are traced, if they are.
    pub tracing: Option<Arc<Tracing>>,
    /// Which requests are logged, and how, if any are.
    pub access_log: Option<LineRules>,
    /// Where requests are counted.
    pub meters: Meters,
    /// Where it is counted what becomes of them by their credentials.
    pub auth_results: Arc<AuthResults>,
    /// Where those are counted that no route takes.
    pub unrouted_meter: RouteMeter,
    /// Where answers are kept, if a route keeps some.
    pub cache: Option<&'static Cache>,
    /// What browsers are told in answers to requests that no route takes.
    pub unrouted_security_headers: Option<Arc<SecurityHeaders>>,
    /// Headers that carry an identity inward. Clients' own are always removed.
    pub identity_headers: AHashSet<HeaderName>,
    /// Whose word about the client is believed.
    pub trusted_proxies: TrustedProxies,
    dependencies: readiness::Dependencies,
    /// From whom certificates come that the gateway gets by itself, if any do.
    pub acme: Option<Arc<Acme>>,
    /// Where clients come in.
    pub listeners: Listeners,
    /// The gateway's own listeners, threads and bounds.
    pub settings: Settings,
}

/// Made when a limit first asks for it, so that it costs no memory where none does.
pub type OnDemand<T> = Arc<LazyLock<Arc<T>>>;

fn on_demand<T: Default>() -> OnDemand<T> {
    Arc::new(LazyLock::new(Arc::default))
}

/// What lives longer than a snapshot.
#[derive(Debug, Clone)]
pub struct State {
    /// The counts of all rate limits.
    pub limits: Arc<crate::limits::Store>,
    /// The requests under way that concurrency limits count.
    pub in_flight: OnDemand<InFlight>,
    /// The bytes that bandwidth limits count.
    pub buckets: OnDemand<Buckets>,
    /// The answers that are kept, once a route keeps some.
    pub cache: Arc<OnceLock<&'static Cache>>,
    /// The keys of tokens that are fetched.
    pub key_sets: Arc<KeySets>,
    /// Where costly credentials are verified.
    pub workbenches: Workbenches,
    /// What is counted of requests.
    pub meters: Meters,
    /// What became of requests by their credentials.
    pub auth_results: Arc<AuthResults>,
    /// What is counted of consumers.
    pub consumer_requests: ConsumerRequests,
    /// What is counted of limits.
    pub limit_decisions: LimitDecisions,
    /// Traces that wait to be exported.
    pub traces: Arc<Traces>,
    /// What clients take up earlier sessions by.
    pub ticket_keys: Arc<TicketKeys>,
    /// What is counted of handshakes.
    pub handshakes: Handshakes,
    /// What authorities look for before they issue a certificate.
    pub challenges: Challenges,
    /// How it stands with the certificates that the gateway gets by itself.
    pub renewals: Renewals,
}

impl State {
    /// Fresh state, large enough for a configuration.
    pub fn new(config: &crate::config::Config) -> Self {
        let keys = settings::rate_limit_keys(config);
        Self {
            limits: Arc::new(crate::limits::Store::new(keys)),
            in_flight: on_demand(),
            buckets: on_demand(),
            cache: Arc::default(),
            key_sets: Arc::default(),
            workbenches: Workbenches::default(),
            meters: Meters::default(),
            auth_results: Arc::default(),
            consumer_requests: ConsumerRequests::default(),
            limit_decisions: LimitDecisions::default(),
            traces: Arc::default(),
            ticket_keys: Arc::default(),
            handshakes: Handshakes::default(),
            challenges: Challenges::default(),
            renewals: Renewals::default(),
        }
    }
}

impl Snapshot {
    /// The route that takes a request.
    pub fn find(&self, request: &Request<'_>) -> Outcome {
        self.table.find(request)
    }

    /// The route of a number that [`Snapshot::find`] found.
    pub fn route(&self, number: u32) -> &Route {
        &self.routes[number as usize]
    }

    /// All routes, in the order of the file.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The services that have backends, those that only decide included.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The same, each with the place where it is written.
    pub fn placed_services(&self) -> impl Iterator<Item = (&Arc<Service>, &str)> {
        let places = self.service_places.iter().map(|place| &**place);
        std::iter::zip(&self.services, places)
    }

    /// The service of this number that decides about requests.
    pub fn decider(&self, number: usize) -> Option<&Arc<Service>> {
        self.services
            .get(self.services.len() - self.deciders + number)
    }

    /// Whether requests are copied, hedged or asked about, which the framework has no way for.
    pub fn needs_exchanges(&self) -> bool {
        let is_needed = |route: &Route| {
            let retry = route.policies.retry.as_ref();
            let forward = route.forward();
            retry.is_some_and(|it| it.hedge.is_some())
                || forward.is_some_and(|it| it.mirror.is_some())
        };
        self.deciders > 0 || self.routes.iter().any(is_needed)
    }

    /// What is particular to consumers, in the order of the file.
    pub fn consumers(&self) -> &[ConsumerPolicy] {
        &self.consumers
    }

    /// What is particular to who comes, if it is a consumer.
    pub fn consumer(&self, identity: Option<&Identity>) -> Option<&ConsumerPolicy> {
        let number = identity?.consumer()?.number;
        self.consumers.get(number as usize)
    }

    /// What looks up the names of backends.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(&self.settings.nameservers)
    }

    /// Whether what a client sends in this header would pose as a verified identity: the header
    /// itself, or a spelling with `_` that backends with CGI-like variables take for it.
    pub fn carries_identity(&self, name: &HeaderName) -> bool {
        if self.identity_headers.contains(name) {
            return true;
        }
        name.as_str().contains('_')
            && HeaderName::from_bytes(name.as_str().replace('_', "-").as_bytes())
                .is_ok_and(|name| self.identity_headers.contains(&name))
    }
}
