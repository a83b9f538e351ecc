//! Cross-origin requests (Fetch Standard, section 3.2, "HTTP CORS protocol").

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::{self, Diagnostics, Span, Spanned};

/// Which origins' scripts may call, and how.
#[derive(Debug)]
pub struct Cors {
    /// Empty: every origin.
    origins: Box<[HeaderValue]>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
}

/// What a request is to the cross-origin rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preflight {
    /// A browser asks whether it may send a request; the answer is 204, whatever it says.
    Asked,
    /// An ordinary request.
    No,
}

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Cors {
    /// Compiles a section, or reports why it can't be.
    pub fn compile(
        section: &config::Cors,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let is_any = section.origins.iter().any(|origin| origin.value == "*");
        if is_any && section.origins.0.len() > 1 {
            let first = &section.origins.0[0];
            diagnostics
                .error(
                    first.span,
                    "`\"*\"` allows every origin, so the others have no effect",
                )
                .help("write `\"*\"` alone, or list the origins without it");
        }
        if is_any && section.credentials {
            let any = section.origins.iter().find(|origin| origin.value == "*");
            diagnostics
                .error(
                    any.map_or_else(Default::default, |any| any.span),
                    "`credentials: true` can't be combined with every origin",
                )
                .help(
                    "list the origins that may send credentials; browsers refuse the combination",
                );
            return None;
        }
        if section.origins.0.is_empty() {
            diagnostics
                .error(span, "`origins` is empty, so no origin is allowed")
                .help("list origins such as `https://shop.example.com`, or write `cors: off`");
            return None;
        }
        let mut is_complete = true;
        let mut origins = Vec::new();
        for origin in section.origins.iter().filter(|origin| origin.value != "*") {
            match check_origin(origin, diagnostics) {
                Some(value) => origins.push(value),
                None => is_complete = false,
            }
        }
        for method in &section.methods {
            if Method::from_bytes(method.as_bytes()).is_err()
                || method.as_str() != method.to_uppercase()
            {
                diagnostics
                    .error(method.span, format!("`{method}` is not a method"))
                    .help("methods are written in capitals, such as `GET`");
                is_complete = false;
            }
        }
        let mut names = |list: &[Spanned<String>]| {
            for name in list {
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    diagnostics.error(name.span, format!("`{name}` is not a header name"));
                    is_complete = false;
                }
            }
            joined(list)
        };
        let headers = names(&section.headers);
        let exposed = names(&section.expose_headers);
        is_complete.then(|| Self {
            origins: if is_any {
                Box::default()
            } else {
                origins.into()
            },
            methods: joined(&section.methods).unwrap_or(HeaderValue::from_static("")),
            headers,
            exposed,
            max_age: HeaderValue::from(section.max_age.0.as_secs()),
            credentials: section.credentials,
        })
    }

    /// Whether the request is a preflight.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Preflight {
        if *method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            Preflight::Asked
        } else {
            Preflight::No
        }
    }

    /// Adds what a response to a request with these headers must say. A backend's own answer to the
    /// same question is replaced, so that there is one.
    pub fn apply(&self, request: &HeaderMap, preflight: Preflight, response: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            response.remove(&name);
        }
        let is_any = self.origins.is_empty();
        if !is_any {
            // Caches must not give one origin's answer to another, with or without an origin.
            response.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = request.get(header::ORIGIN) else {
            return;
        };
        if is_any {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        } else if self.origins.contains(origin) {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        } else {
            return;
        }
        if self.credentials {
            response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if preflight == Preflight::No {
            if let Some(exposed) = &self.exposed {
                response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
            return;
        }
        response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(headers) = &self.headers {
            response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        response.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
    }
}

/// An origin is a scheme, a host and a port, and nothing behind them.
fn check_origin(origin: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<HeaderValue> {
    if origin.value == "null" {
        diagnostics
            .error(
                origin.span,
                "the origin `null` stands for every sandboxed page",
            )
            .help("list the real origins");
        return None;
    }
    let is_bare = origin
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string())))
        .is_some_and(|(scheme, authority)| {
            origin.value == format!("{scheme}://{authority}") && !authority.contains('@')
        });
    if !is_bare || origin.chars().any(|c| c.is_ascii_uppercase()) {
        let near = origin.trim_end_matches('/').to_lowercase();
        diagnostics
            .error(origin.span, format!("`{origin}` is not an origin"))
            .help(format!(
                "an origin is a scheme, a host and maybe a port, in lower case and without a path: {}",
                if near.contains("://") { format!("`{near}`") } else { format!("`https://{near}`") }
            ));
        return None;
    }
    HeaderValue::from_str(origin).ok()
}

fn joined(list: &[Spanned<String>]) -> Option<HeaderValue> {
    let text = list
        .iter()
        .map(|item| item.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    if text.is_empty() {
        None
    } else {
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OneOrMany, Period};

    fn section(origins: &[&str], credentials: bool) -> config::Cors {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned().into()).collect();
        config::Cors {
            origins: OneOrMany(list(origins)),
            methods: list(&["GET", "PUT"]),
            headers: list(&["X-Token"]),
            expose_headers: list(&["X-Total"]),
            credentials,
            max_age: Period::seconds(60),
        }
    }

    fn response(cors: &Cors, origin: Option<&str>, preflight: Preflight) -> HeaderMap {
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let mut response = HeaderMap::new();
        response.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            "https://evil.example".parse().unwrap(),
        );
        cors.apply(&request, preflight, &mut response);
        response
    }

    #[test]
    fn a_listed_origin_is_allowed_and_another_is_not() {
        let cors = Cors::compile(
            &section(&["https://a.example"], true),
            Span::default(),
            &mut Diagnostics::default(),
        );
        let cors = cors.unwrap();
        let allowed = response(&cors, Some("https://a.example"), Preflight::Asked);
        assert_eq!(
            allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://a.example"
        );
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
        assert_eq!(allowed[header::ACCESS_CONTROL_MAX_AGE], "60");
        assert_eq!(allowed[header::VARY], "Origin");
        let refused = response(&cors, Some("https://b.example"), Preflight::No);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[header::VARY], "Origin");
    }

    #[test]
    fn every_origin_needs_no_vary() {
        let cors = Cors::compile(
            &section(&["*"], false),
            Span::default(),
            &mut Diagnostics::default(),
        )
        .unwrap();
        let allowed = response(&cors, Some("https://b.example"), Preflight::No);
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(allowed[header::ACCESS_CONTROL_EXPOSE_HEADERS], "X-Total");
        assert!(!allowed.contains_key(header::VARY));
        assert!(response(&cors, None, Preflight::No).is_empty());
    }

    #[test]
    fn dangerous_and_broken_origins_are_refused() {
        for (origins, credentials) in [
            (&["*"][..], true),
            (&["null"], false),
            (&["https://a.example/"], false),
            (&["https://A.example"], false),
            (&["a.example"], false),
            (&[], false),
        ] {
            let mut diagnostics = Diagnostics::default();
            assert!(
                Cors::compile(
                    &section(origins, credentials),
                    Span::default(),
                    &mut diagnostics
                )
                .is_none()
            );
            assert!(diagnostics.has_errors(), "{origins:?}");
        }
    }
}
