//! What the way of a request is said not to allocate, it does not.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use allocation_counter::measure;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tollgate::auth::{
    Consumers, Credentials, KeySets, Provider, Surroundings, Workbenches, hash_key,
};
use tollgate::config::{
    AccessLog, AccessLogFormat, Diagnostics, LoggedClient, Source, Toggle, parse,
};
use tollgate::limits::{ConcurrencyLimits, Held, Holding, KeySource, Scope};
use tollgate::telemetry::tracing::{Outgoing, SpanId, TraceId, Tracing};
use tollgate::telemetry::{
    Flag, Flags, LineRules, Measured, Meters, Phase, RecentKind, RecentRequests, Record,
    ServiceEvent, Weight,
};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn provider(section: &str) -> Provider {
    let text = format!("auth_providers: {{ m: {section} }}");
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    let (name, section) = loaded.config.auth_providers.first().unwrap();
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base: Path::new("."),
        deciders: 0,
    };
    Provider::compile(name, section, surroundings, &mut Diagnostics::default()).unwrap()
}

/// The allocations of a request after the same one, and whether it passes.
fn allocations(provider: &Provider, name: HeaderName, value: &str) -> (u64, bool) {
    let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
    let uri = Uri::from_static("/");
    let credentials = Credentials {
        method: &Method::GET,
        uri: &uri,
        headers: &headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: false,
        now: NOW,
    };
    let ask = || provider.authenticate(credentials).settle().is_ok();
    ask();
    let mut is_known = false;
    let counted = measure(|| is_known = ask());
    (counted.count_total, is_known)
}

#[test]
fn a_remembered_credential_costs_no_allocation() {
    let tokens = provider(&format!(
        "{{ jwt: {{ algorithms: HS256, keys: {{ secret: {SECRET} }} }} }}"
    ));
    let token = |exp: u64| {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let claims = json!({"sub": "alice", "exp": exp, "scope": "a b"});
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        format!("Bearer {token}")
    };
    let good = token(NOW + 600);
    assert_eq!(
        allocations(&tokens, header::AUTHORIZATION, &good),
        (0, true)
    );
    let forged = good[..good.len() - 4].to_owned() + "AAAA";
    assert_eq!(
        allocations(&tokens, header::AUTHORIZATION, &forged),
        (0, false)
    );
    let keys = provider(&format!(
        "{{ api_key: {{ keys: {{ a: \"{}\" }} }} }}",
        hash_key("key-acme").unwrap()
    ));
    let name = HeaderName::from_static("x-api-key");
    assert_eq!(allocations(&keys, name.clone(), "key-acme"), (0, true));
    assert_eq!(allocations(&keys, name, "guess"), (0, false));
}

struct Client;

impl KeySource for Client {
    fn client_ip(&self) -> IpAddr {
        IpAddr::from([192, 0, 2, 1])
    }
    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    fn consumer(&self) -> Option<(&str, &str)> {
        None
    }
    fn route(&self) -> u64 {
        0
    }
}

