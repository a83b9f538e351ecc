//! What spans are called and say: OpenTelemetry's conventions for HTTP, which are stable, and a few words of
//! the gateway's own that begin with `tollgate.`.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use http::{Method, Uri, Version};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use opentelemetry_semantic_conventions::attribute as names;

use super::id::SpanId;
use super::trace::{Attempt, Phase, Trace};

/// Methods that are told by their name (RFC 9110 §9, RFC 5789); the rest is `_OTHER`.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];
static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("tollgate")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
});

/// The spans of a request: itself, its phases, its attempts, and their connections.
pub(super) fn spans(trace: &Trace) -> Vec<SpanData> {
    let mut spans = Vec::with_capacity(1 + trace.phases.len() + 2 * trace.attempts.len());
    spans.push(server(trace));
    let mut limits = trace.span;
    for phase in &trace.phases {
        // Requests wait within the limits' decision.
        let parent = match phase.phase {
            Phase::Queue => limits,
            _ => trace.span,
        };
        limits = phase.span;
        let times = (phase.begun, phase.ended);
        let name = phase.phase.name();
        spans.push(span(
            trace,
            (phase.span, parent),
            (name, SpanKind::Internal),
            times,
        ));
    }
    for attempt in &trace.attempts {
        spans.push(client(trace, attempt));
        if let (Some(connected), false) = (attempt.connected, attempt.is_reused) {
            spans.push(span(
                trace,
                (SpanId::random(), attempt.span),
                ("connect", SpanKind::Internal),
                (attempt.begun, connected),
            ));
        }
    }
    spans
}

fn server(trace: &Trace) -> SpanData {
    let method = known(&trace.method);
    let name: Cow<'static, str> = match (&trace.route, method) {
        (Some(route), Some(method)) => format!("{method} {route}").into(),
        (Some(route), None) => format!("HTTP {route}").into(),
        (None, Some(method)) => method.as_str().to_owned().into(),
        (None, None) => "HTTP".into(),
    };
    let mut span = span(
        trace,
        (trace.span, trace.span),
        (name, SpanKind::Server),
        (Duration::ZERO, trace.took),
    );
    span.parent_span_is_remote = trace.parent.is_some();
    span.parent_span_id = match trace.parent {
        Some(parent) => parent.number().into(),
        None => opentelemetry::trace::SpanId::INVALID,
    };
    let scheme = if trace.is_tls { "https" } else { "http" };
    let told = &mut span.attributes;
    tell_method(&trace.method, told);
    tell(told, names::URL_SCHEME, scheme);
    tell(told, names::URL_PATH, trace.path.to_string());
    tell_some(told, names::HTTP_ROUTE, &trace.route);
    if let Some((address, port)) = trace.host.as_deref().and_then(|host| address(host, scheme)) {
        tell(told, names::SERVER_ADDRESS, address);
        told.push(KeyValue::new(names::SERVER_PORT, i64::from(port)));
    }
    if let Some(client) = trace.client {
        tell(told, names::CLIENT_ADDRESS, client.to_string());
    }
    tell_some(told, names::USER_AGENT_ORIGINAL, &trace.user_agent);
    let version = match trace.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    tell(told, names::NETWORK_PROTOCOL_VERSION, version);
    if trace.status != 0 {
        let status = i64::from(trace.status);
        told.push(KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, status));
    }
    tell_some(told, names::ERROR_TYPE, &trace.failure);
    tell(told, "tollgate.request_id", trace.id.to_string());
    tell_some(told, "tollgate.service", &trace.service);
    tell_some(told, "tollgate.consumer", &trace.consumer);
    if !trace.flags.is_empty() {
        let flags: Vec<StringValue> = trace.flags.iter().map(|flag| (*flag).into()).collect();
        told.push(KeyValue::new(
            "tollgate.flags",
            Value::Array(Array::String(flags)),
        ));
    }
    if trace.failure.is_some() {
        span.status = Status::error("");
    }
    span
}

fn client(trace: &Trace, attempt: &Attempt) -> SpanData {
    let name: Cow<'static, str> = match known(&trace.method) {
        Some(method) => method.as_str().to_owned().into(),
        None => "HTTP".into(),
    };
    let mut span = span(
        trace,
        (attempt.span, trace.span),
        (name, SpanKind::Client),
        (attempt.begun, attempt.ended),
    );
    let told = &mut span.attributes;
    tell_method(&trace.method, told);
    let endpoint = &attempt.endpoint;
    tell(told, names::URL_FULL, format!("{endpoint}{}", attempt.path));
    if let Some((scheme, host)) = endpoint.split_once("://")
        && let Some((address, port)) = address(host, scheme)
    {
        tell(told, names::SERVER_ADDRESS, address);
        told.push(KeyValue::new(names::SERVER_PORT, i64::from(port)));
    }
    if attempt.number > 1 {
        let before = i64::from(attempt.number - 1);
        told.push(KeyValue::new(names::HTTP_REQUEST_RESEND_COUNT, before));
    }
    let status = attempt.status;
    if let Some(status) = status {
        told.push(KeyValue::new(
            names::HTTP_RESPONSE_STATUS_CODE,
            i64::from(status),
        ));
    }
    let failure = match (attempt.failure, status) {
        (Some(word), _) => Some(word.to_owned()),
        (None, Some(status @ 400..)) => Some(status.to_string()),
        _ => None,
    };
    if let Some(failure) = failure {
        tell(told, names::ERROR_TYPE, failure);
        span.status = Status::error("");
    }
    span
}

