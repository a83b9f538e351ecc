//! Why a request would go where it would go: the route and the near misses, each policy with the
//! place it is written, and what backends would be asked. For people, not for the way of a request.

use http::{HeaderMap, Method, Uri};

use super::policies::{Level, Written};
use super::route::{Action, Route};
use super::{Snapshot, policies};
use crate::config::{Config, HeaderEdits, Source, Span, Spanned, Toggle};
use crate::routing::{Outcome, Parameters, PathError, Reason, Request, canonical_path};

/// What would become of a request.
#[derive(Debug)]
pub struct Explanation<'s> {
    /// The path as routes see it.
    pub path: String,
    /// Routes that take the request or nearly do, best first, and what keeps each from it.
    pub candidates: Vec<(&'s Route, Vec<Reason>)>,
    /// What is decided.
    pub decision: Decision<'s>,
}

/// What is decided about a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// This route takes it.
    Route {
        /// The route.
        route: &'s Route,
        /// Its policies, in the order in which they run.
        policies: Vec<PolicyLine>,
        /// The URLs that backends would be asked for; empty if the route answers itself.
        urls: Vec<String>,
        /// Where the parameters are in the path.
        parameters: Parameters,
    },
    /// 405: only these methods.
    MethodNotAllowed(Vec<Method>),
    /// 404.
    NotFound,
}

/// A policy in force, or switched off.
#[derive(Debug)]
pub struct PolicyLine {
    /// Its key.
    pub name: &'static str,
    /// Where it is written; `None` for a default.
    pub level: Option<Level>,
    /// The text that sets it.
    pub text: String,
    /// The place of that text.
    pub span: Option<Span>,
}

/// Explains a request.
///
/// # Errors
/// When the path is refused before any route is looked for.
pub fn explain<'s>(
    snapshot: &'s Snapshot,
    config: &Config,
    source: &Source,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Explanation<'s>, PathError> {
    let path = canonical_path(uri.path())?.into_owned();
    let host = headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let request = Request {
        host,
        path: &path,
        query: uri.query(),
        method,
        headers,
    };
    let decision = match snapshot.find(&request) {
        Outcome::Found { value, parameters } => {
            let route = snapshot.route(value);
            Decision::Route {
                route,
                policies: policy_lines(route, config, source),
                urls: urls(route, &path, uri.query(), &parameters),
                parameters,
            }
        }
        Outcome::MethodNotAllowed { allow } => Decision::MethodNotAllowed(allow),
        Outcome::NotFound => Decision::NotFound,
    };
    let candidates = snapshot
        .table
        .explain(&request)
        .into_iter()
        .map(|candidate| (snapshot.route(candidate.value), candidate.reasons))
        .collect();
    Ok(Explanation {
        candidates,
        decision,
        path,
    })
}

fn urls(route: &Route, path: &str, query: Option<&str>, parameters: &Parameters) -> Vec<String> {
    let Action::Forward(forward) = &route.action else {
        return Vec::new();
    };
    let url = |(origin, prefix): (String, String)| {
        let mut target = prefix;
        let parameter = |index| parameters.get(index, path).unwrap_or_default();
        forward.rewrite.render(path, parameter, &mut target);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{origin}{target}{query}")
    };
    let services = forward.split.services();
    let targets = services.flat_map(|(service, _)| service.targets());
    targets.map(url).collect()
}

/// The places in which a policy of a route may be written, nearest first.
struct Places<'c>([(Level, Written<'c>); 3]);

/// The policies of a route, in the order in which they run. Credentials are not shown.
pub fn policy_lines(route: &Route, config: &Config, source: &Source) -> Vec<PolicyLine> {
    let Some((section, fields)) = route.written(config) else {
        return Vec::new();
    };
    let places = Places([
        (Level::Route, Written::from(fields)),
        (Level::Service, Written::from(section)),
        (Level::Top, Written::from(config)),
    ]);
    let lines = [
        places.line("redirect_https", source, |it| it.redirect_https),
        places.line("access", source, |it| it.access),
        places
            .line("rate_limit", source, |it| it.rate_limit)
            .or_else(|| short(config, source)),
        places.line("rate_limit_cost", source, |it| it.rate_limit_cost),
        places.line("cors", source, |it| it.cors),
        places.line("auth", source, |it| it.auth),
        places.line("concurrency_limit", source, |it| it.concurrency_limit),
        places.line("bandwidth_limit", source, |it| it.bandwidth_limit),
        places.line("security_headers", source, |it| it.security_headers),
        places.header_edits(source),
    ];
    let cache = places.line("cache", source, |it| it.cache);
    let timeouts = places.line("timeouts", source, |it| it.timeouts);
    let retry = places.line("retry", source, |it| it.retry);
    let fallback = places.line("fallback", source, |it| it.fallback);
    let priority = places.line("priority", source, |it| it.priority);
    let grpc_web = places.line("grpc_web", source, |it| it.grpc_web);
    let body_limit = places.line("body_limit", source, |it| it.body_limit);
    let default = |name, text| PolicyLine {
        name,
        level: None,
        text,
        span: None,
    };
    lines
        .into_iter()
        .flatten()
        .chain(cache)
        .chain([
            timeouts.unwrap_or_else(|| default("timeouts", timeouts_text(&route.policies))),
            retry.unwrap_or_else(|| default("retry", retry_text(&route.policies))),
            body_limit.unwrap_or_else(|| {
                default("body_limit", config.server.limits.body.value.to_string())
            }),
        ])
        .chain(fallback)
        .chain(priority)
        .chain(grpc_web)
        .collect()
}

