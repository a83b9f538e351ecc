//! `tollgate explain`.

use std::fmt::Write;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::configuration::print;
use super::credentials::{self, now};
use super::{ConfigFile, Failure, caching};
use crate::auth::Credentials;
use crate::config::Source;
use crate::routing::Reason;
use crate::snapshot::{Action, Decision, Explanation, Level, PolicyLine, Route, explain as decide};

/// Width of the names of policies, unless there is a longer one.
const NAME_WIDTH: usize = 11;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The method
    #[arg(
        short = 'X',
        long = "request",
        value_name = "METHOD",
        default_value = "GET"
    )]
    method: Method,
    /// A header field, as `Name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The URL, or only its path
    url: Uri,
}

/// Prints what would become of a request.
pub(super) fn explain(arguments: &Arguments) -> Result<(), Failure> {
    let usable = arguments.file.compile()?;
    let headers = fields(arguments)?;
    let (config, source) = (&usable.loaded.config, &usable.loaded.source);
    let explanation = decide(
        &usable.snapshot,
        config,
        source,
        &arguments.method,
        &arguments.url,
        &headers,
    )
    .map_err(|error| Failure::Other(format!("400 Bad request: {error}")))?;
    let mut text = describe(&explanation, arguments, source);
    if let Decision::Route { route, .. } = &explanation.decision
        && let (Some(policy), Some(_)) = (&route.policies.cache, route.forward())
    {
        let target = (&*explanation.path, arguments.url.query());
        let method = &arguments.method;
        text.push_str(&caching::describe(policy, method, target, &headers));
    }
    if let Decision::Route {
        route, parameters, ..
    } = &explanation.decision
        && let Some(rule) = &route.policies.auth
    {
        let credentials = Credentials {
            method: &arguments.method,
            uri: &arguments.url,
            headers: &headers,
            is_from_trusted_proxy: false,
            now: now(),
        };
        let parameter = |index| parameters.get(index, &explanation.path).unwrap_or_default();
        text.push_str(&credentials::describe(
            rule,
            credentials,
            &parameter,
            &usable.state,
        )?);
    }
    print(&text)
}

fn fields(arguments: &Arguments) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(authority) = arguments.url.authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|error| Failure::Other(error.to_string()))?;
        headers.insert(header::HOST, host);
    }
    for field in &arguments.headers {
        let parsed = field.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = parsed else {
            return Err(Failure::Other(format!(
                "`{field}` is not a header field: write `Name: value`"
            )));
        };
        if name == header::HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

fn describe(explanation: &Explanation<'_>, arguments: &Arguments, source: &Source) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} {}", arguments.method, arguments.url);
    if explanation.path != arguments.url.path() {
        let _ = writeln!(out, "  path      {} (made canonical)", explanation.path);
    }
    match &explanation.decision {
        Decision::Route {
            route,
            policies,
            urls,
            ..
        } => {
            describe_route(route, policies, urls, source, &mut out);
        }
        Decision::MethodNotAllowed(allow) => {
            let allow: Vec<&str> = allow.iter().map(Method::as_str).collect();
            let _ = writeln!(
                out,
                "  answer    405 Method not allowed; the path takes {}",
                allow.join(", ")
            );
        }
        Decision::NotFound => {
            let _ = writeln!(
                out,
                "  answer    404 Not found: no route takes this request"
            );
        }
    }
    let found = match &explanation.decision {
        Decision::Route { route, .. } => Some(std::ptr::from_ref::<Route>(route)),
        _ => None,
    };
    let others: Vec<_> = explanation
        .candidates
        .iter()
        .filter(|(route, _)| found != Some(std::ptr::from_ref::<Route>(route)))
        .collect();
    if !others.is_empty() {
        let _ = writeln!(out, "\nnot taken");
    }
    for (route, reasons) in others {
        let _ = writeln!(
            out,
            "  {} of {}  {}\n    {}",
            route.name,
            route.service,
            source.locate(route.span),
            why_not(reasons)
        );
    }
    out
}

fn describe_route(
    route: &Route,
    policies: &[PolicyLine],
    urls: &[String],
    source: &Source,
    out: &mut String,
) {
    let _ = writeln!(
        out,
        "  route     {}  {}",
        route.name,
        source.locate(route.span)
    );
    let _ = writeln!(out, "  service   {}", services(route));
    match &route.action {
        Action::Forward(forward) => {
            if let Some(mirror) = &forward.mirror {
                let _ = writeln!(
                    out,
                    "  mirror    {}, {}%",
                    mirror.service.name, mirror.share
                );
            }
        }
        Action::Redirect(redirect) => {
            let _ = writeln!(out, "  answer    redirect with {}", redirect.status);
        }
        Action::Respond(respond) => {
            let _ = writeln!(
                out,
                "  answer    {}, {} bytes",
                respond.status,
                respond.body.len()
            );
        }
    }
    for (index, url) in urls.iter().enumerate() {
        let _ = writeln!(
            out,
            "  {} {url}",
            if index == 0 { "upstream " } else { "       or" }
        );
    }
    let _ = writeln!(out, "\npolicies, in the order in which they run");
    let longest = policies.iter().map(|policy| policy.name.len()).max();
    let width = longest.unwrap_or_default().max(NAME_WIDTH);
    for policy in policies {
        let level = match policy.level {
            Some(Level::Top) => "top level",
            Some(Level::Service) => "service",
            Some(Level::Route) => "route",
            None => "default",
        };
        let place = policy
            .span
            .map(|span| source.locate(span))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  {:<width$} {}\n  {:<width$} {level}  {place}",
            policy.name, policy.text, ""
        );
    }
}

/// The service of a route, or those that share its requests.
fn services(route: &Route) -> String {
    let Some(forward) = route.forward() else {
        return route.service.to_string();
    };
    let services: Vec<_> = forward.split.services().collect();
    match services[..] {
        [(only, _)] => only.name.to_string(),
        _ => {
            let total = f64::from(forward.split.total());
            let parts = services.iter().map(|(service, weight)| {
                format!(
                    "{} {:.1}%",
                    service.name,
                    f64::from(*weight) * 100.0 / total
                )
            });
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

fn why_not(reasons: &[Reason]) -> String {
    if reasons.is_empty() {
        return "another route goes before it".to_owned();
    }
    reasons
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
