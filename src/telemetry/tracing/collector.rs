//! Where spans are sent, checked and resolved.

use std::path::Path;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use openssl::x509::X509;

use crate::config::{self, Diagnostics, Dictionary, OtlpFields, OtlpProtocol, Secret, Spanned};

/// What OTLP over HTTP puts behind a collector's address.
const PATH: &str = "/v1/traces";
/// The ports that collectors listen on.
const HTTP_PORT: u16 = 4318;
const GRPC_PORT: u16 = 4317;
/// Longest time-out, and longest time that spans wait to be sent.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(10);

/// Where spans are sent, and as whose.
#[derive(Clone, PartialEq)]
pub struct Collector {
    /// Its address, to the end of the path.
    pub endpoint: Uri,
    /// How it is talked to.
    pub protocol: OtlpProtocol,
    /// How long it may take to accept a batch.
    pub timeout: Duration,
    /// How long spans wait for others.
    pub interval: Duration,
    /// Who is trusted instead of the system's authorities, in PEM.
    pub authorities: Option<Box<str>>,
    pub(super) headers: HeaderMap,
    /// What the gateway says of itself.
    pub(super) resource: Vec<(String, String)>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// `Some(None)` if there is none; `None` if it is wrong, which has been reported.
    pub(super) fn compile(
        section: &config::Tracing,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Option<Self>> {
        let resource = resource(section, diagnostics);
        let Some(otlp) = &section.otlp else {
            return resource.map(|_| None);
        };
        let fields = &otlp.value.0;
        let place = fields.endpoint.span.or(otlp.span);
        let endpoint = endpoint(fields).map_err(|(message, help)| {
            diagnostics.error(place, message).help(help);
        });
        if let Ok(endpoint) = &endpoint
            && !diagnostics.has_lost(otlp.span, "protocol")
        {
            warn_of_port(endpoint, fields, place, diagnostics);
        }
        let headers = headers(&fields.headers, diagnostics);
        let authorities = authorities(fields, base, diagnostics);
        let mut is_sound = true;
        for (name, period) in [("timeout", &fields.timeout), ("interval", &fields.interval)] {
            if !(SHORTEST..=LONGEST).contains(&period.0) {
                diagnostics
                    .error(
                        period.span,
                        format!("`{name}` of {} is out of range", period.value),
                    )
                    .help("10ms to 1m");
                is_sound = false;
            }
        }
        let collector = Self {
            endpoint: endpoint.ok()?,
            protocol: fields.protocol.value,
            timeout: fields.timeout.0,
            interval: fields.interval.0,
            authorities: authorities?,
            headers: headers?,
            resource: resource?,
        };
        is_sound.then_some(Some(collector))
    }
}

/// The address in full, or what is wrong and what would be right.
fn endpoint(fields: &OtlpFields) -> Result<Uri, (String, String)> {
    let text = fields.endpoint.as_str();
    let example = match fields.protocol.value {
        OtlpProtocol::Http => "http://127.0.0.1:4318",
        OtlpProtocol::Grpc => "http://127.0.0.1:4317",
    };
    let wrong = |problem: &str| {
        let message = format!("`{text}` is not the URL of a collector: {problem}");
        (message, format!("write it as `{example}`"))
    };
    if !text.contains("://") {
        return Err(wrong("it has no scheme"));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("it can't be read"))?;
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()) {
        return Err(wrong("its scheme is neither `http` nor `https`"));
    }
    let authority = uri.authority().map_or("", |it| it.as_str());
    if authority.contains('@') {
        return Err((
            "credentials don't belong in the URL of a collector".to_owned(),
            "write `headers: { Authorization: ${NAME} }` beside it".to_owned(),
        ));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    let path = uri.path().trim_end_matches('/');
    let path = match fields.protocol.value {
        OtlpProtocol::Grpc if !path.is_empty() => return Err(wrong("gRPC has no path")),
        OtlpProtocol::Grpc => String::new(),
        OtlpProtocol::Http if path.ends_with(PATH) => path.to_owned(),
        OtlpProtocol::Http => format!("{path}{PATH}"),
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let full = format!("{scheme}://{authority}{path}");
    full.parse().map_err(|_| wrong("it can't be read"))
}

/// Who takes one port for the other gets nothing but failed exports.
fn warn_of_port(
    endpoint: &Uri,
    fields: &OtlpFields,
    place: config::Span,
    diagnostics: &mut Diagnostics,
) {
    let (other, word) = match fields.protocol.value {
        OtlpProtocol::Http => (GRPC_PORT, "grpc"),
        OtlpProtocol::Grpc => (HTTP_PORT, "http"),
    };
    if endpoint.port_u16() == Some(other) {
        diagnostics
            .warning(
                place,
                format!("on port {other} collectors listen for `{word}`"),
            )
            .help(format!("add `protocol: {word}`, or write the other port"));
    }
}

fn headers(
    written: &Dictionary<Spanned<Secret>>,
    diagnostics: &mut Diagnostics,
) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut is_sound = true;
    for (name, value) in written {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            diagnostics
                .error(name.span, format!("`{name}` is not a header name"))
                .help("names are letters, digits and `-`, such as `Authorization`");
            is_sound = false;
            continue;
        };
        // What it is stays untold: it may be half a secret.
        let Ok(mut text) = HeaderValue::from_str(value.expose()) else {
            diagnostics
                .error(value.span, "this can't be the value of a header field")
                .help("it may hold visible ASCII and spaces, and no line ends");
            is_sound = false;
            continue;
        };
        text.set_sensitive(true);
        headers.insert(name, text);
    }
    is_sound.then_some(headers)
}

