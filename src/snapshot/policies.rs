//! The policies of a route: for each, the nearest of the three places where it may be written.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;

use super::OnDemand;
use super::fallback::Fallback;
use super::limits::Limits;
use crate::auth::{Consumers, Known, Provider, Rule, Vocabulary};
use crate::cache::{self, CachePolicy};
use crate::config::{
    self, AuthRule, ByteSize, ConcurrencyLimit, Config, Diagnostics, OneOrMany, Period, Policy,
    Priority, RateLimit, RedirectHttps, RouteFields, Span, Spanned, Toggle,
};
use crate::limits::{
    BandwidthLimit, Buckets, ConcurrencyLimits, Counters, InFlight, Scope, checked_cost,
};
use crate::telemetry::LimitDecisions;
use crate::traffic::{Access, Cors, GeoIp, HeaderEdits, SecurityHeaders};
use crate::upstream::{Retry, Service, Timeouts};

/// A policy in force, shared by all routes that inherit it; `None` for none.
type Slot<T> = Option<Arc<T>>;

/// What the requests of a route must pass. Nothing written or `off` costs one `None`.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Which addresses may come in.
    pub access: Slot<Access>,
    /// How many requests may come.
    pub limits: Slot<Limits>,
    /// What one of them costs, in place of what those limits say.
    pub rate_limit_cost: Option<Spanned<u64>>,
    /// How many requests may be under way at once.
    pub concurrency: Slot<ConcurrencyLimits>,
    /// How fast bodies pass.
    pub bandwidth: Slot<BandwidthLimit>,
    /// Who may come in.
    pub auth: Slot<Rule>,
    /// Which origins' scripts may call.
    pub cors: Slot<Cors>,
    /// What browsers are told to beware of.
    pub security_headers: Slot<SecurityHeaders>,
    /// What backends see.
    pub request_edits: Slot<HeaderEdits>,
    /// What clients see.
    pub response_edits: Slot<HeaderEdits>,
    /// Which answers are kept.
    pub cache: Slot<CachePolicy>,
    /// How long backends may take.
    pub timeouts: Timeouts,
    /// What backends are told of the total, as long as nothing of it is spent: milliseconds.
    pub told_total: Option<HeaderValue>,
    /// Which failed attempts are repeated.
    pub retry: Slot<Retry>,
    /// What clients get when the service can't answer.
    pub fallback: Slot<Fallback>,
    /// How important requests are.
    pub priority: Priority,
    /// Whether calls of browsers are made gRPC.
    pub grpc_web: bool,
    /// Whether what comes in clear is sent to where it is encrypted; `None` to do as the listener does.
    pub redirect_https: Option<RedirectHttps>,
    /// The largest request body, in bytes.
    pub body_limit: Option<u64>,
}

/// Where a policy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// At the top: for all routes.
    Top,
    /// In a service: for its routes.
    Service,
    /// In the route itself.
    Route,
}

/// The policies written in one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'c> {
    pub(super) rate_limit: &'c Policy<OneOrMany<RateLimit>>,
    pub(super) rate_limit_cost: &'c Option<Spanned<u64>>,
    pub(super) concurrency_limit: &'c Policy<OneOrMany<ConcurrencyLimit>>,
    pub(super) bandwidth_limit: &'c Policy<config::BandwidthLimit>,
    pub(super) auth: &'c Policy<AuthRule>,
    pub(super) cache: &'c Policy<config::Cache>,
    pub(super) timeouts: &'c Policy<config::Timeouts>,
    pub(super) retry: &'c Policy<config::Retry>,
    pub(super) fallback: &'c Policy<config::Fallback>,
    pub(super) priority: &'c Option<Spanned<Priority>>,
    pub(super) grpc_web: &'c Option<Spanned<bool>>,
    pub(super) redirect_https: &'c Option<Spanned<RedirectHttps>>,
    pub(super) headers: &'c Policy<config::HeaderEdits>,
    pub(super) cors: &'c Policy<config::Cors>,
    pub(super) security_headers: &'c Policy<config::SecurityHeaders>,
    pub(super) access: &'c Policy<config::Access>,
    pub(super) body_limit: &'c Policy<ByteSize>,
}