fn span(
    trace: &Trace,
    (id, parent): (SpanId, SpanId),
    (name, kind): (impl Into<Cow<'static, str>>, SpanKind),
    (begun, ended): (Duration, Duration),
) -> SpanData {
    let flags = TraceFlags::default().with_sampled(trace.is_sampled);
    SpanData {
        span_context: SpanContext::new(
            trace.trace.number().into(),
            id.number().into(),
            flags,
            false,
            TraceState::NONE,
        ),
        parent_span_id: parent.number().into(),
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time: trace.arrived + begun,
        end_time: trace.arrived + ended,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: SCOPE.clone(),
    }
}

fn known(method: &Method) -> Option<&Method> {
    METHODS.contains(method).then_some(method)
}

fn tell_method(method: &Method, told: &mut Vec<KeyValue>) {
    let text = method.as_str().to_owned();
    match known(method) {
        Some(_) => tell(told, names::HTTP_REQUEST_METHOD, text),
        None => {
            tell(told, names::HTTP_REQUEST_METHOD, "_OTHER");
            tell(told, names::HTTP_REQUEST_METHOD_ORIGINAL, text);
        }
    }
}

fn tell(told: &mut Vec<KeyValue>, name: &'static str, value: impl Into<Cow<'static, str>>) {
    told.push(KeyValue::new(name, Value::from(value.into())));
}

fn tell_some(told: &mut Vec<KeyValue>, name: &'static str, value: &Option<Box<str>>) {
    if let Some(value) = value {
        tell(told, name, value.to_string());
    }
}

/// Name and port of a `Host`; the scheme's own port unless there is one.
fn address(host: &str, scheme: &str) -> Option<(String, u16)> {
    let uri: Uri = host.parse().ok()?;
    let name = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let standard_port = if scheme == "https" { 443 } else { 80 };
    Some((name.to_owned(), uri.port_u16().unwrap_or(standard_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'s>(span: &'s SpanData, name: &str) -> Option<Cow<'s, str>> {
        let attribute = span.attributes.iter().find(|it| it.key.as_str() == name);
        attribute.map(|it| it.value.as_str())
    }

    #[test]
    fn a_request_its_phases_and_attempts_are_a_tree() {
        let trace = Trace::example();
        let spans = spans(&trace);
        let tree: Vec<_> = spans
            .iter()
            .map(|span| {
                let parent = spans
                    .iter()
                    .find(|it| it.span_context.span_id() == span.parent_span_id);
                (&*span.name, parent.map(|it| &*it.name))
            })
            .collect();
        let request = Some("GET /orders/{id}");
        assert_eq!(
            tree,
            [
                ("GET /orders/{id}", None),
                ("rate_limit", request),
                ("queue", Some("rate_limit")),
                ("authenticate", request),
                ("GET", request),
                ("connect", Some("GET")),
                ("GET", request),
            ]
        );
        for span in &spans {
            assert_eq!(span.span_context.trace_id(), trace.trace.number().into());
            assert!(span.start_time <= span.end_time);
            assert!(span.start_time >= spans[0].start_time && span.end_time <= spans[0].end_time);
        }
        assert!(spans[0].parent_span_is_remote && !spans[1].parent_span_is_remote);
        assert_eq!(
            spans[0].parent_span_id,
            trace.parent.unwrap().number().into()
        );
    }

    #[test]
    fn spans_say_what_the_conventions_ask_for() {
        let mut trace = Trace::example();
        let spans = spans(&trace);
        for (name, value) in [
            ("http.request.method", "GET"),
            ("http.route", "/orders/{id}"),
            ("url.path", "/orders/7"),
            ("url.scheme", "https"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("client.address", "192.0.2.7"),
            ("user_agent.original", "curl"),
            ("network.protocol.version", "1.1"),
            ("http.response.status_code", "200"),
            ("tollgate.request_id", "0197"),
            ("tollgate.flags", r#"["queued","retried"]"#),
        ] {
            assert_eq!(told(&spans[0], name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(told(&spans[0], "error.type"), None);
        assert_eq!(spans[0].status, Status::Unset);
        let (first, second) = (&spans[4], &spans[6]);
        for (name, values) in [
            ("http.request.method", (Some("GET"), Some("GET"))),
            (
                "url.full",
                (
                    Some("https://10.0.0.1:9001/v2/orders/7"),
                    Some("https://10.0.0.1:9001/v2/orders/7"),
                ),
            ),
            ("server.address", (Some("10.0.0.1"), Some("10.0.0.1"))),
            ("server.port", (Some("9001"), Some("9001"))),
            ("http.request.resend_count", (None, Some("1"))),
            ("http.response.status_code", (Some("503"), Some("200"))),
            ("error.type", (Some("503"), None)),
        ] {
            let said = (told(first, name), told(second, name));
            assert_eq!((said.0.as_deref(), said.1.as_deref()), values, "{name}");
        }
        assert_eq!(first.status, Status::error(""));
        trace.method = Method::from_bytes(b"BREW").unwrap();
        trace.failure = Some("upstream_reset".into());
        trace.route = None;
        trace.host = Some("[::1]".into());
        let span = &super::spans(&trace)[0];
        for (name, value) in [
            ("http.request.method", "_OTHER"),
            ("http.request.method_original", "BREW"),
            ("error.type", "upstream_reset"),
            ("server.address", "::1"),
            ("server.port", "443"),
        ] {
            assert_eq!(told(span, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!((&*span.name, &span.status), ("HTTP", &Status::error("")));
    }
}