/// The limit that `rateLimitWindow` and `rateLimitCount` mean.
fn short(config: &Config, source: &Source) -> Option<PolicyLine> {
    let (count, window) = (
        config.rate_limit_count.as_ref()?,
        config.rate_limit_window.as_ref()?,
    );
    Some(PolicyLine {
        name: "rate_limit",
        level: Some(Level::Top),
        text: format!(
            "{} in {}, by client_ip, fixed_window",
            written(source, count.span),
            written(source, window.span)
        ),
        span: Some(count.span),
    })
}

fn timeouts_text(policies: &policies::Policies) -> String {
    let timeouts = policies.timeouts;
    let limit = |limit: Option<std::time::Duration>| match limit {
        Some(limit) => format!("{limit:?}"),
        None => "off".to_owned(),
    };
    format!(
        "connect: {:?}, first_byte: {}, idle: {}, total: {}, websocket: {}",
        timeouts.connect,
        limit(timeouts.first_byte),
        limit(timeouts.idle),
        limit(timeouts.total),
        limit(timeouts.websocket)
    )
}

fn retry_text(policies: &policies::Policies) -> String {
    match &policies.retry {
        Some(retry) => format!("attempts: {}, budget: {}%", retry.attempts, retry.budget),
        None => "off".to_owned(),
    }
}

impl<'c> Places<'c> {
    fn header_edits(&self, source: &Source) -> Option<PolicyLine> {
        let line = self.line("headers", source, |it| it.headers)?;
        let edits = self
            .0
            .iter()
            .find_map(|(_, place)| place.headers.as_ref())?;
        Some(PolicyLine {
            text: written_edits(source, edits),
            ..line
        })
    }

    fn line<T: 'c>(
        &self,
        name: &'static str,
        source: &Source,
        policy: impl Fn(&Written<'c>) -> &'c Option<Spanned<T>>,
    ) -> Option<PolicyLine> {
        self.0.iter().find_map(|(level, place)| {
            let span = policy(place).as_ref()?.span;
            Some(PolicyLine {
                name,
                level: Some(*level),
                text: written(source, span),
                span: Some(span),
            })
        })
    }
}

/// The text at a place, on one line. Variables are shown as written, never with their value.
pub(super) fn written(source: &Source, span: Span) -> String {
    let Span { start, end } = extent(&source.text, span);
    on_one_line(source.text.get(start..end).unwrap_or_default())
}

/// The same of header edits, whose values may be credentials, which are not shown.
pub(super) fn written_edits(source: &Source, edits: &Spanned<Toggle<HeaderEdits>>) -> String {
    let whole = extent(&source.text, edits.span);
    let secrets = edits.on().into_iter().flat_map(HeaderEdits::credentials);
    let mut secrets: Vec<Span> = secrets
        .filter(|it| whole.start <= it.start && it.end <= whole.end)
        .collect();
    secrets.sort_by_key(|it| it.start);
    let mut shown = String::new();
    let mut at = whole.start;
    for secret in secrets {
        shown.push_str(source.text.get(at..secret.start).unwrap_or_default());
        shown.push_str("***");
        at = secret.end;
    }
    shown.push_str(source.text.get(at..whole.end).unwrap_or_default());
    on_one_line(&shown)
}

/// Where the text of a value stands.
fn extent(text: &str, span: Span) -> Span {
    let is_key = text
        .get(span.end..)
        .is_some_and(|rest| rest.starts_with(':'));
    match is_key {
        // The place of a block is its key: what it holds is indented below.
        true => block_below(text, span),
        false => span,
    }
}

fn on_one_line(value: &str) -> String {
    let lines: Vec<&str> = value
        .lines()
        .map(|line| line.split(" #").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    lines.join(" · ")
}

/// The lines below a key that are indented deeper than it.
fn block_below(text: &str, key: Span) -> Span {
    let line_start = text[..key.start].rfind('\n').map_or(0, |end| end + 1);
    let column = key.start - line_start;
    let start = text[key.end..]
        .find('\n')
        .map_or(text.len(), |end| key.end + end + 1);
    let mut end = start;
    for line in text[start..].split_inclusive('\n') {
        let is_deeper = line.len() - line.trim_start().len() > column;
        if !is_deeper && !line.trim().is_empty() {
            break;
        }
        end += line.len();
    }
    Span::new(start, end)
}
