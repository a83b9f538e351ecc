//! What a new configuration changes, route by route. For people, not for the way of a request.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::explain::{written, written_edits};
use super::own::{needs_upgrade, settings};
use super::policies::Written;
use crate::config::{Config, RouteFields, Service, Source, Span, Spanned};

/// Routes listed by name; more are only counted.
const MOST_LISTED: usize = 1000;

/// What is different between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Routes that are new.
    pub added: Vec<RouteName>,
    /// Routes that are gone.
    pub removed: Vec<RouteName>,
    /// Routes that decide or forward differently.
    pub changed: Vec<ChangedRoute>,
    /// Routes that are not listed, for there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
    /// Services and providers that are new, gone or different, and what of the gateway's own
    /// settings is: the key and both texts.
    pub settings: Vec<Change>,
    /// Those of them that a running process can't change.
    pub needs_upgrade: Vec<String>,
}

/// A route, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteName {
    /// Its service.
    pub service: String,
    /// Its path or prefix, with what else it asks of requests.
    pub route: String,
}

/// A route that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedRoute {
    /// Which.
    #[serde(flatten)]
    pub name: RouteName,
    /// What is different about it.
    pub changes: Vec<Change>,
}

/// One key that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The text that was in force; `None` if there was none, or if it may hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The text that is in force from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A configuration and its text.
type Side<'c> = (&'c Config, &'c Source);

impl Changes {
    /// What `new` changes against `old`. What a process that was `started` with another
    /// configuration can't change is listed as long as it differs from that one.
    pub fn between(old: Side<'_>, new: Side<'_>, started: &Config) -> Self {
        let mut changes = Self {
            needs_upgrade: needs_upgrade(started, new.0),
            ..Self::default()
        };
        changes.compare_settings(old.0, new.0);
        changes.compare_consumers(old, new);
        changes.compare_services(old, new);
        changes.compare_routes(old, new);
        changes
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.routes() == 0 && self.settings.is_empty()
    }

    /// The number of routes that are new, gone or different.
    pub fn routes(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len() + self.unlisted
    }

    fn compare_settings(&mut self, old: &Config, new: &Config) {
        for ((key, before), (_, after)) in std::iter::zip(settings(old), settings(new)) {
            if before != after {
                self.settings.push(Change {
                    key: key.to_owned(),
                    from: Some(before),
                    to: Some(after),
                });
            }
        }
        let token = |config: &Config| config.admin.0.on().and_then(|it| it.token.clone());
        if token(old) != token(new) {
            self.note("admin.token", None, None);
        }
        if old.tracing != new.tracing {
            // Its text may hold secrets.
            self.note("tracing", None, None);
        }
        for name in either(old.auth_providers.keys(), new.auth_providers.keys()) {
            let (before, after) = (old.auth_providers.get(name), new.auth_providers.get(name));
            // Their texts may hold secrets.
            if before != after {
                let word = |it: Option<_>, word: &str| it.map(|_| word.to_owned());
                let (from, to) = match (before, after) {
                    (Some(_), Some(_)) => (None, None),
                    _ => (word(before, "defined"), word(after, "defined")),
                };
                self.note(format!("auth_providers.{name}"), from, to);
            }
        }
    }

    fn compare_consumers(&mut self, (old, before): Side<'_>, (new, after): Side<'_>) {
        for name in either(old.consumers.keys(), new.consumers.keys()) {
            let sides = (old.consumers.get(name), new.consumers.get(name));
            self.compare(format!("consumers.{name}"), sides, (before, after));
        }
        for name in either(old.consumer_groups.keys(), new.consumer_groups.keys()) {
            let sides = (old.consumer_groups.get(name), new.consumer_groups.get(name));
            self.compare(format!("consumer_groups.{name}"), sides, (before, after));
        }
    }

    fn compare<T: PartialEq>(
        &mut self,
        key: String,
        (old, new): (Option<&Spanned<T>>, Option<&Spanned<T>>),
        (before, after): (&Source, &Source),
    ) {
        if old != new {
            let from = old.map(|it| written(before, it.span));
            let to = new.map(|it| written(after, it.span));
            self.note(key, from, to);
        }
    }

