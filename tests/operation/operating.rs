//! Backends that operators take out of service, and circuits that they open and close.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Request, Upstream, free_port, service_of};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

const TOKEN: &str = "0123456789abcdef";

/// A gateway whose operators have a token.
async fn start(config: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2 }}\n\
         admin: {{ listen: $ADMIN, token: \"{TOKEN}\" }}\n{config}\n"
    ))
    .await
}

async fn change(gateway: &Gateway, path: &str) -> Answer {
    let request = Request::new(gateway.admin, Method::POST, path);
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    request.send().await
}

async fn services(gateway: &Gateway) -> Value {
    gateway.admin("/services").await.assert_status(200).json()
}

/// Says its name, and below `/a/held` not before it may.
struct Backend {
    upstream: Upstream,
    name: String,
    held: Arc<AtomicUsize>,
    release: watch::Sender<bool>,
}

async fn backend(name: &'static str) -> Backend {
    let held = Arc::new(AtomicUsize::new(0));
    let (release, released) = watch::channel(false);
    let count = held.clone();
    let upstream = Upstream::serving(move |request: hyper::Request<_>| {
        let (mut released, count) = (released.clone(), count.clone());
        async move {
            if request.uri().path().starts_with("/a/held") {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = released.wait_for(|it| *it).await;
            }
            Response::new(Full::new(Bytes::from_static(name.as_bytes())).boxed())
        }
    })
    .await;
    Backend {
        name: format!("http://{}", upstream.address),
        upstream,
        held,
        release,
    }
}

/// Who answers, of some requests one after the other.
async fn answering(gateway: &Gateway) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..8 {
        names.push(gateway.get("/a").send().await.assert_status(200).text());
    }
    names.sort_unstable();
    names.dedup();
    names
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "it never comes to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const IN_TURN: &str = "load_balancing: round_robin, slow_start: off";

#[tokio::test]
async fn requests_under_way_end_well_while_a_drained_backend_gets_no_new_ones() {
    let (one, two) = (backend("one").await, backend("two").await);
    let config = service_of([&one.upstream, &two.upstream], IN_TURN);
    let gateway = start(&config).await;
    let under_way: Vec<_> = (0..2)
        .map(|_| tokio::spawn(gateway.get("/a/held").send()))
        .collect();
    let held = |backend: &Backend| backend.held.load(Ordering::Relaxed);
    until(async || held(&one) == 1 && held(&two) == 1).await;

    let address = one.upstream.address.to_string();
    let (code, said, _) = gateway.command(&["drain", "a", &address]).await;
    assert_eq!(code, 0);
    let expected = format!("drained: {} of a; 1 request is under way to it\n", one.name);
    assert_eq!(said, expected);
    assert_eq!(answering(&gateway).await, ["two"]);
    let logged = format!("endpoint drained: service=a endpoint={}", one.name);
    assert_eq!(gateway.process_log().matches(&logged).count(), 1);

    gateway.edit("slow_start: off", "slow_start: off, retry: off");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert_eq!(answering(&gateway).await, ["two"]);

    // Who has the last byte of an answer may ask before the gateway is done with the request.
    until(async || services(&gateway).await[0]["in_flight"] == 2).await;
    let report = services(&gateway).await;
    let endpoint = &report[0]["endpoints"][0];
    assert_eq!(endpoint["endpoint"], json!(one.name));
    assert_eq!(
        (
            &endpoint["state"],
            &endpoint["is_drained"],
            &endpoint["in_flight"]
        ),
        (&json!("drained"), &json!(true), &json!(1))
    );
    let impaired = &gateway.status().await["impaired"];
    assert_eq!(impaired[0]["drained"], json!([one.name]));
    let state = [("endpoint", &*one.name), ("state", "drained")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("tollgate_endpoint_state", &state), 1.0);
    let of_all = [("endpoint", &*one.name)];
    assert_eq!(metrics.sum("tollgate_endpoint_state", &of_all), 1.0);

    one.release.send(true).unwrap();
    two.release.send(true).unwrap();
    let mut names = Vec::new();
    for answer in under_way {
        names.push(answer.await.unwrap().assert_status(200).text());
    }
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    until(async || services(&gateway).await[0]["in_flight"] == 0).await;
    assert_eq!(services(&gateway).await[0]["endpoints"][0]["requests"], 1);

    let (code, said, _) = gateway.command(&["enable", "a", &one.name]).await;
    assert_eq!(code, 0);
    assert_eq!(said, format!("enabled: {} of a; it is healthy\n", one.name));
    assert_eq!(answering(&gateway).await, ["one", "two"]);
    assert_eq!(gateway.status().await["impaired"], json!([]));
    let logged = format!("endpoint enabled: service=a endpoint={}", one.name);
    assert!(gateway.process_log().contains(&logged));
}