macro_rules! written {
    ($section:expr) => {
        Written {
            rate_limit: &$section.rate_limit,
            rate_limit_cost: &$section.rate_limit_cost,
            concurrency_limit: &$section.concurrency_limit,
            bandwidth_limit: &$section.bandwidth_limit,
            auth: &$section.auth,
            cache: &$section.cache,
            timeouts: &$section.timeouts,
            retry: &$section.retry,
            fallback: &$section.fallback,
            priority: &$section.priority,
            grpc_web: &$section.grpc_web,
            redirect_https: &$section.redirect_https,
            headers: &$section.headers,
            cors: &$section.cors,
            security_headers: &$section.security_headers,
            access: &$section.access,
            body_limit: &$section.body_limit,
        }
    };
}

impl<'c> From<&'c Config> for Written<'c> {
    fn from(section: &'c Config) -> Self {
        written!(section)
    }
}

impl<'c> From<&'c config::Service> for Written<'c> {
    fn from(section: &'c config::Service) -> Self {
        written!(section)
    }
}

impl<'c> From<&'c RouteFields> for Written<'c> {
    fn from(section: &'c RouteFields) -> Self {
        written!(section)
    }
}

/// What policies need to know of their surroundings.
pub(super) struct Surroundings<'s> {
    pub(super) providers: &'s HashMap<String, Arc<Provider>>,
    pub(super) consumers: &'s Consumers,
    pub(super) counters: &'s Counters,
    /// How long requests have that are under way when the process is to end.
    pub(super) shutdown_deadline: Period,
    pub(super) decisions: &'s LimitDecisions,
    pub(super) in_flight: &'s OnDemand<InFlight>,
    pub(super) buckets: &'s OnDemand<Buckets>,
    pub(super) cache_memory: ByteSize,
    pub(super) geoip: Option<&'s Arc<GeoIp>>,
    /// The services by name; `None` for those without backends.
    pub(super) services: &'s HashMap<&'s str, Option<Arc<Service>>>,
}

/// The place whose policies are compiled.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// As in [`Scope`].
    pub(super) identity: &'p str,
    /// As in [`Scope`].
    pub(super) name: &'p str,
    /// The path parameters that header edits may use.
    pub(super) parameters: &'p [&'p str],
    /// Whether a route below asks for a token although this place does not.
    pub(super) is_token_asked_below: bool,
}

impl Policies {
    /// Without any policy written.
    pub(super) fn defaults(body_limit: u64) -> Self {
        Self {
            access: None,
            limits: None,
            rate_limit_cost: None,
            concurrency: None,
            bandwidth: None,
            auth: None,
            cors: None,
            security_headers: None,
            cache: None,
            request_edits: None,
            response_edits: None,
            told_total: told(Timeouts::compile(None, &mut Diagnostics::default())),
            timeouts: Timeouts::compile(None, &mut Diagnostics::default()),
            retry: Retry::compile(None, &mut Diagnostics::default()).map(Arc::new),
            fallback: None,
            priority: Priority::default(),
            grpc_web: false,
            redirect_https: None,
            body_limit: Some(body_limit),
        }
    }

