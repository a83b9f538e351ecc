//! Configuration to snapshot, or every reason why not.

mod routes;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::AHashSet;

use self::routes::Compiler;
use super::failures::AuthFailures;
use super::limits::Limits;
use super::listeners::Listeners;
use super::policies::Surroundings;
use super::providers::Providers;
use super::readiness::Dependencies;
use super::settings::Settings;
use super::{Snapshot, State, consumers, cost, fallback, geoip, providers};
use crate::acme::Acme;
use crate::auth::{CLIENT_CERT, CLIENT_CERT_CHAIN, Consumers, X_CONSUMER, X_CONSUMER_GROUPS};
use crate::cache::Cache;
use crate::config::{Config, Diagnostics, Source, Spanned, Toggle, base_of};
use crate::limits::{Counters, Shared};
use crate::routing::RouteTable;
use crate::telemetry::tracing::Tracing;
use crate::telemetry::{LineRules, Meters, SeriesBounds};
use crate::tls;
use crate::traffic::TrustedProxies;
use crate::upstream::Service;

/// The configuration in force and its snapshot, whose state is taken over.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'p> {
    /// The configuration.
    pub config: &'p Config,
    /// What it was compiled to.
    pub snapshot: &'p Snapshot,
}

/// Compiles a configuration. `None` if there is any error, now or before. What a `previous` one
/// knows of providers and backends whose sections are the same lives on.
pub fn compile(
    config: &Config,
    source: &Source,
    state: &State,
    previous: Option<Previous<'_>>,
    diagnostics: &mut Diagnostics,
) -> Option<Snapshot> {
    let settings = Settings::compile(config, base_of(&source.path), diagnostics);
    let base = base_of(&source.path);
    let acme = config.acme.as_ref();
    let acme = acme.and_then(|it| {
        let shown = (&state.challenges, &state.renewals);
        Acme::compile(it, &config.server, base, shown, diagnostics)
    });
    let encryption = tls::Surroundings {
        base,
        automatic: config
            .acme
            .as_ref()
            .map(|_| acme.as_ref().map_or(base, Acme::certificates)),
        ticket_keys: &state.ticket_keys,
        challenges: &state.challenges.tls,
    };
    let listeners = Listeners::compile(config, encryption, diagnostics);
    let counters = counters(config, source, (state, previous), diagnostics);
    let consumers = Consumers::compile(config, diagnostics);
    let meters = SeriesBounds::compile(&config.metrics, diagnostics);
    let meters = state.meters.within(meters);
    state.limit_decisions.make_room();
    state.consumer_requests.make_room();
    let Providers {
        by_name: providers,
        deciding,
    } = Providers::compile(
        config,
        source,
        (&consumers, &meters),
        (state, previous),
        diagnostics,
    );
    let is_costly = providers.values().any(|it| it.may_be_costly());
    let auth_failures =
        AuthFailures::compile(&config.auth_failures, is_costly, &counters, diagnostics);
    let consumer_policies = consumers::compile(config, state, &counters, diagnostics);
    let geoip = geoip::compile(config, source, previous, diagnostics);
    let tracing = tracing(config, source, (state, previous), diagnostics);
    let access_log = config.log.access.0.on();
    let access_log = access_log.and_then(|section| LineRules::compile(section, diagnostics));
    let services = services(config, source, (&meters, previous), diagnostics);
    let dependencies = Dependencies::compile(config, &services, diagnostics);
    let mut compiler = Compiler {
        surroundings: Surroundings {
            providers: &providers,
            consumers: &consumers,
            counters: &counters,
            shutdown_deadline: config.server.shutdown.deadline.value,
            decisions: &state.limit_decisions,
            in_flight: &state.in_flight,
            buckets: &state.buckets,
            cache_memory: config.server.cache.memory.value,
            geoip: geoip.as_ref(),
            services: &services,
        },
        meters: &meters,
        diagnostics,
        routes: Vec::new(),
        entries: Vec::new(),
    };
    let unrouted = compiler.config(config);
    let Compiler {
        routes, entries, ..
    } = compiler;
    cost::check(config, &routes, &consumer_policies, diagnostics);
    if !diagnostics.has_errors() {
        providers::warn_about_unused(config, diagnostics);
        geoip::warn_if_unused(config, diagnostics);
        providers::warn_about_unseen_certificates(config, diagnostics);
        let of_routes = routes.iter().map(|route| &route.policies.limits);
        let of_consumers = consumer_policies.iter().map(|policy| &policy.limits);
        warn_if_store_unused(config, of_routes.chain(of_consumers), diagnostics);
        fallback::warn_if_nothing_is_kept(&routes, diagnostics);
    }
    let table = RouteTable::build(entries, diagnostics);
    if diagnostics.has_errors() {
        return None;
    }
    let forwarded = providers
        .values()
        .flat_map(|provider| provider.forwarded_headers());
    let mut identity_headers: AHashSet<_> = forwarded.collect();
    if !consumers.is_empty() {
        identity_headers.extend([X_CONSUMER, X_CONSUMER_GROUPS]);
    }
    if listeners.verifications().any(|it| it.is_forwarded()) {
        identity_headers.extend([CLIENT_CERT, CLIENT_CERT_CHAIN]);
    }
    let deciders = deciding.len();
    let (services, service_places): (Vec<_>, Vec<_>) = placed(config, source, &services, deciding)
        .into_iter()
        .unzip();
    let keeps_answers = routes.iter().any(|route| route.policies.cache.is_some());
    if let (Some(disk), false) = (&config.server.cache.disk, keeps_answers) {
        diagnostics
            .warning(
                disk.path.span,
                "no route keeps answers, so that none is kept here",
            )
            .help("add `cache: {}` at the top, to a service or to a route, or take `disk` away");
    }
    let cache = || Cache::leaked(settings.cache_memory);
    Some(Snapshot {
        cache: keeps_answers.then(|| *state.cache.get_or_init(cache)),
        routes: routes.into(),
        table,
        deciders,
        services: services.into(),
        service_places: service_places.into(),
        providers,
        consumers: consumer_policies,
        auth_failures,
        shared_limits: counters.shared,
        geoip,
        tracing,
        unrouted_meter: meters.no_route(),
        meters,
        auth_results: state.auth_results.clone(),
        access_log,
        unrouted_security_headers: unrouted.security_headers,
        identity_headers,
        trusted_proxies: TrustedProxies::new(&config.server.trusted_proxies),
        dependencies,
        acme: acme.map(Arc::new),
        listeners,
        settings,
    })
}

