//! What would become of a request, and why: what `GET /explain` answers and `tollgate explain` prints.

mod cache;
mod credentials;
mod request;

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::cache::Kept;
pub use self::credentials::{Condition, Outcome, ShownCredentials};
pub use self::request::Asked;
use super::answer::Answer;
use super::in_force::Configured;
use crate::config::Span;
use crate::routing::{PathError, Reason};
use crate::snapshot::{self, Action, Decision, Level, PolicyLine, Route};

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// The path as routes see it.
    pub path: String,
    /// What is decided.
    pub decision: Decided,
    /// Where another method is needed: those that the path takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Where a route takes it: what becomes of it there.
    #[serde(flatten)]
    pub taken: Option<Taken>,
    /// Routes that nearly take it, or that another one goes before.
    pub not_taken: Vec<NotTaken>,
}

/// What is decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// A route takes it.
    Route,
    /// 405.
    MethodNotAllowed,
    /// 404.
    NotFound,
}

/// What becomes of a request that a route takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// The route's path or prefix.
    pub route: String,
    /// The service that it stands in.
    pub service: String,
    /// Where it is written: `file:line:column`.
    pub place: String,
    /// The services that share its requests.
    pub services: Vec<Part>,
    /// Who gets copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Part>,
    /// What the route answers itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<OwnAnswer>,
    /// The URLs that backends are asked for.
    pub urls: Vec<String>,
    /// What it must pass, in the order in which it does.
    pub policies: Vec<PolicyReport>,
    /// Whether an answer is looked for among those that are kept, if the route keeps some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Kept>,
    /// What becomes of its credentials, if the route asks for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ShownCredentials>,
}

/// A service and its share of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// The service.
    pub service: String,
    /// Its share.
    pub percent: f64,
}

/// What a route answers itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnAnswer {
    /// The status.
    pub status: u16,
    /// The bytes of the body; none of a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// A policy in force, or switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReport {
    /// Its key.
    pub name: String,
    /// The text that sets it, without credentials.
    pub text: String,
    /// On which level it is written.
    pub level: PolicyLevel,
    /// Where: `file:line:column`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// Where a policy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyLevel {
    /// At the top: for all routes.
    Top,
    /// In the service.
    Service,
    /// In the route.
    Route,
    /// Nowhere.
    Default,
}

/// A route that does not take a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotTaken {
    /// Its path or prefix.
    pub route: String,
    /// The service that it stands in.
    pub service: String,
    /// Where it is written: `file:line:column`.
    pub place: String,
    /// Why it does not.
    pub reasons: Vec<String>,
}

/// Answers `GET /explain`.
pub(super) async fn answer(in_force: &Arc<Configured>, query: &str) -> Answer {
    let wrong = |text: String| Answer::text(StatusCode::BAD_REQUEST, &text);
    let asked = match Asked::read(query) {
        Ok(asked) => asked,
        Err(text) => return wrong(text),
    };
    match explain(in_force, &asked).await {
        Ok(explained) => Answer::json(StatusCode::OK, &explained),
        Err(error) => wrong(error.to_string()),
    }
}

/// Explains a request. Nobody is asked on the network, and nothing is counted or used up.
///
/// # Errors
/// When the path is refused before any route is looked for.
pub async fn explain(configured: &Configured, asked: &Asked) -> Result<Explained, PathError> {
    let Configured {
        snapshot,
        config,
        source,
    } = configured;
    let (method, url, headers) = (&asked.method, &asked.url, &asked.headers);
    let explanation = snapshot::explain(snapshot, config, source, method, url, headers)?;
    let locate = |span| source.locate(span);
    let mut explained = Explained {
        path: explanation.path,
        decision: Decided::NotFound,
        allow: Vec::new(),
        taken: None,
        not_taken: Vec::new(),
    };
    let mut found = None;
    match explanation.decision {
        Decision::NotFound => {}
        Decision::MethodNotAllowed(allow) => {
            explained.decision = Decided::MethodNotAllowed;
            explained.allow = allow.iter().map(ToString::to_string).collect();
        }
        Decision::Route {
            route,
            policies,
            urls,
            parameters,
        } => {
            found = Some(route);
            let mut taken = Taken::by(route, urls, locate(route.span));
            let policies = policies.into_iter();
            taken.policies = policies.map(|it| PolicyReport::of(it, locate)).collect();
            let disk = snapshot.settings.cache_disk.as_ref();
            taken.cache = cache::find(route, asked, &explained.path, disk);
            let path = &explained.path;
            let parameter = |index| parameters.get(index, path).unwrap_or_default();
            taken.credentials = credentials::judge(route, asked, &parameter).await;
            explained.decision = Decided::Route;
            explained.taken = Some(taken);
        }
    }
    let others = explanation
        .candidates
        .iter()
        .filter(|(route, _)| found.is_none_or(|found| !std::ptr::eq::<Route>(found, *route)));
    explained.not_taken = others
        .map(|(route, reasons)| NotTaken {
            route: route.name.to_string(),
            service: route.service.to_string(),
            place: locate(route.span),
            reasons: why_not(reasons),
        })
        .collect();
    Ok(explained)
}

fn why_not(reasons: &[Reason]) -> Vec<String> {
    match reasons {
        [] => vec!["another route goes before it".to_owned()],
        _ => reasons.iter().map(ToString::to_string).collect(),
    }
}

impl Taken {
    fn by(route: &Route, urls: Vec<String>, place: String) -> Self {
        let (mut services, mut mirror, mut answer) = (Vec::new(), None, None);
        match &route.action {
            Action::Forward(forward) => {
                let total = f64::from(forward.split.total());
                services.extend(forward.split.services().map(|(service, weight)| Part {
                    service: service.name.to_string(),
                    percent: f64::from(weight) * 100.0 / total,
                }));
                mirror = forward.mirror.as_ref().map(|mirror| Part {
                    service: mirror.service.name.to_string(),
                    percent: mirror.share.into(),
                });
            }
            Action::Redirect(redirect) => {
                answer = Some(OwnAnswer {
                    status: redirect.status.as_u16(),
                    bytes: None,
                });
            }
            Action::Respond(respond) => {
                answer = Some(OwnAnswer {
                    status: respond.status.as_u16(),
                    bytes: Some(respond.body.len()),
                });
            }
        }
        Self {
            route: route.name.to_string(),
            service: route.service.to_string(),
            place,
            services,
            mirror,
            answer,
            urls,
            policies: Vec::new(),
            cache: None,
            credentials: None,
        }
    }
}

impl PolicyReport {
    pub(super) fn of(line: PolicyLine, locate: impl Fn(Span) -> String) -> Self {
        Self {
            name: line.name.to_owned(),
            text: line.text,
            level: match line.level {
                Some(Level::Top) => PolicyLevel::Top,
                Some(Level::Service) => PolicyLevel::Service,
                Some(Level::Route) => PolicyLevel::Route,
                None => PolicyLevel::Default,
            },
            place: line.span.map(locate),
        }
    }
}
