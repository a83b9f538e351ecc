//! Traces as backends, the log and a real collector see them.

use std::collections::HashSet;
use std::time::Duration;

use crate::collector::{Collector, Span, the, traced};
use crate::support::{Fault, Gateway, Seen, Upstream, service_of};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// The parts of a `traceparent`: trace, span, flags.
fn parts(seen: &Seen) -> (String, String, String) {
    let lines = seen.headers("traceparent");
    let [line] = lines[..] else {
        panic!("{lines:?}")
    };
    let parts: Vec<_> = line.split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = &parts[..] else {
        panic!("{line}")
    };
    assert_eq!(version, "00");
    (trace.clone(), span.clone(), flags.clone())
}

#[tokio::test]
async fn without_tracing_what_clients_say_passes_as_it_is() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&service_of([&upstream], "")).await;
    let fields = [
        ("traceparent", SAMPLED),
        ("tracestate", "foo=1,  bar=2"),
        ("baggage", "user=alice"),
        ("b3", "0"),
        ("x-b3-sampled", "1"),
    ];
    let mut request = gateway.get("/a");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.send().await.assert_status(200);
    for (name, value) in fields {
        assert_eq!(upstream.last().headers(name), [value], "{name}");
    }
    let broken = gateway.get("/a").header("traceparent", "broken");
    broken.send().await.assert_status(200);
    assert_eq!(upstream.last().header("traceparent"), Some("broken"));
    gateway.get("/a").send().await.assert_status(200);
    assert_eq!(upstream.last().header("traceparent"), None);
    assert!(gateway.log(3).await[0].get("trace_id").is_none());
}

#[tokio::test]
async fn a_trace_is_continued_by_the_standard_or_begun() {
    let upstream = Upstream::echo().await;
    let config = service_of([&upstream], "");
    let gateway = Gateway::start(&format!("tracing: {{ sample: 0% }}\n{config}")).await;
    let ask = async |fields: &[(&str, &str)]| {
        let mut request = gateway.get("/a");
        for (name, value) in fields {
            request = request.header(name, value);
        }
        request.send().await.assert_status(200);
        upstream.last()
    };
    let seen = ask(&[
        ("traceparent", SAMPLED),
        ("tracestate", "foo=1 , bar=2"),
        ("baggage", "user=alice"),
    ])
    .await;
    let (trace, span, flags) = parts(&seen);
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_ne!(span, PARENT);
    assert_eq!(seen.headers("tracestate"), ["foo=1 , bar=2"]);
    assert_eq!(seen.headers("baggage"), ["user=alice"]);
    // Lines of one list are one, and what comes in versions to come counts as far as it is known.
    let future = format!("cc-{}-what-comes", &SAMPLED[3..]);
    let seen = ask(&[
        ("traceparent", &future),
        ("tracestate", "foo=1"),
        ("tracestate", "bar=2"),
    ])
    .await;
    assert_eq!(parts(&seen).0, TRACE);
    assert_eq!(seen.headers("tracestate"), ["foo=1,bar=2"]);
    // A bad state does not make a bad parent, though a bad parent makes a bad state.
    let seen = ask(&[("traceparent", UNSAMPLED), ("tracestate", "FOO=1")]).await;
    let (trace, _, flags) = parts(&seen);
    assert_eq!((&*trace, &*flags), (TRACE, "00"));
    assert_eq!(seen.header("tracestate"), None);
    let zero_trace = SAMPLED.replace(TRACE, &"0".repeat(32));
    let zero_parent = SAMPLED.replace(PARENT, &"0".repeat(16));
    let version_ff = SAMPLED.replacen("00", "ff", 1);
    let too_long = format!("{SAMPLED}-00");
    for bad in [&zero_trace, &zero_parent, &version_ff, &too_long, "x"] {
        let seen = ask(&[("traceparent", bad), ("tracestate", "foo=1")]).await;
        let (trace, _, flags) = parts(&seen);
        assert!(trace != TRACE && flags == "00", "{bad}: {trace} {flags}");
        assert_eq!(seen.header("tracestate"), None, "{bad}");
    }
    let seen = ask(&[("traceparent", SAMPLED), ("traceparent", SAMPLED)]).await;
    assert_ne!(parts(&seen).0, TRACE);
    let log = gateway.log(9).await;
    assert_eq!(log[0]["trace_id"], TRACE);
    // Nothing is exported, so that the request's own span is the parent.
    assert_eq!(log[0]["span_id"], span);
    let ids: HashSet<_> = log.iter().map(|it| it["span_id"].to_string()).collect();
    assert_eq!(ids.len(), 9);
}

