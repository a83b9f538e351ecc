//! The routes, with what becomes of their requests and what these must pass.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::explain::PolicyReport;
use super::in_force::Configured;
use crate::config::LineIndex;
use crate::snapshot::{Action, Route, policy_lines};

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteReport {
    /// Its path or prefix, by which logs and metrics know it.
    pub name: String,
    /// The service that it stands in.
    pub service: String,
    /// Where it is written: `file:line:column`.
    pub place: String,
    /// The methods it takes; none means any.
    pub methods: Vec<String>,
    /// The hosts it takes; none means any.
    pub hosts: Vec<String>,
    /// The path or prefix it takes.
    pub path: String,
    /// What of a path it compares.
    pub kind: RouteKind,
    /// What becomes of its requests.
    pub action: RouteAction,
    /// The services that share its requests, by their weights.
    pub services: Vec<Weighted>,
    /// What its requests must pass, in the order in which they do.
    pub policies: Vec<PolicyReport>,
    /// Its requests since the start of the process. Not there if they are not counted apart; routes of one name
    /// and service are counted together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Those of them that were answered with 5xx or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
}

/// What of a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// All of it.
    Exact,
    /// All of it, but for parameters.
    Template,
    /// How it begins.
    Prefix,
}

impl std::fmt::Display for RouteKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Template => "template",
            Self::Prefix => "prefix",
        })
    }
}

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteAction {
    /// They are forwarded.
    Forward,
    /// Clients are sent elsewhere.
    Redirect,
    /// The gateway answers.
    Respond,
}

/// A service and its weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Weighted {
    /// The service.
    pub service: String,
    /// Its weight against the others'.
    pub weight: u32,
}

pub(super) fn show(in_force: &Configured) -> Answer {
    let places = LineIndex::of(&in_force.source);
    let routes = in_force.snapshot.routes().iter();
    let reports: Vec<_> = routes
        .map(|route| RouteReport::of(route, in_force, &places))
        .collect();
    Answer::json(StatusCode::OK, &reports)
}

impl RouteReport {
    fn of(route: &Route, in_force: &Configured, places: &LineIndex<'_>) -> Self {
        let written = route.written(&in_force.config).map(|(_, fields)| fields);
        let texts = |list: &[crate::config::Spanned<String>]| -> Vec<String> {
            list.iter().map(|it| it.value.clone()).collect()
        };
        let services = route.forward().map(|forward| forward.split.services());
        let weighted = services
            .into_iter()
            .flatten()
            .map(|(service, weight)| Weighted {
                service: service.name.to_string(),
                weight,
            });
        let meter = Some(&route.meter).filter(|it| it.is_own());
        let outcomes = meter.map(|it| it.read().0.outcomes);
        let policies = policy_lines(route, &in_force.config, &in_force.source);
        Self {
            name: route.name.to_string(),
            service: route.service.to_string(),
            place: places.locate(route.span),
            methods: written.map(|it| texts(&it.methods)).unwrap_or_default(),
            hosts: written.map(|it| texts(&it.hosts)).unwrap_or_default(),
            path: route.name.to_string(),
            kind: match written.and_then(|it| it.path.as_ref()) {
                None => RouteKind::Prefix,
                Some(path) if path.contains('{') => RouteKind::Template,
                Some(_) => RouteKind::Exact,
            },
            action: match route.action {
                Action::Forward(_) => RouteAction::Forward,
                Action::Redirect(_) => RouteAction::Redirect,
                Action::Respond(_) => RouteAction::Respond,
            },
            services: weighted.collect(),
            policies: policies
                .into_iter()
                .map(|line| PolicyReport::of(line, |span| places.locate(span)))
                .collect(),
            requests: outcomes.map(|it| it.requests),
            errors: outcomes.map(|it| it.errors),
        }
    }
}
