//! Cross-origin requests (Fetch Standard, section 3.2, "HTTP CORS protocol").

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::origin::Origins;
use crate::config::{self, Diagnostics, Span, Spanned};

/// Which origins' scripts may call, and how.
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: HeaderValue,
    credentials: bool,
    private_network: bool,
    /// What the answer to a preflight depends on.
    preflight_vary: HeaderValue,
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
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
/// Private Network Access: a page on the web asks for something on a private network.
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

impl Cors {
    /// Compiles a section, or reports why it can't be.
    pub fn compile(
        section: &config::Cors,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let origins = Origins::compile(&section.origins, span, diagnostics);
        let mut is_complete = true;
        if matches!(origins, Some(Origins::Any)) {
            is_complete = check_for_everybody(section, diagnostics);
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
        for name in section.headers.iter().chain(&section.expose_headers) {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                diagnostics.error(name.span, format!("`{name}` is not a header name"));
                is_complete = false;
            }
        }
        is_complete &= check_wildcards(section, diagnostics);
        let origins = origins.filter(|_| is_complete)?;
        let list = |words: &[Spanned<String>]| joined(words.iter().map(|word| word.as_str()));
        Some(Self {
            preflight_vary: preflight_vary(&origins, section.private_network)?,
            origins,
            methods: list(&section.methods).unwrap_or(HeaderValue::from_static("")),
            headers: list(&section.headers),
            exposed: list(&section.expose_headers),
            max_age: HeaderValue::from(section.max_age.0.as_secs()),
            credentials: section.credentials,
            private_network: section.private_network,
        })
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
        if preflight == Preflight::Asked {
            response.append(header::VARY, self.preflight_vary.clone());
        } else if !matches!(self.origins, Origins::Any) && !varies_by_origin(response) {
            // Caches must not give one origin's answer to another, with or without an origin.
            response.append(header::VARY, ORIGIN);
        }
        let Some(origin) = self.allowed(request) else {
            return;
        };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
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
        if self.private_network && request.get(REQUEST_PRIVATE_NETWORK) == Some(&TRUE) {
            response.insert(ALLOW_PRIVATE_NETWORK, TRUE);
        }
    }

    /// The origin that the answer names. Where every one is allowed, that is said to requests without
    /// one too, for a cache may keep the answer for others.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = request.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next(), &self.origins) {
            // Which of them it is nobody knows.
            (_, Some(_), _) => None,
            (_, None, Origins::Any) => Some(ANY),
            (Some(origin), None, listed) => listed.take(origin).then(|| origin.clone()),
            (None, None, _) => None,
        }
    }
}

/// What goes too far for every origin there is.
fn check_for_everybody(section: &config::Cors, diagnostics: &mut Diagnostics) -> bool {
    let any = section.origins.iter().find(|origin| origin.value == "*");
    let span = any.map_or_else(Span::default, |any| any.span);
    if section.private_network {
        diagnostics
            .warning(
                span,
                "`private_network: true` lets every page on the web call this",
            )
            .help("list the origins that may");
    }
    if section.credentials {
        diagnostics
            .error(
                span,
                "`credentials: true` can't be combined with every origin",
            )
            .help("list the origins that may send credentials; browsers refuse the combination");
    }
    !section.credentials
}

/// With credentials browsers take `*` for a name, which nothing has.
fn check_wildcards(section: &config::Cors, diagnostics: &mut Diagnostics) -> bool {
    let words = section.methods.iter().chain(&section.headers);
    let mut is_sound = true;
    for word in words.chain(&section.expose_headers) {
        if section.credentials && word.value == "*" {
            diagnostics
                .error(word.span, "`*` stands for nothing with `credentials: true`")
                .help("name each one");
            is_sound = false;
        }
    }
    is_sound
}

/// What the answer to a preflight depends on.
fn preflight_vary(origins: &Origins, private_network: bool) -> Option<HeaderValue> {
    let origin = (!matches!(origins, Origins::Any)).then_some("Origin");
    let always = [
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
    ];
    let network = private_network.then_some("Access-Control-Request-Private-Network");
    joined(origin.into_iter().chain(always).chain(network))
}

/// Whether a backend has told caches already.
fn varies_by_origin(response: &HeaderMap) -> bool {
    let lines = response.get_all(header::VARY).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|name| name.eq_ignore_ascii_case(b"origin") || name == b"*")
}