#[tokio::test]
async fn b3_is_understood_and_spoken_where_it_is_configured() {
    let upstream = Upstream::echo().await;
    let config = service_of([&upstream], "");
    let b3 = format!("{TRACE}-{PARENT}-1-{PARENT}");
    let start = async |propagate: &str| {
        let tracing = format!("tracing: {{ sample: 0%, propagate: {propagate} }}");
        Gateway::start(&format!("{tracing}\n{config}")).await
    };

    let gateway = start("[w3c, b3]").await;
    let request = gateway.get("/a").header("b3", &b3);
    request.send().await.assert_status(200);
    let seen = upstream.last();
    let (trace, span, flags) = parts(&seen);
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_eq!(seen.header("b3"), Some(&*format!("{TRACE}-{span}-1")));

    let gateway = start("b3_multi").await;
    let request = gateway
        .get("/a")
        .header("x-b3-traceid", &TRACE[16..])
        .header("x-b3-spanid", PARENT)
        .header("x-b3-parentspanid", PARENT)
        .header("x-b3-flags", "1")
        .header("traceparent", "other");
    request.send().await.assert_status(200);
    let seen = upstream.last();
    let padded = format!("{}{}", "0".repeat(16), &TRACE[16..]);
    assert_eq!(seen.header("x-b3-traceid"), Some(&*padded));
    assert_ne!(seen.header("x-b3-spanid"), Some(PARENT));
    assert_eq!(seen.header("x-b3-flags"), Some("1"));
    for gone in ["x-b3-parentspanid", "x-b3-sampled", "b3"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("traceparent"), Some("other"));

    gateway.get("/a").header("b3", "1").send().await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-b3-sampled"), Some("1"));
    assert_ne!(seen.header("x-b3-traceid"), Some(TRACE));
}

#[tokio::test]
async fn a_request_its_phases_and_its_attempt_are_told_to_a_collector() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let config = format!(
        "{}rate_limit: {{ limit: 100, window: 1m }}\n\
         auth_providers: {{ m: {{ basic: {{ users: {{ file: users }} }} }} }}\n\
         services: {{ orders: {{ base_url: \"http://{}/v2\", auth: m, \
         routes: [{{ path: \"/orders/{{id}}\", rate_limit: [{{ limit: 9, window: 1m, by: consumer }}, {{ limit: 9, window: 1m }}] }}] }} }}\n",
        traced(
            &collector,
            "sample: 100%, service_name: edge, resource: { deployment.environment.name: test }"
        ),
        upstream.address
    );
    let directory = tempfile::tempdir().unwrap();
    // The password is `secret`.
    let hashed = bcrypt::hash("secret", 12).unwrap();
    std::fs::write(directory.path().join("users"), format!("alice:{hashed}\n")).unwrap();
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    let request = gateway
        .get("/orders/7?token=hidden")
        .header("host", "shop.example:8443")
        .header("user-agent", "test")
        .header("authorization", "Basic YWxpY2U6c2VjcmV0")
        .header("traceparent", SAMPLED);
    let answer = request.send().await.assert_status(200);
    let spans = collector.requests(1).await;
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert!(spans.iter().all(|span| span.is_sampled), "{spans:#?}");

    let server = the(&spans, Span::is_server);
    assert_eq!(server.name, "GET /orders/{id}");
    assert_eq!(server.parent, PARENT);
    assert!(!server.is_failed);
    let id = answer.header("x-request-id").unwrap();
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/orders/{id}"),
        ("http.response.status_code", "200"),
        ("url.path", "/orders/7"),
        ("url.scheme", "http"),
        ("server.address", "shop.example"),
        ("server.port", "8443"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "test"),
        ("network.protocol.version", "1.1"),
        ("tollgate.request_id", id),
        ("tollgate.service", "orders"),
    ] {
        assert_eq!(server.says(name), Some(value), "{name}");
    }
    for absent in ["error.type", "url.query", "tollgate.flags"] {
        assert_eq!(server.says(absent), None, "{absent}");
    }
    for (name, value) in [
        ("service.name", "edge"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
    ] {
        let told = server.resource.get(name).map(String::as_str);
        assert_eq!(told, Some(value), "{name}");
    }

    let client = the(&spans, Span::is_client);
    assert_eq!(
        (&client.name, &client.parent),
        (&"GET".to_owned(), &server.id)
    );
    let (_, told, flags) = parts(&upstream.last());
    assert_eq!((&told, &*flags), (&client.id, "01"));
    let url = format!("http://{}/v2/orders/7", upstream.address);
    let port = upstream.address.port().to_string();
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.full", &*url),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(client.says(name), Some(value), "{name}");
    }
    assert_eq!(client.says("http.request.resend_count"), None);
    assert_eq!(the(&spans, |it| it.name == "connect").parent, client.id);
    let auth = the(&spans, |it| it.name == "authenticate");
    assert_eq!(auth.parent, server.id);
    let limits: Vec<_> = spans.iter().filter(|it| it.name == "rate_limit").collect();
    assert_eq!(limits.len(), 2);
    assert!(limits[0].ended <= auth.begun && auth.ended <= limits[1].begun);
    assert!(limits[1].ended <= client.begun && client.ended <= server.ended);

    let line = &gateway.log(1).await[0];
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], server.id);
}

