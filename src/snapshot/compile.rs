//! Configuration to snapshot, or every reason why not.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use ahash::AHashSet;

use super::action::{self, Lacking};
use super::failures::AuthFailures;
use super::limits::Limits;
use super::listeners::Listeners;
use super::policies::{Place, Policies, Surroundings, Written};
use super::providers::Providers;
use super::readiness::Dependencies;
use super::route::Route;
use super::settings::Settings;
use super::{Snapshot, State, consumers, cost, fallback, geoip, matching, providers};
use crate::acme::Acme;
use crate::auth::{CLIENT_CERT, CLIENT_CERT_CHAIN, Consumers, X_CONSUMER, X_CONSUMER_GROUPS};
use crate::cache::Cache;
use crate::config::{
    AuthRule, Config, Diagnostics, LimitAlgorithm, OneOrMany, Policy, RateLimit, RouteFields,
    Source, Span, Spanned, Toggle, base_of,
};
use crate::limits::{Counters, Shared, stable_id};
use crate::routing::{Entry, RouteTable};
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

struct Compiler<'a> {
    surroundings: Surroundings<'a>,
    meters: &'a Meters,
    diagnostics: &'a mut Diagnostics,
    routes: Vec<Route>,
    entries: Vec<Entry>,
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

/// A service while its routes are compiled.
struct Home<'h> {
    number: u32,
    name: &'h Arc<str>,
    service: Option<&'h Arc<Service>>,
    section: &'h Spanned<crate::config::Service>,
    key: &'h Spanned<String>,
    policies: &'h Policies,
}

impl Compiler<'_> {
    /// Returns what holds for requests that no route takes.
    fn config(&mut self, config: &Config) -> Policies {
        let short = short_rate_limit(config, self.diagnostics);
        let mut written = Written::from(config);
        if short.is_some() {
            written.rate_limit = &short;
        }
        let place = Place {
            identity: "top",
            name: "global",
            parameters: &[],
            is_token_asked_below: asks_for_tokens(&config.auth)
                || config.services.values().any(|service| {
                    asks_for_tokens(&service.auth)
                        || service
                            .routes
                            .iter()
                            .any(|route| asks_for_tokens(&route.auth))
                }),
        };
        let top = Policies::defaults(config.server.limits.body.value.0).descend(
            written,
            place,
            &self.surroundings,
            self.diagnostics,
        );
        if config.services.is_empty() && !self.diagnostics.has_errors() {
            self.diagnostics
                .warning(
                    Default::default(),
                    "there are no services, so every request is answered with 404",
                )
                .help("add one under `services`; `tollgate init` writes an example");
        }
        for (number, (key, section)) in config.services.iter().enumerate() {
            self.service(number as u32, key, section, &top);
        }
        top
    }

    fn service(
        &mut self,
        number: u32,
        key: &Spanned<String>,
        section: &Spanned<crate::config::Service>,
        top: &Policies,
    ) {
        if key.trim().is_empty() {
            self.diagnostics
                .error(key.span, "a service needs a name")
                .help("name what it does, such as `orders`");
        }
        let service = self.surroundings.services.get(key.as_str());
        let service = service.and_then(Option::as_ref);
        let identity = format!("service:{key}");
        let place = Place {
            identity: &identity,
            name: key,
            parameters: &[],
            is_token_asked_below: section
                .routes
                .iter()
                .any(|route| asks_for_tokens(&route.auth)),
        };
        let section_value = &section.value;
        let policies = top.descend(
            section_value.into(),
            place,
            &self.surroundings,
            self.diagnostics,
        );
        if section.routes.is_empty() && !self.diagnostics.has_lost(section.span, "routes") {
            self.diagnostics
                .warning(
                    key.span,
                    format!("no request reaches `{key}`: it has no routes"),
                )
                .help("add `routes: [/path]`");
        }
        let home = Home {
            number,
            name: &Arc::from(key.as_str()),
            service,
            section,
            key,
            policies: &policies,
        };
        let mut is_backend_missed = false;
        for (index, route) in section.routes.iter().enumerate() {
            self.route(
                index as u32,
                route.span,
                route,
                &home,
                &mut is_backend_missed,
            );
        }
    }

    fn route(
        &mut self,
        index: u32,
        span: Span,
        section: &RouteFields,
        home: &Home<'_>,
        is_backend_missed: &mut bool,
    ) {
        let pattern = matching::pattern(section, span, self.diagnostics);
        let conditions = matching::conditions(section, self.diagnostics);
        let parameters = pattern
            .as_ref()
            .map(|(pattern, _)| pattern.names())
            .unwrap_or_default();
        let identity = identity(home.key, section);
        let place = Place {
            identity: &identity,
            name: pattern.as_ref().map_or("route", |(_, text)| text),
            parameters: &parameters,
            is_token_asked_below: false,
        };
        let policies =
            home.policies
                .descend(section.into(), place, &self.surroundings, self.diagnostics);
        let action = action::compile(
            section,
            pattern.as_ref(),
            home.service,
            self.surroundings.services,
            self.diagnostics,
        );
        if matches!(action, Err(Lacking::Backend)) {
            self.report_missing_backend(span, home, is_backend_missed);
        }
        let (Some((pattern, text)), Ok(action)) = (pattern.as_ref(), action) else {
            return;
        };
        self.entries.push(Entry {
            hosts: section.hosts.clone(),
            pattern: pattern.clone(),
            conditions,
            span,
            value: self.routes.len() as u32,
        });
        self.routes.push(Route {
            meter: self.meters.route(home.name, text),
            name: (*text).into(),
            service: home.name.clone(),
            span,
            id: stable_id(&identity),
            action,
            policies,
            place: (home.number, index),
        });
    }
}

