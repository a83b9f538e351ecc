//! What clients get when a service can't answer.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;

use super::route::Route;
use crate::config::{self, Diagnostics, FallbackOn, Span};
use crate::traffic::Respond;
use crate::upstream::Service;

/// What clients get instead of an error.
#[derive(Debug)]
pub struct Fallback {
    on: Box<[FallbackOn]>,
    /// What it is.
    pub instead: Instead,
}

/// What is there instead.
#[derive(Debug)]
pub enum Instead {
    /// An answer of the gateway's own.
    Answer(Respond),
    /// Another service.
    Service(Arc<Service>),
    /// The answer that was kept, if one was. It is asked for here.
    Stale(Span),
}

impl Fallback {
    /// Whether it is there for this.
    pub fn covers(&self, cause: FallbackOn) -> bool {
        self.on.contains(&cause)
    }

    /// Whether it is there for answers with this status.
    pub fn covers_status(&self, status: StatusCode) -> bool {
        self.covers(FallbackOn::Status(status.as_u16()))
    }

    /// Whether what it gives is an answer that was kept.
    pub fn is_stale(&self) -> bool {
        matches!(self.instead, Instead::Stale(_))
    }

    pub(super) fn compile(
        section: &config::Fallback,
        span: Span,
        services: &HashMap<&str, Option<Arc<Service>>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        if section.on.is_empty() && !diagnostics.has_error_within(span) {
            diagnostics
                .error(span, "`on` is empty, so the fallback would never be used")
                .help("leave it out for all failures, or write `fallback: off`");
        }
        for on in &section.on {
            if let FallbackOn::Status(status) = on.value
                && !(500..600).contains(&status)
            {
                diagnostics
                    .error(on.span, format!("{status} is no status to fall back on"))
                    .help("statuses from 500 to 599");
            }
        }
        let is_answer =
            section.status.is_some() || section.body.is_some() || !section.headers.is_empty();
        let stale = section.stale_cache.value.then_some(&section.stale_cache);
        if let Some(stale) = stale
            && (is_answer || section.service.is_some())
        {
            diagnostics
                .error(
                    stale.span,
                    "a fallback is either `stale_cache`, a `service` or an answer",
                )
                .help("keep `stale_cache`, or what else is written");
            return None;
        }
        let instead = match &section.service {
            _ if let Some(stale) = stale => Instead::Stale(stale.span),
            Some(name) if is_answer => {
                diagnostics
                    .error(name.span, "a fallback is either a `service` or an answer")
                    .help("keep `service`, or `status`, `headers` and `body`");
                return None;
            }
            Some(name) => Instead::Service(super::action::named(name, services, diagnostics)?),
            None => {
                let respond = config::Spanned::new(section.respond(), span);
                Instead::Answer(Respond::compile(&respond, diagnostics)?)
            }
        };
        Some(Self {
            on: section.on.iter().map(|it| it.value).collect(),
            instead,
        })
    }
}

/// A stale answer is there only where answers are kept.
pub(super) fn warn_if_nothing_is_kept(routes: &[Route], diagnostics: &mut Diagnostics) {
    let mut told = Vec::new();
    for route in routes {
        let Some(Instead::Stale(span)) = route.policies.fallback.as_deref().map(|it| &it.instead)
        else {
            continue;
        };
        if route.policies.cache.is_none() && !told.contains(span) {
            told.push(*span);
            diagnostics
                .warning(
                    *span,
                    format!(
                        "the route `{}` keeps no answers, so there is no stale one",
                        route.name
                    ),
                )
                .help("add `cache`, or another `fallback` there");
        }
    }
}