/// `Some(None)` for the system's.
fn authorities(
    fields: &OtlpFields,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Option<Box<str>>> {
    let Some(file) = &fields.ca else {
        return Some(None);
    };
    let problem = match std::fs::read_to_string(base.join(file.as_str())) {
        Err(error) => format!("`{file}` can't be read: {error}"),
        Ok(text) => match X509::stack_from_pem(text.as_bytes()) {
            Ok(certificates) if !certificates.is_empty() => return Some(Some(text.into())),
            _ => format!("`{file}` holds no certificates"),
        },
    };
    diagnostics
        .error(file.span, problem)
        .help("name a PEM file; a relative path starts beside the configuration");
    None
}

fn resource(
    section: &config::Tracing,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(String, String)>> {
    let mut is_sound = true;
    let name = &section.service_name;
    if name.trim().is_empty() {
        diagnostics
            .error(name.span, "`service_name` is empty")
            .help("say what the gateway is called in traces, such as `tollgate`");
        is_sound = false;
    }
    let mut resource = vec![("service.name".to_owned(), name.value.clone())];
    for (key, value) in &section.resource {
        let problem = match key.trim() {
            "" => "a name in `resource` is empty",
            "service.name" => "`service_name` says that already",
            _ => "",
        };
        if !problem.is_empty() {
            diagnostics
                .error(key.span, problem)
                .help("names are such as `deployment.environment.name`");
            is_sound = false;
        }
        resource.push((key.value.clone(), value.value.clone()));
    }
    is_sound.then_some(resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, Toggle, parse};

    fn address(otlp: &str) -> Option<String> {
        let text = format!("tracing: {{ otlp: {otlp} }}");
        let loaded = parse(Source::new("t.yaml", text), &|_| None);
        let Some(Toggle::On(section)) = loaded.config.tracing.as_deref() else {
            panic!("{:?}", loaded.diagnostics)
        };
        let mut diagnostics = Diagnostics::default();
        let collector = Collector::compile(section, Path::new("."), &mut diagnostics)??;
        Some(collector.endpoint.to_string())
    }

    #[test]
    fn the_path_of_traces_is_put_behind_an_http_address_once() {
        let grpc = "{ endpoint: \"http://c:4317\", protocol: grpc }";
        for (otlp, expected) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp", "https://c/otlp/v1/traces"),
            ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
            (grpc, "http://c:4317/"),
        ] {
            assert_eq!(address(otlp).as_deref(), Some(expected), "{otlp}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for otlp in [
            "c:4318",
            "\"\"",
            "ftp://c",
            "http://",
            "\"http://u:p@c\"",
            "\"http://c/?a=b\"",
            "{ endpoint: \"http://c/path\", protocol: grpc }",
        ] {
            assert_eq!(address(otlp), None, "{otlp}");
        }
    }
}