#[tokio::test]
async fn each_attempt_is_a_span_that_says_which_it_is_and_why_it_failed() {
    let (resets, says) = (
        Fault::Resets.backend().await,
        Fault::Says(503).backend().await,
    );
    let (well, collector) = (Upstream::echo().await, Collector::http().await);
    let config = service_of(
        [&resets, &says, &well],
        "load_balancing: round_robin, retry: { attempts: 3, on: [reset, 503], budget: 100% }",
    );
    let config = format!("{}{config}", traced(&collector, "sample: 100%"));
    let gateway = Gateway::start(&config).await;
    gateway.get("/a").send().await.assert_status(200);
    let spans = collector.requests(1).await;
    let server = the(&spans, Span::is_server);
    assert_eq!(server.says("tollgate.flags"), Some("retried"));
    assert!(!server.is_failed);
    let mut attempts: Vec<_> = spans.iter().filter(|span| span.is_client()).collect();
    attempts.sort_by_key(|span| span.begun);
    let said: Vec<_> = attempts
        .iter()
        .map(|span| {
            assert_eq!(span.parent, server.id);
            (
                span.says("http.request.resend_count"),
                span.says("error.type"),
                span.says("http.response.status_code"),
                span.is_failed,
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (None, Some("upstream_reset"), None, true),
            (Some("1"), Some("503"), Some("503"), true),
            (Some("2"), None, Some("200"), false),
        ]
    );
    assert!(attempts[0].ended <= attempts[1].begun && attempts[1].ended <= attempts[2].begun);
    assert_eq!(parts(&well.last()).1, attempts[2].id);
}

#[tokio::test]
async fn attempts_that_race_are_both_spans_and_each_backend_knows_its_own() {
    let slow = Upstream::serving(|_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Response::new(Full::new(Bytes::from_static(b"slow")).boxed())
    })
    .await;
    let (well, collector) = (Upstream::echo().await, Collector::http().await);
    let config = service_of(
        [&slow, &well],
        "load_balancing: round_robin, retry: { hedge_after: 50ms, hedge_budget: 100% }",
    );
    let config = format!("{}{config}", traced(&collector, "sample: 100%"));
    let gateway = Gateway::start(&config).await;
    let answer = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(answer.text(), "hello");
    let spans = collector.requests(1).await;
    let first = the(&spans, |it| {
        it.is_client() && it.says("http.request.resend_count").is_none()
    });
    let second = the(&spans, |it| it.says("http.request.resend_count").is_some());
    assert!(first.begun < second.begun && second.begun < first.ended);
    assert_eq!(first.says("http.response.status_code"), None);
    assert_eq!(second.says("http.response.status_code"), Some("200"));
    assert_eq!(parts(&well.last()).1, second.id);
}

#[tokio::test]
async fn a_request_that_waits_for_a_limit_says_so() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let limit =
        "rate_limit: { limit: 1, window: 3s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let config = format!(
        "{}{}",
        traced(&collector, "sample: 100%"),
        service_of([&upstream], limit)
    );
    let gateway = Gateway::start(&config).await;
    for _ in 0..2 {
        gateway.get("/a").send().await.assert_status(200);
    }
    let spans = collector.requests(2).await;
    let queue = the(&spans, |it| it.name == "queue");
    let limit = the(&spans, |it| it.id == queue.parent);
    assert_eq!(limit.name, "rate_limit");
    // Nothing is decided by who comes.
    let limits = spans.iter().filter(|it| it.name == "rate_limit");
    assert_eq!(limits.count(), 2);
    assert!(limit.begun <= queue.begun && queue.ended <= limit.ended);
    let server = the(&spans, |it| it.id == limit.parent);
    assert_eq!(server.says("tollgate.flags"), Some("queued"));
    let waited = gateway.log(2).await[1]["queued_us"].as_u64().unwrap();
    let told = (queue.ended - queue.begun) / 1000;
    assert!(told.abs_diff(waited) < 1000, "{told} {waited}");
}