/// Where limits are counted. The way to a store that is the same as before lives on.
fn counters(
    config: &Config,
    source: &Source,
    (state, previous): (&State, Option<Previous<'_>>),
    diagnostics: &mut Diagnostics,
) -> Counters {
    let base = base_of(&source.path);
    let shared = config
        .redis
        .as_ref()
        .and_then(|section| Shared::compile(section, base, diagnostics));
    let known = previous.and_then(|it| it.snapshot.shared_limits.as_ref());
    Counters {
        local: state.limits.clone(),
        has_store: config.redis.is_some(),
        shared: shared.map(|shared| match known {
            Some(known) => shared.succeed(known),
            None => Arc::new(shared),
        }),
        has_top_keys: config.admin.0.on().is_some_and(|admin| admin.top_keys),
    }
}

fn warn_if_store_unused<'l>(
    config: &Config,
    mut limits: impl Iterator<Item = &'l Option<Arc<Limits>>>,
    diagnostics: &mut Diagnostics,
) {
    let is_used = limits.any(|limits| limits.as_ref().is_some_and(|it| it.rates.is_shared()));
    if let (Some(section), false) = (&config.redis, is_used) {
        diagnostics
            .warning(section.span, "no limit is kept in this store")
            .help("add `store: redis` to a `rate_limit`, or remove `redis`");
    }
}

/// How requests are traced. What is the same as before lives on, with the way to its collector.
fn tracing(
    config: &Config,
    source: &Source,
    (state, previous): (&State, Option<Previous<'_>>),
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Tracing>> {
    let section = config.tracing.as_deref().and_then(Toggle::on)?;
    let base = base_of(&source.path);
    let tracing = Tracing::compile(section, base, &state.traces, diagnostics)?;
    let known = previous.and_then(|it| it.snapshot.tracing.as_ref());
    match known.filter(|known| known.is_same_as(&tracing)) {
        Some(known) => Some(known.clone()),
        None => Some(Arc::new(tracing)),
    }
}

fn known_services(previous: Previous<'_>) -> HashMap<&str, &Arc<Service>> {
    let services = previous.snapshot.services.iter();
    services.map(|service| (&*service.name, service)).collect()
}

/// All services by name, each with what its predecessor knows; `None` for those without backends.
fn services<'c>(
    config: &'c Config,
    source: &Source,
    (meters, previous): (&Meters, Option<Previous<'_>>),
    diagnostics: &mut Diagnostics,
) -> HashMap<&'c str, Option<Arc<Service>>> {
    let base = base_of(&source.path);
    let known = previous.map(known_services).unwrap_or_default();
    let services = config.services.iter().map(|(name, section)| {
        let service = Service::compile(name, section, base, meters, diagnostics);
        let service = service.map(|service| match known.get(name.as_str()) {
            Some(known) => service.succeed(known),
            None => Arc::new(service),
        });
        (name.as_str(), service)
    });
    services.collect()
}

/// The services that have backends, in the order of the file, and behind them those that decide; each with the
/// place where it is written.
fn placed(
    config: &Config,
    source: &Source,
    services: &HashMap<&str, Option<Arc<Service>>>,
    deciding: Vec<Arc<Service>>,
) -> Vec<(Arc<Service>, Box<str>)> {
    let place = |name: &Spanned<String>| source.locate(name.span).into();
    let written = config.services.keys().filter_map(|name| {
        let service = services.get(name.as_str())?.clone()?;
        Some((service, place(name)))
    });
    let providers = config.auth_providers.iter();
    let asking = providers
        .filter(|(_, provider)| provider.forward.is_some())
        .map(|(name, _)| place(name));
    written.chain(std::iter::zip(deciding, asking)).collect()
}