    fn note(&mut self, key: impl Into<String>, from: Option<String>, to: Option<String>) {
        self.settings.push(Change {
            key: key.into(),
            from,
            to,
        });
    }

    fn compare_services(&mut self, old: Side<'_>, new: Side<'_>) {
        for name in either(old.0.services.keys(), new.0.services.keys()) {
            let before = old.0.services.get(name).map(|it| backend(it, old.1));
            let after = new.0.services.get(name).map(|it| backend(it, new.1));
            if before != after {
                self.note(format!("services.{name}"), before, after);
            }
        }
    }

    fn compare_routes(&mut self, old: Side<'_>, new: Side<'_>) {
        let before: HashMap<RouteKey<'_>, Found<'_>> = routes(old.0).collect();
        let mut met = HashSet::new();
        for (key, after) in routes(new.0) {
            match before.get(&key) {
                None => {
                    if self.has_room() {
                        self.added.push(key.name());
                    }
                }
                Some(before) => {
                    let changes = compare_route((before, old), (&after, new));
                    if !changes.is_empty() && self.has_room() {
                        self.changed.push(ChangedRoute {
                            name: key.name(),
                            changes,
                        });
                    }
                }
            }
            met.insert(key);
        }
        for (key, _) in routes(old.0) {
            if !met.contains(&key) && self.has_room() {
                self.removed.push(key.name());
            }
        }
    }

    /// Whether another route is listed; if not, it is counted.
    fn has_room(&mut self) -> bool {
        let has_room = self.added.len() + self.removed.len() + self.changed.len() < MOST_LISTED;
        self.unlisted += usize::from(!has_room);
        has_room
    }
}

fn either<'n>(
    old: impl Iterator<Item = &'n Spanned<String>>,
    new: impl Iterator<Item = &'n Spanned<String>>,
) -> Vec<&'n str> {
    let mut seen = HashSet::new();
    old.chain(new)
        .map(|name| name.as_str())
        .filter(|name| seen.insert(*name))
        .collect()
}

/// What is behind a service, as text.
fn backend(section: &Service, source: &Source) -> String {
    let text = |key: &str, span: Option<Span>| {
        span.map(|span| format!("{key}: {}", written(source, span)))
    };
    let parts = [
        text("base_url", section.base_url.as_ref().map(|it| it.span)),
        text("targets", section.targets.as_ref().map(|it| it.span)),
        text(
            "load_balancing",
            section.load_balancing.as_ref().map(|it| it.span),
        ),
        text(
            "health_check",
            section.health_check.as_ref().map(|it| it.span),
        ),
        text("slow_start", section.slow_start.as_ref().map(|it| it.span)),
        text("tls", section.tls.as_ref().map(|it| it.span)),
        text(
            "outlier_detection",
            section.outlier_detection.as_ref().map(|it| it.span),
        ),
        text(
            "circuit_breaker",
            section.circuit_breaker.as_ref().map(|it| it.span),
        ),
        text(
            "host_header",
            section.host_header.as_ref().map(|it| it.span),
        ),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What tells a route from all others, whatever its place in the file.
#[derive(PartialEq, Eq, Hash)]
struct RouteKey<'c> {
    service: &'c str,
    path: Option<&'c str>,
    prefix: Option<&'c str>,
    conditions: String,
}

/// A route in its surroundings.
struct Found<'c> {
    config: &'c Config,
    service: &'c Service,
    route: &'c RouteFields,
}

fn routes(config: &Config) -> impl Iterator<Item = (RouteKey<'_>, Found<'_>)> {
    config.services.iter().flat_map(move |(name, service)| {
        service.value.routes.iter().map(move |route| {
            let key = RouteKey {
                service: name,
                path: route.path.as_ref().map(|it| it.as_str()),
                prefix: route.prefix.as_ref().map(|it| it.as_str()),
                conditions: conditions(route),
            };
            let found = Found {
                config,
                service: &service.value,
                route: &route.value.0,
            };
            (key, found)
        })
    })
}