#[tokio::test]
async fn who_decides_about_a_request_is_called_by_that_part_of_it() {
    let (upstream, decider) = (Upstream::echo().await, Upstream::echo().await);
    let collector = Collector::http().await;
    let config = format!(
        "{}auth_providers: {{ f: {{ forward: {{ url: \"http://{}/\" }} }} }}\n{}",
        traced(&collector, "sample: 100%"),
        decider.address,
        service_of([&upstream], "auth: f")
    );
    let gateway = Gateway::start(&config).await;
    gateway.get("/a").send().await.assert_status(200);
    let spans = collector.requests(1).await;
    let phase = the(&spans, |it| it.name == "authenticate");
    assert_eq!(parts(&decider.last()).1, phase.id);
}

#[tokio::test]
async fn who_sent_a_request_decides_about_its_spans_unless_nobody_is_believed() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let start = async |sample: &str, server: &str| {
        let sample = format!("sample: {{ {sample}, errors: false }}");
        let config = format!(
            "server: {{ listen: $LISTEN, {server} }}\nadmin: {{ listen: $ADMIN }}\n{}{}",
            traced(&collector, &sample),
            service_of([&upstream], "")
        );
        Gateway::start(&config).await
    };
    let flags = async |gateway: &Gateway, parent: &str| {
        let request = gateway.get("/a").header("traceparent", parent);
        request.send().await.assert_status(200);
        parts(&upstream.last()).2
    };
    // They live until all they have to tell was told.
    let mut gateways = Vec::new();
    let trusted = "trusted_proxies: [127.0.0.1/32]";
    for (rule, server, all, none) in [
        ("follow", "", "00", "01"),
        ("trusted", "", "01", "00"),
        ("trusted", trusted, "00", "01"),
        ("ignore", trusted, "01", "00"),
    ] {
        let gateway = start(&format!("ratio: 100%, parent: {rule}"), server).await;
        assert_eq!(flags(&gateway, UNSAMPLED).await, all, "{rule} {server}");
        gateways.push(gateway);
        let gateway = start(&format!("ratio: 0%, parent: {rule}"), server).await;
        assert_eq!(flags(&gateway, SAMPLED).await, none, "{rule} {server}");
        gateways.push(gateway);
    }
    // One of each pair was sampled.
    let spans = collector.requests(4).await;
    assert_eq!(spans.iter().filter(|span| span.is_server()).count(), 4);
}

#[tokio::test]
async fn what_fails_or_is_slow_is_told_though_it_was_decided_otherwise() {
    let upstream = Upstream::serving(|request| async move {
        if request.uri().path() == "/a/slow" {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let mut response = Response::new(Full::new(Bytes::new()).boxed());
        if let Some(status) = request.uri().path().strip_prefix("/a/status/") {
            *response.status_mut() = status.parse().unwrap();
        }
        response
    })
    .await;
    let collector = Collector::http().await;
    let config = format!(
        "{}{}",
        traced(&collector, "sample: { ratio: 0%, slower_than: 2s }"),
        service_of([&upstream], "retry: off, outlier_detection: off")
    );
    let gateway = Gateway::start(&config).await;
    for (path, status) in [
        ("/a/good", 200),
        ("/a/status/404", 404),
        ("/nowhere", 404),
        ("/a/status/500", 500),
        ("/a/slow", 200),
    ] {
        gateway.get(path).send().await.assert_status(status);
    }
    drop(upstream);
    gateway.get("/a/gone").send().await.assert_status(502);
    let spans = collector.requests(3).await;
    let told: Vec<_> = spans
        .iter()
        .filter(|span| span.is_server())
        .map(|span| {
            (
                span.says("url.path").unwrap(),
                span.says("error.type"),
                span.is_failed,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/a/status/500", Some("500"), true),
            ("/a/slow", None, false),
            ("/a/gone", Some("upstream_connect_failed"), true),
        ]
    );
    assert!(spans.iter().all(|span| !span.is_sampled));
    let gone = the(&spans, |it| {
        it.is_client() && it.says("error.type") == Some("upstream_connect_failed")
    });
    assert_eq!(gone.says("http.response.status_code"), None);
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_failed() {
    let upstream = Fault::EndsInBody.backend().await;
    let collector = Collector::http().await;
    let config = format!(
        "{}{}",
        traced(&collector, "sample: 0%"),
        service_of([&upstream], "retry: off")
    );
    let gateway = Gateway::start(&config).await;
    gateway
        .exchange(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n")
        .await;
    let spans = collector.requests(1).await;
    let server = the(&spans, Span::is_server);
    assert_eq!(server.says("error.type"), Some("upstream_reset"));
    assert_eq!(server.says("http.response.status_code"), Some("200"));
}
