//! What is different beside the routes.

use std::collections::HashSet;

use super::super::explain::written;
use super::super::own::settings;
use super::{Change, Changes, Side};
use crate::config::{Config, Service, Source, Span, Spanned};

impl Changes {
    pub(super) fn compare_settings(&mut self, old: &Config, new: &Config) {
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

    pub(super) fn compare_consumers(&mut self, (old, before): Side<'_>, (new, after): Side<'_>) {
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

    pub(super) fn compare_services(&mut self, old: Side<'_>, new: Side<'_>) {
        for name in either(old.0.services.keys(), new.0.services.keys()) {
            let before = old.0.services.get(name).map(|it| backend(it, old.1));
            let after = new.0.services.get(name).map(|it| backend(it, new.1));
            if before != after {
                self.note(format!("services.{name}"), before, after);
            }
        }
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