fn conditions(route: &RouteFields) -> String {
    let mut parts: Vec<String> = route.methods.iter().map(ToString::to_string).collect();
    parts.extend(route.hosts.iter().map(|host| format!("host {host}")));
    let matches = [
        ("header", &route.headers_match),
        ("query", &route.query_match),
    ];
    for (kind, pairs) in matches {
        parts.extend(
            pairs
                .iter()
                .map(|(name, value)| format!("{kind} {name}={value}")),
        );
    }
    parts.join(", ")
}

impl RouteKey<'_> {
    fn name(&self) -> RouteName {
        let mut route = match (self.path, self.prefix) {
            (Some(path), _) => path.to_owned(),
            (None, Some(prefix)) => format!("{prefix} and below"),
            (None, None) => String::new(),
        };
        if !self.conditions.is_empty() {
            route = format!("{route} ({})", self.conditions);
        }
        RouteName {
            service: self.service.to_owned(),
            route,
        }
    }
}

fn compare_route(
    (before, (_, old)): (&Found<'_>, Side<'_>),
    (after, (_, new)): (&Found<'_>, Side<'_>),
) -> Vec<Change> {
    let mut changes = Vec::new();
    macro_rules! compare {
        ($($key:literal: $it:ident => $section:expr),+ $(,)?) => {$(
            let from = { let $it = before; $section };
            let to = { let $it = after; $section };
            if from.map(|it| &it.value) != to.map(|it| &it.value) {
                changes.push(Change {
                    key: $key.to_owned(),
                    from: from.map(|it| written(old, it.span)),
                    to: to.map(|it| written(new, it.span)),
                });
            }
        )+};
    }
    compare! {
        "rewrite": it => it.route.rewrite.as_ref(),
        "strip_prefix": it => it.route.strip_prefix.as_ref(),
        "redirect": it => it.route.redirect.as_ref(),
        "respond": it => it.route.respond.as_ref(),
        "split": it => it.route.split.as_ref(),
        "split_by": it => it.route.split_by.as_ref(),
        "mirror": it => it.route.mirror.as_ref(),
        "access": it => it.nearest(|place| place.access),
        "rate_limit": it => it.nearest(|place| place.rate_limit),
        "rate_limit_cost": it => it.nearest(|place| place.rate_limit_cost),
        "concurrency_limit": it => it.nearest(|place| place.concurrency_limit),
        "bandwidth_limit": it => it.nearest(|place| place.bandwidth_limit),
        "cors": it => it.nearest(|place| place.cors),
        "auth": it => it.nearest(|place| place.auth),
        "security_headers": it => it.nearest(|place| place.security_headers),
        "cache": it => it.nearest(|place| place.cache),
        "timeouts": it => it.nearest(|place| place.timeouts),
        "retry": it => it.nearest(|place| place.retry),
        "fallback": it => it.nearest(|place| place.fallback),
        "priority": it => it.nearest(|place| place.priority),
        "grpc_web": it => it.nearest(|place| place.grpc_web),
        "body_limit": it => it.nearest(|place| place.body_limit),
    }
    let edits = [before, after].map(|it| it.nearest(|place| place.headers));
    if let [from, to] = edits.map(|it| it.map(|it| &it.value))
        && from != to
    {
        changes.push(Change {
            key: "headers".to_owned(),
            from: edits[0].map(|it| written_edits(old, it)),
            to: edits[1].map(|it| written_edits(new, it)),
        });
    }
    let short = |it: &Found<'_>| {
        let is_inherited = it.nearest(|place| place.rate_limit).is_none();
        let (count, window) = (&it.config.rate_limit_count, &it.config.rate_limit_window);
        is_inherited
            .then(|| count.as_ref().zip(window.as_ref()))
            .flatten()
            .map(|(count, window)| format!("{count} in {window}"))
    };
    let (from, to) = (short(before), short(after));
    if from != to {
        let key = "rate_limit".to_owned();
        changes.push(Change { key, from, to });
    }
    changes
}

