//! Which requests a route takes, from its section.

use http::{HeaderName, HeaderValue, Method};

use crate::config::{Diagnostics, RouteFields, Span, Spanned, nearest};
use crate::routing::{Conditions, Pattern};

/// Methods that a typo is compared with. Others are legal.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

/// The path of a route and its text as written.
pub(super) fn pattern<'c>(
    route: &'c RouteFields,
    span: Span,
    diagnostics: &mut Diagnostics,
) -> Option<(Pattern, &'c str)> {
    let (text, pattern) = match (&route.path, &route.prefix) {
        (Some(path), None) => (path, Pattern::path(path)),
        (None, Some(prefix)) => (prefix, Pattern::prefix(prefix)),
        (Some(path), Some(prefix)) => {
            diagnostics
                .error(prefix.span, "both `path` and `prefix` are given")
                .related(path.span, "`path` is here")
                .help("keep one: `path` takes exactly its own path, `prefix` all below it too");
            return None;
        }
        (None, None) => {
            if !diagnostics.has_lost(span, "path") {
                diagnostics.error(span, "this route has no path").help(
                    "write `path: /orders` for one path, or `prefix: /orders` for all below it",
                );
            }
            return None;
        }
    };
    match pattern {
        Ok(pattern) => Some((pattern, text.as_str())),
        Err((message, help)) => {
            diagnostics.error(text.span.or(span), message).help(help);
            None
        }
    }
}

/// What a request must have beyond host and path.
pub(super) fn conditions(route: &RouteFields, diagnostics: &mut Diagnostics) -> Conditions {
    let mut headers = Vec::new();
    for (name, value) in &route.headers_match {
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            diagnostics.error(name.span, format!("`{name}` is not a header name"));
            continue;
        };
        match HeaderValue::from_str(value) {
            Ok(value) => headers.push((parsed, value)),
            Err(_) => {
                diagnostics
                    .error(value.span, "this can't be the value of a header")
                    .help("values are printable characters on one line");
            }
        }
    }
    Conditions {
        methods: route
            .methods
            .iter()
            .filter_map(|method| parse_method(method, diagnostics))
            .collect(),
        headers: headers.into(),
        query: route
            .query_match
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect(),
    }
}

fn parse_method(method: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Method> {
    let upper = method.to_uppercase();
    if method.as_str() != upper {
        diagnostics
            .error(method.span, format!("`{method}` is not a method"))
            .help(format!("methods are written in capitals: `{upper}`"));
        return None;
    }
    let Ok(parsed) = Method::from_bytes(method.as_bytes()) else {
        diagnostics
            .error(method.span, format!("`{method}` is not a method"))
            .help("write a method such as `GET`");
        return None;
    };
    if parsed == Method::CONNECT {
        diagnostics
            .error(method.span, "`CONNECT` is never forwarded")
            .help("remove it");
        return None;
    }
    if !METHODS.contains(&method.as_str())
        && let Some(near) = nearest(method, METHODS)
    {
        diagnostics
            .warning(method.span, format!("`{method}` is an unusual method"))
            .help(format!("did you mean `{near}`?"));
    }
    Some(parsed)
}