    /// The policies one level further in: what is written there, and these where nothing is.
    pub(super) fn descend(
        &self,
        written: Written<'_>,
        place: Place<'_>,
        surroundings: &Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let auth = inherit(written.auth, &self.auth, |rule, span| {
            let vocabulary = Vocabulary {
                consumers: surroundings.consumers,
                parameters: place.parameters,
            };
            let known = Known {
                providers: surroundings.providers,
                vocabulary,
            };
            Rule::compile(rule, span, known, diagnostics)
        });
        let scope = Scope {
            identity: place.identity,
            name: place.name,
            // A rule with errors of its own is no reason for another about its claims.
            has_identity: auth.is_some()
                || place.is_token_asked_below
                || matches!(written.auth.as_deref(), Some(Toggle::On(_))),
            decisions: Some(surroundings.decisions),
        };
        let limits = inherit(written.rate_limit, &self.limits, |limits, span| {
            if limits.0.is_empty() {
                diagnostics
                    .error(span, "`rate_limit` is an empty list")
                    .help("write `rate_limit: off` for no limit");
                return None;
            }
            let bounds = (surroundings.counters, surroundings.shutdown_deadline);
            Limits::compile(limits, scope, bounds, diagnostics)
        });
        let rate_limit_cost = match written.rate_limit_cost {
            Some(cost) => checked_cost(cost, diagnostics),
            None => self.rate_limit_cost.clone(),
        };
        let concurrency = inherit(
            written.concurrency_limit,
            &self.concurrency,
            |limits, span| {
                if limits.0.is_empty() {
                    diagnostics
                        .error(span, "`concurrency_limit` is an empty list")
                        .help("write `concurrency_limit: off` for no limit");
                    return None;
                }
                ConcurrencyLimits::compile(limits, scope, surroundings.in_flight, diagnostics)
            },
        );
        let (request_edits, response_edits) = match written.headers.as_deref() {
            None => (self.request_edits.clone(), self.response_edits.clone()),
            Some(Toggle::Off) => (None, None),
            Some(Toggle::On(edits)) => {
                let mut compile =
                    |edit| HeaderEdits::compile(edit, place.parameters, diagnostics).map(Arc::new);
                (compile(&edits.request), compile(&edits.response))
            }
        };
        let timeouts = match written.timeouts.as_deref() {
            None => self.timeouts,
            timeouts => Timeouts::compile(timeouts, diagnostics),
        };
        Self {
            access: inherit(written.access, &self.access, |access, _| {
                Some(Access::compile(access, surroundings.geoip, diagnostics))
            }),
            cors: inherit(written.cors, &self.cors, |cors, span| {
                Cors::compile(cors, span, diagnostics)
            }),
            security_headers: inherit(
                written.security_headers,
                &self.security_headers,
                |section, _| Some(SecurityHeaders::compile(section, diagnostics)),
            ),
            bandwidth: inherit(written.bandwidth_limit, &self.bandwidth, |section, span| {
                BandwidthLimit::compile(section, span, scope, surroundings.buckets, diagnostics)
            }),
            cache: inherit(written.cache, &self.cache, |section, _| {
                let place = cache::Place {
                    identity: place.identity,
                    has_identity: scope.has_identity,
                    memory: surroundings.cache_memory,
                };
                Some(CachePolicy::compile(section, place, diagnostics))
            }),
            told_total: told(timeouts),
            timeouts,
            retry: match written.retry.as_deref() {
                None => self.retry.clone(),
                retry => Retry::compile(retry, diagnostics).map(Arc::new),
            },
            priority: written
                .priority
                .as_deref()
                .copied()
                .unwrap_or(self.priority),
            grpc_web: written
                .grpc_web
                .as_deref()
                .copied()
                .unwrap_or(self.grpc_web),
            redirect_https: written
                .redirect_https
                .as_deref()
                .copied()
                .or(self.redirect_https),
            fallback: inherit(written.fallback, &self.fallback, |fallback, span| {
                Fallback::compile(fallback, span, surroundings.services, diagnostics)
            }),
            body_limit: match written.body_limit.as_deref() {
                None => self.body_limit,
                Some(Toggle::Off) => None,
                Some(Toggle::On(limit)) => Some(limit.0),
            },
            auth,
            limits,
            rate_limit_cost,
            concurrency,
            request_edits,
            response_edits,
        }
    }
}

fn told(timeouts: Timeouts) -> Option<HeaderValue> {
    let millis = u64::try_from(timeouts.total?.as_millis()).unwrap_or(u64::MAX);
    Some(HeaderValue::from(millis))
}

/// The policy in force: the one that is written here, or the outer one if nothing is.
fn inherit<C, T>(
    written: &Policy<C>,
    outer: &Slot<T>,
    compile: impl FnOnce(&C, Span) -> Option<T>,
) -> Slot<T> {
    match written {
        None => outer.clone(),
        Some(Spanned {
            value: Toggle::Off, ..
        }) => None,
        Some(Spanned {
            value: Toggle::On(section),
            span,
        }) => compile(section, *span).map(Arc::new),
    }
}