fn joined<'w>(words: impl Iterator<Item = &'w str>) -> Option<HeaderValue> {
    let text = words.collect::<Vec<_>>().join(", ");
    (!text.is_empty())
        .then(|| HeaderValue::from_str(&text).ok())
        .flatten()
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
            private_network: false,
            max_age: Period::seconds(60),
        }
    }

    fn compiled(section: &config::Cors) -> Cors {
        let mut diagnostics = Diagnostics::default();
        Cors::compile(section, Span::default(), &mut diagnostics).unwrap()
    }

    fn asked(cors: &Cors, request: &[(HeaderName, &str)], preflight: Preflight) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in request {
            fields.append(name, value.parse().unwrap());
        }
        let mut response = HeaderMap::new();
        response.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            "https://evil.example".parse().unwrap(),
        );
        cors.apply(&fields, preflight, &mut response);
        response
    }

    fn response(cors: &Cors, origin: &str, preflight: Preflight) -> HeaderMap {
        asked(cors, &[(header::ORIGIN, origin)], preflight)
    }

    #[test]
    fn a_listed_origin_is_allowed_and_another_is_not() {
        let cors = compiled(&section(&["https://a.example"], true));
        let allowed = response(&cors, "https://a.example", Preflight::Asked);
        assert_eq!(
            allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://a.example"
        );
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
        assert_eq!(allowed[header::ACCESS_CONTROL_MAX_AGE], "60");
        assert_eq!(
            allowed[header::VARY],
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        );
        let refused = response(&cors, "https://b.example", Preflight::No);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[header::VARY], "Origin");
    }

    #[test]
    fn every_origin_is_told_so_whether_or_not_there_is_one() {
        let cors = compiled(&section(&["*"], false));
        for request in [&[(header::ORIGIN, "https://b.example")][..], &[]] {
            let allowed = asked(&cors, request, Preflight::No);
            assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert_eq!(allowed[header::ACCESS_CONTROL_EXPOSE_HEADERS], "X-Total");
            assert!(!allowed.contains_key(header::VARY));
        }
    }

    #[test]
    fn two_origins_are_none() {
        for origins in ["*", "https://a.example"] {
            let cors = compiled(&section(&[origins], false));
            let twice = [1, 2].map(|_| (header::ORIGIN, "https://a.example"));
            let refused = asked(&cors, &twice, Preflight::Asked);
            assert_eq!(refused.keys().collect::<Vec<_>>(), [header::VARY]);
        }
    }

    #[test]
    fn a_backend_that_tells_caches_is_not_repeated() {
        let cors = compiled(&section(&["https://a.example"], false));
        for (told, lines) in [("accept, origin", 1), ("*", 1), ("Origin-Agent", 2)] {
            let mut response = HeaderMap::new();
            response.insert(header::VARY, HeaderValue::from_static(told));
            cors.apply(&HeaderMap::new(), Preflight::No, &mut response);
            assert_eq!(
                response.get_all(header::VARY).iter().count(),
                lines,
                "{told}"
            );
        }
    }

    #[test]
    fn a_private_network_is_opened_to_allowed_origins_that_ask() {
        let mut section = section(&["https://a.example"], false);
        let allows = |cors: &Cors, origin, preflight| {
            let request = [(header::ORIGIN, origin), (REQUEST_PRIVATE_NETWORK, "true")];
            asked(cors, &request, preflight).contains_key(ALLOW_PRIVATE_NETWORK)
        };
        let closed = compiled(&section);
        assert!(!allows(&closed, "https://a.example", Preflight::Asked));
        section.private_network = true;
        let open = compiled(&section);
        assert!(allows(&open, "https://a.example", Preflight::Asked));
        assert!(!allows(&open, "https://b.example", Preflight::Asked));
        assert!(!allows(&open, "https://a.example", Preflight::No));
        let unasked = response(&open, "https://a.example", Preflight::Asked);
        assert!(!unasked.contains_key(ALLOW_PRIVATE_NETWORK));
        let vary = unasked[header::VARY].to_str().unwrap();
        assert!(vary.ends_with(", Access-Control-Request-Private-Network"));
    }

    #[test]
    fn what_goes_too_far_is_refused() {
        let mut section = section(&["*"], true);
        let is_refused = |section: &config::Cors| {
            let mut diagnostics = Diagnostics::default();
            Cors::compile(section, Span::default(), &mut diagnostics).is_none()
                && diagnostics.has_errors()
        };
        assert!(is_refused(&section));
        section.origins.0[0] = "https://a.example".to_owned().into();
        assert!(!is_refused(&section));
        section.headers[0] = "*".to_owned().into();
        assert!(is_refused(&section));
    }
}