#[test]
fn a_place_under_a_concurrency_limit_costs_no_allocation() {
    let text = "concurrency_limit: { limit: 2 }";
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    let Some(Toggle::On(section)) = loaded.config.concurrency_limit.as_deref() else {
        panic!("{:?}", loaded.diagnostics)
    };
    let scope = Scope {
        identity: "top",
        name: "global",
        has_identity: false,
        decisions: None,
    };
    let in_flight = Arc::default();
    let diagnostics = &mut Diagnostics::default();
    let limits = ConcurrencyLimits::compile(section, scope, &in_flight, diagnostics).unwrap();
    let counted = measure(|| {
        let mut held = Held::default();
        limits.enter(Holding::All, &Client, &mut held);
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_place_in_a_trace_costs_no_allocation_but_the_field_that_tells_it() {
    let text = "tracing: { otlp: \"http://127.0.0.1:4318\", sample: 0%, propagate: [w3c, b3] }";
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    let Some(Toggle::On(section)) = loaded.config.tracing.as_deref() else {
        panic!("{:?}", loaded.diagnostics)
    };
    let diagnostics = &mut Diagnostics::default();
    let base = Path::new(".");
    let tracing = Tracing::compile(section, base, &Arc::default(), diagnostics).unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let fields = [("traceparent", parent), ("tracestate", "foo=1,bar=2")];
    let mut headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let mut outgoing = None;
    let counted = measure(|| {
        let incoming = tracing.read(&headers);
        let trace = incoming.parent.map_or_else(TraceId::random, |it| it.trace);
        let decided = tracing.decide(trace, &incoming, false);
        assert!(!decided && tracing.may_export(decided));
        outgoing = Some(Outgoing {
            trace,
            span: SpanId::random(),
            decision: decided.into(),
            state: incoming.state,
        });
    });
    assert_eq!(counted.count_total, 0);
    let outgoing = outgoing.unwrap();
    tracing.write(&outgoing, &mut headers);
    // One for each value: `traceparent` and `b3`.
    let counted = measure(|| tracing.write(&outgoing, &mut headers));
    assert_eq!(counted.count_total, 2);
}

#[test]
fn counting_a_request_costs_no_allocation() {
    let meters = Meters::default();
    let route = meters.route("a", "/a");
    let service = meters.service("a");
    let endpoint = meters.endpoint("a", "http://127.0.0.1:9001");
    let mut flags = Flags::default();
    flags.insert(Flag::Retried);
    let count = || {
        route.begin();
        service.count(ServiceEvent::Opened);
        service.observe(Phase::Connect, Duration::from_millis(1));
        endpoint.count(200);
        route.count(&Measured {
            status: 200,
            grpc: None,
            took: Some(Duration::from_millis(5)),
            request_bytes: 1,
            response_bytes: 2,
        });
        meters.flags(flags);
        route.end();
    };
    // A thread's first request gives it its counts.
    count();
    assert_eq!(measure(count).count_total, 0);
}

fn record(status: u16, headers: &HeaderMap) -> Record<'_> {
    Record {
        time: SystemTime::UNIX_EPOCH,
        id: "1",
        trace: Some((TraceId::random(), SpanId::random())),
        client: Some("192.0.2.7"),
        method: &Method::GET,
        host: Some(b"sh\xffp"),
        path: "/\"\n",
        query: Some("a=1&token=secret"),
        version: Version::HTTP_11,
        route: Some("/{id}"),
        service: Some("a"),
        endpoint: None,
        consumer: None,
        client_certificate: None,
        limit: None,
        cache: None,
        status,
        grpc_status: None,
        request_bytes: 0,
        response_bytes: 0,
        total: Duration::ZERO,
        queued: None,
        pipeline: None,
        connected: None,
        first_byte: None,
        attempts: 0,
        flags: Flags::default(),
        headers,
    }
}

#[test]
fn keeping_what_went_badly_costs_no_allocation_once_there_is_room() {
    let recent = RecentRequests::default();
    let headers = HeaderMap::new();
    let now = Instant::now();
    let tell = |status: u16, took: u64| {
        let kind = RecentKind::of(status, Flags::default(), status >= 500);
        let keep = recent.choose(kind, Duration::from_millis(took), now);
        if let Some(keep) = keep {
            recent.keep(keep, &record(status, &headers), None);
        }
        keep.is_some()
    };
    for took in 1..=1000 {
        assert!(tell(429, took) && tell(503, took));
    }
    // Most requests are neither slow nor anything else.
    for (status, took, is_kept) in [(200, 5, false), (200, 2000, true), (429, 5, true)] {
        let mut was_kept = false;
        let counted = measure(|| was_kept = tell(status, took));
        assert_eq!(
            (counted.count_total, was_kept),
            (0, is_kept),
            "{status} {took}"
        );
    }
}

#[test]
fn a_line_of_the_access_log_costs_no_allocation_in_any_format() {
    let template = "{client} \"{target}\" {status} {flags} {request.headers.user-agent}";
    let formats = [
        AccessLogFormat::Json,
        AccessLogFormat::Logfmt,
        AccessLogFormat::Combined,
        AccessLogFormat::Template(template.to_owned().into()),
    ];
    let agent = HeaderValue::from_bytes(b"curl \"\xff\"").unwrap();
    let headers = HeaderMap::from_iter([(header::USER_AGENT, agent)]);
    let record = record(200, &headers);
    for format in formats {
        let section = AccessLog {
            format,
            headers: vec!["User-Agent".to_owned().into()],
            query: true,
            client: LoggedClient::Truncated,
            ..AccessLog::default()
        };
        let rules = LineRules::compile(&section, &mut Diagnostics::default()).unwrap();
        let mut out = Vec::with_capacity(4096);
        // The text of a second is made once.
        rules.write(&record, Weight::ONE, &mut out);
        let counted = measure(|| rules.write(&record, Weight::ONE, &mut out));
        assert_eq!(counted.count_total, 0, "{:?}", section.format);
    }
}

#[test]
fn the_count_counts() {
    assert_eq!(measure(|| drop(Box::new(5))).count_total, 1);
}
