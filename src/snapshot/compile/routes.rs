//! The routes, with the policies that they inherit.

use std::fmt::Write;
use std::sync::Arc;

use super::super::action::{self, Lacking};
use super::super::matching;
use super::super::policies::{Place, Policies, Surroundings, Written};
use super::super::route::Route;
use crate::config::{
    self, AuthRule, Config, Diagnostics, LimitAlgorithm, OneOrMany, Policy, RateLimit, RouteFields,
    Span, Spanned, Toggle,
};
use crate::limits::stable_id;
use crate::routing::Entry;
use crate::telemetry::Meters;
use crate::upstream::Service;

pub(super) struct Compiler<'a> {
    pub(super) surroundings: Surroundings<'a>,
    pub(super) meters: &'a Meters,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) routes: Vec<Route>,
    pub(super) entries: Vec<Entry>,
}

/// A service while its routes are compiled.
struct Home<'h> {
    number: u32,
    name: &'h Arc<str>,
    service: Option<&'h Arc<Service>>,
    section: &'h Spanned<config::Service>,
    key: &'h Spanned<String>,
    policies: &'h Policies,
}

impl Compiler<'_> {
    /// Returns what holds for requests that no route takes.
    pub(super) fn config(&mut self, config: &Config) -> Policies {
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
        section: &Spanned<config::Service>,
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
