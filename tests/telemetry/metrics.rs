//! What is counted, and that it is what the documentation says.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::support::{
    Authority, Gateway, Redis, Request, Samples, Signer, Upstream, documented_metrics, free_port,
    service_of,
};
use bytes::Bytes;
use hyper::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ROUTE: &str = "tollgate_requests_total";
/// Of `key-acme`.
const DIGEST: &str = "sha256:6371cb7a907cc8f10740229732c4b6164b285169494b85304468313513427878";
const ATTEMPTS: &str = "tollgate_upstream_requests_total";

async fn answering(status: u16) -> Upstream {
    Upstream::answering(move |seen| {
        let response = Response::builder().status(status);
        response.body(seen.body.clone()).unwrap()
    })
    .await
}

/// Takes requests and never answers.
async fn silent() -> Upstream {
    Upstream::raw(|mut stream| async move {
        let mut bytes = [0; 4096];
        while let Ok(1..) = stream.read(&mut bytes).await {}
    })
    .await
}

/// A gateway in which everything is in use, after a request.
async fn busy(upstream: &Upstream, redis: &Redis) -> Gateway {
    let address = upstream.address;
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(directory.path(), "a", &["a.example"]);
    let in_a_day = SystemTime::now() + Duration::from_secs(86_400);
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("crl.pem", &authority.revoke(&[], in_a_day)),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = format!(
        "server: {{ listen: [$LISTEN, {{ address: \"{}\", tls: {{ certificates: {{ cert: a.pem, key: a.key }}, \
         client_certificates: {{ ca: ca.pem, crl: crl.pem }} }} }}],\n  \
           cache: {{ disk: {{ path: kept, max_size: 64MiB }} }} }}\n\
         admin: {{ listen: $ADMIN }}\n\
         redis: {{ url: \"redis://{}\" }}\n\
         consumers: {{ acme: {{ credentials: {{ keys: acme }} }} }}\n\
         auth_providers:\n  \
           keys: {{ api_key: {{ keys: {{ acme: \"{DIGEST}\" }} }} }}\n  \
           tokens: {{ jwt: {{ keys: {{ jwks_url: \"http://{address}/jwks\" }} }} }}\n\
         services: {{ a: {{ base_url: \"http://{address}\", load_balancing: peak_ewma, routes: [\n  \
           {{ path: /a, cache: {{ ttl: 1m }}, rate_limit: {{ limit: 9, window: 1m, store: redis }} }},\n  \
           {{ path: /b, auth: {{ any_of: [keys, tokens] }} }}, /ws] }} }}\n",
        free_port(),
        redis.address
    );
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    gateway.get("/a").send().await.assert_status(200);
    gateway.counts(ROUTE, &[("route", "/a")], 1.0).await;
    gateway
}