impl Compiler<'_> {
    /// Once a service, unless its backend is missing because it is wrong.
    fn report_missing_backend(&mut self, route: Span, home: &Home<'_>, is_reported: &mut bool) {
        let section = home.section;
        let is_wrong = section.base_url.is_some()
            || section.targets.is_some()
            || self.diagnostics.has_lost(section.span, "base_url");
        if is_wrong || *is_reported {
            return;
        }
        *is_reported = true;
        self.diagnostics
            .error(
                home.key.span,
                format!("`{}` has no backend to forward to", home.key),
            )
            .related(route, "this route forwards")
            .help(
                "add `base_url: http://127.0.0.1:9001`, or let the route `redirect` or `respond`",
            );
    }
}

/// `rateLimitWindow` and `rateLimitCount` as the limit they mean.
fn short_rate_limit(
    config: &Config,
    diagnostics: &mut Diagnostics,
) -> Policy<OneOrMany<RateLimit>> {
    let (window, count) = match (&config.rate_limit_window, &config.rate_limit_count) {
        (None, None) => return None,
        (Some(window), Some(count)) => (window, count),
        (Some(one), None) => {
            if !diagnostics.has_lost_key("rateLimitCount") {
                diagnostics
                    .error(one.span, "`rateLimitWindow` without `rateLimitCount`")
                    .help("add `rateLimitCount: 10`, or write a `rate_limit`");
            }
            return None;
        }
        (None, Some(one)) => {
            if !diagnostics.has_lost_key("rateLimitWindow") {
                diagnostics
                    .error(one.span, "`rateLimitCount` without `rateLimitWindow`")
                    .help("add `rateLimitWindow: 5m`, or write a `rate_limit`");
            }
            return None;
        }
    };
    if let Some(long) = &config.rate_limit {
        diagnostics
            .error(
                long.span,
                "both `rate_limit` and `rateLimitWindow` are given",
            )
            .related(window.span, "`rateLimitWindow` is here")
            .help("keep `rate_limit`, with `algorithm: fixed_window` for the same meaning");
        return None;
    }
    let limit = RateLimit {
        algorithm: LimitAlgorithm::FixedWindow.into(),
        ..RateLimit::new(count.clone(), window.clone())
    };
    Some(Spanned::new(Toggle::On(OneOrMany(vec![limit])), count.span))
}

fn asks_for_tokens(auth: &Policy<AuthRule>) -> bool {
    matches!(auth.as_deref(), Some(Toggle::On(_)))
}

/// What tells a route from all others of all services, whatever its place in the file.
fn identity(service: &str, route: &RouteFields) -> String {
    let mut identity = format!("route:{service}");
    // Writing to a String cannot fail.
    let _ = write!(
        identity,
        "|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}",
        route.path,
        route.prefix,
        route.hosts,
        route.methods,
        route.headers_match,
        route.query_match
    );
    identity
}
