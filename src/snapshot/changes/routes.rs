//! What is different about routes.

use std::collections::{HashMap, HashSet};

use super::super::explain::{written, written_edits};
use super::super::policies::Written;
use super::{Change, ChangedRoute, Changes, RouteName, Side};
use crate::config::{Config, RouteFields, Service, Spanned};

/// Routes listed by name; more are only counted.
const MOST_LISTED: usize = 1000;

impl Changes {
    pub(super) fn compare_routes(&mut self, old: Side<'_>, new: Side<'_>) {
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
        "redirect_https": it => it.nearest(|place| place.redirect_https),
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