#[tokio::test]
async fn a_service_whose_backends_are_all_drained_has_none() {
    let one = backend("one").await;
    let gateway = start(&format!(
        "services: {{ a: {{ base_url: \"{}\", routes: [/a, {{ path: /b, fallback: {{ status: 200, body: instead }} }}] }} }}",
        one.name
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    let drained = change(&gateway, &format!("/drain?service=a&endpoint={}", one.name)).await;
    assert_eq!(
        drained.assert_status(200).json()["endpoints"][0]["state"],
        "drained"
    );
    let answer = gateway.get("/a").send().await.assert_status(503);
    let answer = answer.assert_header("retry-after", "10");
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:no-endpoint");
    assert_eq!(
        answer.json()["detail"],
        "all backends of this service are out of service for now"
    );
    let answer = gateway.get("/b").send().await.assert_status(200);
    assert_eq!(answer.text(), "instead");
    let log = gateway.log(3).await;
    assert_eq!(log[1]["flags"], json!(["no_endpoint"]));
    assert_eq!(log[1]["attempts"], 0);
}

#[tokio::test]
async fn what_operators_have_changed_lives_across_upgrades() {
    let (one, two) = (backend("one").await, backend("two").await);
    let mut gateway = start(&format!(
        "services:
  a: {{ targets: [\"{}\", \"{}\"], routes: [/a], {IN_TURN} }}
  b: {{ base_url: \"{}\", routes: [/b] }}",
        one.name, two.name, two.name
    ))
    .await;
    let address = one.upstream.address.to_string();
    assert_eq!(gateway.command(&["drain", "a", &address]).await.0, 0);
    let opened = change(&gateway, "/circuit?service=b&state=open").await;
    opened.assert_status(200);
    // The second process hands on what it was given itself.
    for _ in 0..2 {
        gateway.upgrade().await;
        assert_eq!(answering(&gateway).await, ["two"]);
        gateway.get("/b").send().await.assert_status(503);
    }
    let report = services(&gateway).await;
    assert_eq!(report[0]["endpoints"][0]["state"], "drained");
    assert_eq!(report[1]["circuit_is"], "forced_open");

    assert_eq!(gateway.command(&["enable", "a", &address]).await.0, 0);
    let automatic = change(&gateway, "/circuit?service=b&state=automatic").await;
    automatic.assert_status(200);
    gateway.upgrade().await;
    assert_eq!(answering(&gateway).await, ["one", "two"]);
    gateway.get("/b").send().await.assert_status(200);
    assert_eq!(gateway.status().await["impaired"], json!([]));
}

/// Answers with a status that can be changed.
async fn curable() -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = status.clone();
    let upstream = Upstream::answering(move |_| {
        let response = Response::builder().status(told.load(Ordering::Relaxed));
        response
            .body(Bytes::from_static(b"from the backend"))
            .unwrap()
    });
    (upstream.await, status)
}

#[tokio::test]
async fn a_circuit_that_operators_open_is_open_until_they_let_it_go() {
    let (backend, _) = curable().await;
    for rest in ["", "circuit_breaker: off, "] {
        let gateway = start(&format!(
            "services: {{ a: {{ base_url: \"http://{}\", {rest}routes: [/a, {{ path: /b, fallback: {{ status: 200, body: instead }} }}] }} }}",
            backend.address
        ))
        .await;
        gateway.get("/a").send().await.assert_status(200);
        let report = change(&gateway, "/circuit?service=a&state=open").await;
        let report = report.assert_status(200).json();
        assert_eq!(
            (&report["circuit"], &report["circuit_is"]),
            (&json!("open"), &json!("forced_open"))
        );
        let before = backend.seen().len();
        for _ in 0..2 {
            let answer = gateway.get("/a").send().await.assert_status(503);
            let answer = answer.assert_header("retry-after", "10");
            assert_eq!(answer.json()["type"], "urn:tollgate:problem:circuit-open");
            let answer = gateway.get("/b").send().await.assert_status(200);
            assert_eq!(answer.text(), "instead");
            // It outlives a reload that changes the service.
            gateway.edit("routes: [/a", "retry: off, routes: [/c, /a");
            assert_eq!(gateway.command(&["reload"]).await.0, 0);
            gateway.edit("retry: off, routes: [/c, /a", "routes: [/a");
        }
        assert_eq!(backend.seen().len(), before);
        let impaired = &gateway.status().await["impaired"][0];
        assert_eq!(impaired["circuit_is"], "forced_open");
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("tollgate_circuit_breaker_state", &[]), 2.0);
        assert_eq!(metrics.sum("tollgate_circuit_breaker_forced", &[]), 1.0);
        for _ in 0..2 {
            let answer = change(&gateway, "/circuit?service=a&state=automatic").await;
            assert_eq!(answer.assert_status(200).json()["circuit"], "closed");
        }
        gateway.get("/a").send().await.assert_status(200);
        assert_eq!(gateway.status().await["impaired"], json!([]));
        let log = gateway.process_log();
        for line in [
            "circuit forced open: service=a",
            "circuit automatic again: service=a",
        ] {
            assert_eq!(log.matches(line).count(), 1, "{log}");
        }
    }
}

#[tokio::test]
async fn a_circuit_that_operators_close_stays_closed_under_failures_until_it_is_automatic() {
    let (backend, status) = curable().await;
    status.store(503, Ordering::Relaxed);
    let rest = "retry: off, circuit_breaker: { minimum_requests: 10, open_for: 60s }";
    let gateway = start(&service_of([&backend], rest)).await;
    change(&gateway, "/circuit?service=a&state=closed")
        .await
        .assert_status(200);
    for _ in 0..30 {
        let answer = gateway.get("/a").send().await.assert_status(503);
        assert_eq!(answer.text(), "from the backend");
    }
    let report = services(&gateway).await;
    assert_eq!(
        (&report[0]["circuit"], &report[0]["circuit_is"]),
        (&json!("closed"), &json!("forced_closed"))
    );
    change(&gateway, "/circuit?service=a&state=automatic")
        .await
        .assert_status(200);
    for _ in 0..10 {
        let answer = gateway.get("/a").send().await.assert_status(503);
        assert_eq!(answer.text(), "from the backend");
    }
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:circuit-open");
    let report = services(&gateway).await;
    assert_eq!(
        (&report[0]["circuit"], &report[0]["circuit_is"]),
        (&json!("open"), &json!("automatic"))
    );
    until(async || services(&gateway).await[0]["errors"] == 40).await;
    assert_eq!(services(&gateway).await[0]["requests"], 40);
}

#[tokio::test]
async fn enabling_ends_an_ejection() {
    let (one, status) = curable().await;
    let (two, _) = curable().await;
    status.store(503, Ordering::Relaxed);
    let rest = "retry: off, load_balancing: round_robin, slow_start: off, circuit_breaker: off, \
                outlier_detection: { consecutive_failures: 2, ejection: 5m }";
    let gateway = start(&service_of([&one, &two], rest)).await;
    until(async || {
        gateway.get("/a").send().await;
        services(&gateway).await[0]["endpoints"][0]["state"] == "ejected"
    })
    .await;
    status.store(200, Ordering::Relaxed);
    let (code, said, _) = gateway
        .command(&["enable", "a", &one.address.to_string()])
        .await;
    assert_eq!(code, 0, "{said}");
    let before = one.seen().len();
    for _ in 0..4 {
        gateway.get("/a").send().await.assert_status(200);
    }
    assert_eq!(one.seen().len() - before, 2);
}

#[tokio::test]
async fn what_is_not_there_is_said_and_nothing_changes_without_the_token() {
    let one = backend("one").await;
    let gateway = start(&service_of([&one.upstream], IN_TURN)).await;
    let closed = free_port();
    for (path, status, said) in [
        (
            "/drain?service=b&endpoint=x",
            404,
            "no service is called `b`",
        ),
        (
            "/drain?service=a&endpoint=x",
            404,
            &*format!("it has {}", one.name),
        ),
        (
            "/enable?service=a&endpoint=x",
            404,
            "`a` has no endpoint `x`",
        ),
        ("/drain?service=a", 400, "`endpoint` is missing"),
        ("/drain?endpoint=x", 400, "`service` is missing"),
        (
            "/circuit?service=a&state=half",
            400,
            "`open`, `closed` or `automatic`",
        ),
        (
            "/circuit?service=a&mode=open",
            400,
            "`mode` is nothing to ask for",
        ),
    ] {
        let answer = change(&gateway, path).await.assert_status(status);
        assert!(answer.text().contains(said), "{path}: {}", answer.text());
    }
    for path in ["/drain", "/enable", "/circuit"] {
        let path = format!("{path}?service=a&endpoint={}&state=open", one.name);
        let answer = Request::new(gateway.admin, Method::POST, &path);
        answer.send().await.assert_status(401);
    }
    assert_eq!(gateway.status().await["impaired"], json!([]));
    let (code, _, said) = gateway.command(&["drain", "a", &closed.to_string()]).await;
    assert_eq!(code, 1);
    assert!(said.contains("`a` has no endpoint"), "{said}");
}

#[tokio::test]
async fn services_are_listed_for_people_and_programs() {
    let one = backend("one").await;
    let gateway = start(&format!(
        "auth_providers: {{ sso: {{ forward: {{ url: \"{0}/check\" }} }} }}\n\
         services:\n  \
           z: {{ base_url: \"{0}\", routes: [/a] }}\n  \
           b: {{ targets: [{{ url: \"{0}\", weight: 7 }}], load_balancing: peak_ewma, routes: [{{ path: /b, auth: sso }}] }}",
        one.name
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    until(async || services(&gateway).await[0]["requests"] == 1).await;
    change(&gateway, "/circuit?service=b&state=closed")
        .await
        .assert_status(200);
    let (code, table, _) = gateway.command(&["services"]).await;
    assert_eq!(code, 0);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let name = &*one.name;
    assert_eq!(rows[0][..4], ["service", "circuit", "state", "in"]);
    assert_eq!(
        rows[1],
        ["z", "closed", "healthy", "0", "-", "1", "0", name]
    );
    assert_eq!(
        rows[2],
        [
            "b", "closed", "by", "hand", "healthy", "0", "-", "0", "0", name
        ]
    );
    assert_eq!(rows[3][0], "auth_providers.sso");
    let (_, said, _) = gateway.command(&["status"]).await;
    assert!(said.contains("b: circuit closed by hand"), "{said}");
    let (_, printed, _) = gateway.command(&["services", "--json"]).await;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, services(&gateway).await);
    assert_eq!(printed[1]["endpoints"][0]["weight"], 7);
    let places: Vec<_> = printed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["place"])
        .collect();
    assert_eq!(
        places,
        ["gateway.yaml:5:3", "gateway.yaml:6:3", "gateway.yaml:3:19"]
    );
}