#[tokio::test]
async fn the_page_of_metrics_lists_what_is_there_and_nothing_else() {
    let documented = documented_metrics();
    assert!(documented.len() > 40, "{documented:?}");
    let signer = Signer::default();
    signer.publish(&["a"]);
    let upstream = Upstream::answering(move |seen| {
        if seen.target != "/ws" {
            return Response::new(signer.set().to_string().into());
        }
        let response = Response::builder().status(101);
        let response = response
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        response.body(Bytes::new()).unwrap()
    });
    let (upstream, redis) = (upstream.await, Redis::start().await);
    let gateway = busy(&upstream, &redis).await;
    let call = gateway
        .post("/nobody.Knows/This")
        .header("content-type", "application/grpc");
    call.send().await.assert_status(200);
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = gateway.exchange(handshake.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    gateway
        .counts("tollgate_requests_total", &[("route", "/ws")], 1.0)
        .await;
    gateway
        .counts("tollgate_requests_total", &[("route", "none")], 1.0)
        .await;
    assert_eq!(gateway.metrics().await.families(), documented);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_class_with_their_bodies_and_time() {
    let (good, bad) = (answering(200).await, answering(500).await);
    let gateway = Gateway::start(&format!(
        "services:\n  \
           good: {{ base_url: \"http://{}\", routes: [{{ path: \"/g/{{id}}\" }}, {{ path: /p, respond: {{ status: 204 }} }}] }}\n  \
           bad: {{ base_url: \"http://{}\", routes: [/b] }}\n",
        good.address, bad.address
    ))
    .await;
    for id in ["1", "2"] {
        let body = Bytes::from_static(b"hello");
        let request = gateway.post(&format!("/g/{id}")).body(body);
        request.send().await.assert_status(200);
    }
    gateway.get("/b").send().await.assert_status(500);
    gateway.get("/p").send().await.assert_status(204);
    gateway.get("/nowhere").send().await.assert_status(404);
    let good = [("service", "good"), ("route", "/g/{id}")];
    for (labels, class, count) in [
        (good, "2xx", 2.0),
        (good, "5xx", 0.0),
        ([("service", "good"), ("route", "/p")], "2xx", 1.0),
        ([("service", "bad"), ("route", "/b")], "5xx", 1.0),
        ([("service", "none"), ("route", "none")], "4xx", 1.0),
    ] {
        let labels = [&labels[..], &[("class", class)]].concat();
        gateway.counts(ROUTE, &labels, count).await;
    }
    let samples = gateway.metrics().await;
    for (name, expected) in [
        ("tollgate_request_duration_seconds_count", 2.0),
        ("tollgate_request_body_bytes_total", 10.0),
        ("tollgate_response_body_bytes_total", 10.0),
        ("tollgate_requests_in_flight", 0.0),
    ] {
        assert_eq!(samples.sum(name, &good), expected, "{name}");
    }
    let longest = [&good[..], &[("le", "+Inf")]].concat();
    let within = samples.sum("tollgate_request_duration_seconds_bucket", &longest);
    assert_eq!(within, 2.0);
    let took = samples.sum("tollgate_request_duration_seconds_sum", &good);
    assert!(took > 0.0 && took < 60.0, "{took}");
    for (flag, expected) in [("no_route", 1.0), ("direct_response", 1.0), ("shed", 0.0)] {
        let counted = samples.sum("tollgate_request_flags_total", &[("flag", flag)]);
        assert_eq!(counted, expected, "{flag}");
    }
    for name in ["pipeline", "upstream_connect", "upstream_first_byte"] {
        let name = format!("tollgate_{name}_duration_seconds_count");
        assert_eq!(samples.sum(&name, &[("service", "bad")]), 1.0, "{name}");
    }
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_no_longer_under_way() {
    let upstream = silent().await;
    let gateway = Gateway::start(&service_of([&upstream], "")).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    let in_flight = "tollgate_requests_in_flight";
    gateway.counts(in_flight, &[("service", "a")], 1.0).await;
    let at_backend = "tollgate_endpoint_requests_in_flight";
    gateway.counts(at_backend, &[("service", "a")], 1.0).await;
    drop(client);
    gateway.counts(in_flight, &[], 0.0).await;
    gateway.counts(at_backend, &[], 0.0).await;
    let gone = [("route", "/a"), ("class", "none")];
    gateway.counts(ROUTE, &gone, 1.0).await;
    let flag = [("flag", "client_gone")];
    gateway
        .counts("tollgate_request_flags_total", &flag, 1.0)
        .await;
    let none = [("service", "a"), ("class", "none")];
    gateway.counts(ATTEMPTS, &none, 1.0).await;
}

#[tokio::test]
async fn attempts_are_counted_by_backend_and_retries_by_reason() {
    let (bad, well) = (answering(503).await, answering(200).await);
    let rest = "outlier_detection: off, circuit_breaker: off, load_balancing: round_robin";
    let gateway = Gateway::start(&service_of([&bad, &well], rest)).await;
    let mut client = gateway.connect().await;
    for _ in 0..4 {
        client.get("/a").await.assert_status(200);
    }
    let service = ("service", "a");
    gateway
        .counts(ROUTE, &[service, ("class", "2xx")], 4.0)
        .await;
    let bad = format!("http://{}", bad.address);
    let of_bad = [("endpoint", &*bad), ("class", "5xx")];
    gateway.counts(ATTEMPTS, &of_bad, 2.0).await;
    gateway.counts(ATTEMPTS, &[("class", "2xx")], 4.0).await;
    let samples = gateway.metrics().await;
    let by_status = [service, ("reason", "status"), ("outcome", "made")];
    assert_eq!(samples.sum("tollgate_retries_total", &by_status), 2.0);
    assert_eq!(samples.sum("tollgate_retries_total", &[]), 2.0);
    let connections = |result| {
        let labels = [service, ("result", result)];
        samples.sum("tollgate_upstream_connections_total", &labels)
    };
    assert_eq!(connections("opened") + connections("reused"), 6.0);
    assert!(connections("reused") >= 2.0);
    let name = "tollgate_upstream_connect_duration_seconds_count";
    assert_eq!(samples.sum(name, &[service]), connections("opened"));
    let flag = [("flag", "retried")];
    assert_eq!(samples.sum("tollgate_request_flags_total", &flag), 2.0);
}

#[tokio::test]
async fn connections_that_fail_are_counted_by_their_reason() {
    let stranger = Authority::new().certify("127.0.0.1");
    let secure = Upstream::serving_securely(stranger, |_| async {
        Response::new(crate::support::Body::default())
    });
    let (closed, secure) = (free_port(), secure.await);
    let gateway = Gateway::start(&format!(
        "retry: off\nservices:\n  \
           closed: {{ base_url: \"http://{closed}\", routes: [/c] }}\n  \
           secure: {{ base_url: \"https://{}\", routes: [/s] }}\n",
        secure.address
    ))
    .await;
    for path in ["/c", "/s"] {
        gateway.get(path).send().await.assert_status(502);
    }
    let connections = "tollgate_upstream_connections_total";
    for (service, result) in [("closed", "refused"), ("secure", "tls_failed")] {
        let labels = [("service", service), ("result", result)];
        gateway.counts(connections, &labels, 1.0).await;
        gateway.counts(connections, &labels[..1], 1.0).await;
        let none = [("service", service), ("class", "none")];
        gateway.counts(ATTEMPTS, &none, 1.0).await;
    }
    let failed = [("service", "secure"), ("result", "failed")];
    let handshakes = "tollgate_upstream_tls_handshakes_total";
    gateway.counts(handshakes, &failed, 1.0).await;
}

#[tokio::test]
async fn a_circuit_that_opens_and_a_backend_that_is_ejected_are_seen() {
    let (bad, well) = (answering(503).await, answering(200).await);
    let rest = "outlier_detection: { consecutive_failures: 2, ejection: 1m }, \
                circuit_breaker: { minimum_requests: 5, failure_rate: 90%, open_for: 1m }, \
                load_balancing: round_robin";
    let config = service_of([&bad, &well], rest);
    let gateway = Gateway::start(&format!("retry: off\n{config}")).await;
    for _ in 0..4 {
        gateway.get("/a").send().await;
    }
    let bad = format!("http://{}", bad.address);
    let state = "tollgate_endpoint_state";
    let ejected = [("endpoint", &*bad), ("state", "ejected")];
    gateway.counts(state, &ejected, 1.0).await;
    gateway.counts(state, &[("endpoint", &*bad)], 1.0).await;
    gateway.counts(state, &[("state", "healthy")], 1.0).await;
    gateway
        .counts("tollgate_endpoint_ejections_total", &[], 1.0)
        .await;

    let bad = answering(503).await;
    let config = service_of([&bad], rest);
    let gateway = Gateway::start(&format!("retry: off\n{config}")).await;
    let opened = [("service", "a"), ("to", "open")];
    let transitions = "tollgate_circuit_breaker_transitions_total";
    gateway.counts(transitions, &opened, 0.0).await;
    for _ in 0..5 {
        gateway.get("/a").send().await.assert_status(503);
    }
    gateway.counts(transitions, &opened, 1.0).await;
    gateway
        .counts("tollgate_circuit_breaker_state", &[], 2.0)
        .await;
    gateway.get("/a").send().await.assert_status(503);
    let flag = [("flag", "circuit_open")];
    gateway
        .counts("tollgate_request_flags_total", &flag, 1.0)
        .await;
    gateway.counts(ATTEMPTS, &[], 5.0).await;
}

#[tokio::test]
async fn hedges_copies_and_checks_are_counted() {
    let (a, shadow) = (answering(200).await, answering(200).await);
    let slow = Upstream::serving(|_| async {
        std::future::pending::<()>().await;
        Response::new(crate::support::Body::default())
    });
    let slow = slow.await;
    let gateway = Gateway::start(&format!(
        "services:\n  \
           a: {{ base_url: \"http://{}\", health_check: {{ path: /, interval: 8s }}, \
             routes: [{{ path: /a, mirror: {{ service: shadow, share: 100% }} }}] }}\n  \
           h: {{ targets: [\"http://{}\", \"http://{}\"], load_balancing: round_robin, \
             retry: {{ hedge_after: 20ms, hedge_budget: 100% }}, routes: [/h] }}\n  \
           shadow: {{ base_url: \"http://{}\", routes: [/s] }}\n",
        a.address, slow.address, a.address, shadow.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    let answered = [("service", "shadow"), ("result", "answered")];
    let copies = "tollgate_mirrored_requests_total";
    gateway.counts(copies, &answered, 1.0).await;
    gateway.counts(copies, &[], 1.0).await;
    gateway
        .counts(ATTEMPTS, &[("service", "shadow")], 1.0)
        .await;
    for _ in 0..2 {
        gateway.get("/h").send().await.assert_status(200);
    }
    let won = [("service", "h"), ("outcome", "won")];
    gateway.counts("tollgate_hedges_total", &won, 1.0).await;
    let of_h = [("service", "h"), ("class", "2xx")];
    gateway.counts(ATTEMPTS, &of_h, 2.0).await;
    let passed = [("service", "a"), ("result", "passed")];
    let checks = "tollgate_health_checks_total";
    gateway.counts(checks, &passed, 1.0).await;
    gateway.counts(checks, &[], 1.0).await;
}

#[tokio::test]
async fn credentials_are_counted_by_who_refused_them_and_why() {
    let upstream = answering(200).await;
    let key = "key-acme";
    let gateway = Gateway::start(&format!(
        "auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme: \"{DIGEST}\" }} }} }} }}\n\
         services: {{ a: {{ base_url: \"http://{}\", auth: keys, routes: [/a,\n  \
           {{ path: /open, auth: {{ any_of: [keys], anonymous: true }} }},\n  \
           {{ path: /gold, auth: {{ provider: keys, require: {{ groups: [gold] }} }} }}] }} }}\n\
         consumers: {{ acme: {{ credentials: {{ keys: acme }} }}, rich: {{ credentials: {{ keys: rich }}, groups: [gold] }} }}\n",
        upstream.address
    ))
    .await;
    let ask = |path: &str, key: Option<&str>| {
        let request = gateway.get(path);
        match key {
            Some(key) => request.header("x-api-key", key).send(),
            None => request.send(),
        }
    };
    ask("/a", Some(key)).await.assert_status(200);
    ask("/a", Some("guess")).await.assert_status(401);
    ask("/a", None).await.assert_status(401);
    ask("/open", None).await.assert_status(200);
    ask("/gold", Some(key)).await.assert_status(403);
    for (mechanism, result) in [
        ("api_key", "accepted"),
        ("api_key", "unknown_credential"),
        ("none", "missing"),
        ("none", "anonymous"),
        ("api_key", "forbidden"),
    ] {
        let labels = [("mechanism", mechanism), ("result", result)];
        gateway
            .counts("tollgate_auth_results_total", &labels, 1.0)
            .await;
    }
    gateway
        .counts("tollgate_auth_results_total", &[], 5.0)
        .await;
}

#[tokio::test]
async fn connections_of_clients_and_the_process_are_counted() {
    let gateway =
        Gateway::start("services: { a: { routes: [{ path: /a, respond: { status: 204 } }] } }")
            .await;
    let open = "tollgate_connections_open";
    let accepted = async || {
        let samples = gateway.metrics().await;
        samples.sum("tollgate_connections_total", &[("result", "accepted")])
    };
    gateway.counts(open, &[], 0.0).await;
    let before = accepted().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.connect().await;
        client.get("/a").await.assert_status(204);
        client.get("/a").await.assert_status(204);
        clients.push(client);
    }
    gateway.counts(open, &[], 20.0).await;
    // Whoever looked whether the gateway is up may have come late.
    let more = accepted().await - before;
    assert!((20.0..25.0).contains(&more), "{more}");
    drop(clients);
    gateway.counts(open, &[], 0.0).await;
    let samples = gateway.metrics().await;
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(samples.sum(name, &[]) > 0.0, "{name}");
    }
    assert_eq!(samples.sum("tollgate_access_log_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn counts_go_on_over_a_reload_and_what_is_gone_is_shown_once_more() {
    let upstream = answering(200).await;
    let config = |rest: &str| {
        let address = upstream.address;
        format!("services: {{ a: {{ base_url: \"http://{address}\", routes: [/a{rest}] }} }}\n")
    };
    let gateway = Gateway::start(&config(", /b")).await;
    for path in ["/a", "/b"] {
        gateway.get(path).send().await.assert_status(200);
        gateway.counts(ROUTE, &[("route", path)], 1.0).await;
    }
    gateway.edit(", /b", ", /c");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    gateway.get("/a").send().await.assert_status(200);
    gateway.counts(ROUTE, &[("route", "/a")], 2.0).await;
    gateway.counts(ATTEMPTS, &[("service", "a")], 3.0).await;
    gateway.counts(ROUTE, &[("route", "/b")], 0.0).await;
    let routes = gateway.metrics().await;
    let routes: BTreeSet<_> = routes
        .iter()
        .filter_map(|it| it.labels.get("route").cloned())
        .collect();
    assert_eq!(routes, ["/a", "/c", "none"].map(str::to_owned).into());
}

#[tokio::test]
async fn routes_and_backends_beyond_the_bound_are_counted_together() {
    let (one, two) = (answering(200).await, answering(200).await);
    let gateway = Gateway::start(&format!(
        "metrics: {{ max_routes: 2, max_services: 1, max_endpoints: 1 }}\nservices:\n  \
           a: {{ base_url: \"http://{}\", routes: [/a, /b, /c] }}\n  \
           z: {{ base_url: \"http://{}\", routes: [/y, /z] }}\n",
        one.address, two.address
    ))
    .await;
    for path in ["/a", "/b", "/c", "/y", "/z"] {
        gateway.get(path).send().await.assert_status(200);
    }
    let beyond = [("service", "other"), ("route", "other")];
    gateway.counts(ROUTE, &[], 5.0).await;
    let samples = gateway.metrics().await;
    assert!(samples.sum(ROUTE, &beyond) >= 3.0);
    let labels = |name: &str| -> BTreeSet<String> {
        let values = samples.iter().filter_map(|it| it.labels.get(name));
        values.cloned().collect()
    };
    assert!(labels("route").len() <= 3, "{:?}", labels("route"));
    assert_eq!(labels("endpoint").len(), 2, "{:?}", labels("endpoint"));
    assert!(labels("endpoint").contains("other"));
}

#[tokio::test]
async fn openmetrics_is_spoken_with_who_asks_for_it() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&service_of([&upstream], "")).await;
    gateway.get("/a").send().await.assert_status(200);
    gateway.counts(ROUTE, &[("route", "/a")], 1.0).await;
    let ask = |accept: &'static str| {
        Request::new(gateway.admin, Method::GET, "/metrics")
            .header("accept", accept)
            .send()
    };
    let text = ask("text/plain;version=0.0.4, */*;q=0.1").await;
    let open = ask("application/openmetrics-text;version=1.0.0, text/plain;q=0.5").await;
    let text = text.assert_header("content-type", "text/plain; version=0.0.4; charset=utf-8");
    let open = open.assert_header(
        "content-type",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    let (text, open) = (text.text(), open.text());
    assert!(open.ends_with("\n# EOF\n") && !text.contains("# EOF"));
    assert!(text.contains("\n# TYPE tollgate_requests_total counter\n"));
    assert!(open.contains("\n# TYPE tollgate_requests counter\n"));
    assert!(open.contains("\n# UNIT tollgate_request_duration_seconds seconds\n"));
    let names = |page: &str| {
        let samples = Samples::parse(page);
        let names = samples.iter().map(|it| it.name.clone());
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&text), names(&open));
}

#[tokio::test]
async fn a_scrape_gives_way_to_the_threads_that_serve() {
    let gateway =
        Gateway::start("services: { a: { routes: [{ path: /a, respond: { status: 200 } }] } }")
            .await;
    gateway.get("/a").send().await.assert_status(200);
    gateway.admin("/metrics").await.assert_status(200);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let mut niceness: Vec<i32> = tasks
        .map(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            // The name before may have anything in it.
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            fields.split(' ').nth(16).unwrap().parse().unwrap()
        })
        .collect();
    niceness.retain(|it| *it > 0);
    // That of the operators' address, that which wrote the page, and that which reads counts every second.
    assert!((2..=3).contains(&niceness.len()), "{niceness:?}");
    assert!(niceness.iter().all(|it| *it == 10), "{niceness:?}");
}