impl<'c> Found<'c> {
    /// The section that is in force for this route.
    fn nearest<T>(
        &self,
        policy: impl Fn(&Written<'c>) -> &'c Option<Spanned<T>>,
    ) -> Option<&'c Spanned<T>> {
        let places = [
            Written::from(self.route),
            Written::from(self.service),
            Written::from(self.config),
        ];
        places.iter().find_map(|place| policy(place).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, parse};

    fn load(text: &str) -> Loaded {
        let loaded = parse(Source::new("t.yaml", text), &|_| None);
        assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
        loaded
    }

    fn between(old: &str, new: &str) -> Changes {
        let (old, new) = (load(old), load(new));
        Changes::between(
            (&old.config, &old.source),
            (&new.config, &new.source),
            &old.config,
        )
    }

    const OLD: &str = "rate_limit: { limit: 5, window: 1s }\nservices:\n  a:\n    base_url: http://h:1\n    routes: [/x, { path: /y, methods: [GET], rate_limit: off }, /z]\n";

    #[test]
    fn moving_and_commenting_changes_nothing() {
        let moved = "services:\n  a:\n    routes: [/z, /x, { path: /y, rate_limit: off, methods: [GET] }] # all\n    base_url: \"http://h:1\"\nrate_limit: { window: 1000ms, limit: 5 }\n";
        let changes = between(OLD, moved);
        assert!(changes.routes() == 0, "{changes:?}");
    }

    #[test]
    fn an_outer_policy_changes_the_routes_that_inherit_it() {
        let changes = between(OLD, &OLD.replace("limit: 5", "limit: 6"));
        let names: Vec<_> = changes.changed.iter().map(|it| &*it.name.route).collect();
        assert_eq!(names, ["/x", "/z"]);
        let change = &changes.changed[0].changes[0];
        assert_eq!(change.key, "rate_limit");
        assert_eq!(change.from.as_deref(), Some("{ limit: 5, window: 1s }"));
        assert_eq!(change.to.as_deref(), Some("{ limit: 6, window: 1s }"));
    }

    #[test]
    fn routes_come_and_go() {
        let changes = between(OLD, &OLD.replace("methods: [GET]", "methods: [POST]"));
        assert_eq!(changes.added[0].route, "/y (POST)");
        assert_eq!(changes.removed[0].route, "/y (GET)");
        assert!(changes.changed.is_empty());
    }

    #[test]
    fn a_backend_and_a_secret_are_settings() {
        let old = format!(
            "{OLD}auth_providers: {{ m: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: first-secret-0123456789-0123456789 }} }} }} }}\n"
        );
        let new = old.replace("h:1", "h:2").replace("first", "other");
        let changes = between(&old, &new);
        let keys: Vec<_> = changes.settings.iter().map(|it| &*it.key).collect();
        assert_eq!(keys, ["auth_providers.m", "services.a"]);
        assert!(
            !format!("{changes:?}").contains("secret-0123"),
            "{changes:?}"
        );
    }

    #[test]
    fn consumers_and_groups_are_settings_too() {
        let old = format!("{OLD}consumers: {{ acme: {{ groups: [gold] }} }}\n");
        let new = old.replace("[gold]", "[blue]") + "consumer_groups: { blue: {} }\n";
        let changes = between(&old, &new);
        let keys: Vec<_> = changes.settings.iter().map(|it| &*it.key).collect();
        assert_eq!(keys, ["consumers.acme", "consumer_groups.blue"]);
        assert_eq!(
            changes.settings[0].from.as_deref(),
            Some("{ groups: [gold] }")
        );
    }

    #[test]
    fn what_is_fixed_at_the_start_needs_an_upgrade_until_it_is_back() {
        let first = load(OLD);
        let more = load(&format!(
            "{OLD}server: {{ threads: 7, watch_files: false }}\n"
        ));
        let changes = Changes::between(
            (&first.config, &first.source),
            (&more.config, &more.source),
            &first.config,
        );
        assert_eq!(changes.needs_upgrade, ["server.threads"]);
        let again = Changes::between(
            (&more.config, &more.source),
            (&more.config, &more.source),
            &first.config,
        );
        assert!(again.is_empty());
        assert_eq!(again.needs_upgrade, ["server.threads"]);
    }

    #[test]
    fn very_many_routes_are_counted() {
        let many: String = (0..2000)
            .map(|number| format!("      - /r{number}\n"))
            .collect();
        let changes = between(
            "services: {}\n",
            &format!("services:\n  a:\n    base_url: http://h:1\n    routes:\n{many}"),
        );
        assert_eq!((changes.added.len(), changes.unlisted), (1000, 1000));
    }
}
