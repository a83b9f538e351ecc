//! Requests that wait for a rate limit, driven from outside.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Redis, Upstream};
use serde_json::{Value, json};

/// A service `a` whose route `/a` has this limit.
fn config(upstream: &Upstream, limit: &str) -> String {
    format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: /a, rate_limit: {limit} }}] }} }}",
        upstream.address
    )
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Requests that have been let wait so far.
async fn queued(gateway: &Gateway) -> u64 {
    let text = gateway.admin("/metrics").await.assert_status(200).text();
    let sample = "tollgate_rate_limit_decisions_total{limit=\"/a\",decision=\"queued\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(sample));
    value.map_or(0, |value| value.parse().unwrap())
}

fn flags(line: &Value) -> Vec<&str> {
    let flags = line["flags"].as_array().unwrap();
    flags.iter().map(|flag| flag.as_str().unwrap()).collect()
}

/// `count` requests for `/a/0`, `/a/1` and so on, each sent when the one before waits.
async fn one_after_another(
    gateway: &Gateway,
    count: u64,
) -> Vec<tokio::task::JoinHandle<crate::support::Answer>> {
    let before = queued(gateway).await;
    let mut requests = Vec::new();
    for number in 0..count {
        requests.push(tokio::spawn(gateway.get(&format!("/a/{number}")).send()));
        until(async || queued(gateway).await == before + number + 1).await;
    }
    requests
}

#[tokio::test]
async fn requests_above_the_limit_pass_later_in_the_order_in_which_they_came() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 3s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a/first").send().await.assert_status(200);
    for request in one_after_another(&gateway, 3).await {
        request.await.unwrap().assert_status(200);
    }
    let order: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(order, ["/a/first", "/a/0", "/a/1", "/a/2"]);
    let log = gateway.log(4).await;
    for line in &log {
        let has_waited = line["path"] != "/a/first";
        assert_eq!(
            flags(line),
            if has_waited { vec!["queued"] } else { vec![] }
        );
        assert_eq!(
            line["limit"],
            if has_waited { json!("/a") } else { json!(null) }
        );
        let waited = line["queued_us"].as_u64();
        assert_eq!(waited.is_some(), has_waited, "{line}");
        assert!(waited.unwrap_or_default() <= line["total_us"].as_u64().unwrap());
    }
}

#[tokio::test]
async fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 1h, algorithm: fixed_window, queue: { max_wait: 10s } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a").send().await.assert_status(200);
    let refused = gateway.get("/a").send().await.assert_status(429);
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3601).contains(&retry), "{retry}");
    let log = gateway.log(2).await;
    let line = log.iter().find(|line| line["status"] == 429).unwrap();
    assert_eq!(flags(line), ["rate_limited"]);
    assert_eq!(line["queued_us"], json!(null));
    assert_eq!(queued(&gateway).await, 0);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 4s, algorithm: fixed_window, queue: { max_wait: 20s, max_waiting: 2 } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a/first").send().await.assert_status(200);
    let waiting = one_after_another(&gateway, 2).await;
    gateway.get("/a/beyond").send().await.assert_status(429);
    // Another address is under its limit.
    let other = gateway.get("/a/other").from("127.0.0.2").send().await;
    other.assert_status(200);
    for request in waiting {
        request.await.unwrap().assert_status(200);
    }
}

/// Its place is free again, and it takes nothing of the limit.
#[tokio::test]
async fn a_client_that_goes_away_waits_no_longer() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 5s, algorithm: fixed_window, queue: { max_wait: 20s, max_waiting: 1 } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a/first").send().await.assert_status(200);
    let gone = one_after_another(&gateway, 1).await;
    gone.into_iter().for_each(|request| request.abort());
    let mut log = Vec::new();
    until(async || {
        log = gateway.log(1).await;
        log.iter().any(|line| line["path"] == "/a/0")
    })
    .await;
    let line = log.iter().find(|line| line["path"] == "/a/0").unwrap();
    assert_eq!(line["status"], 0);
    assert_eq!(flags(line), ["client_gone", "queued"]);
    assert_eq!(line["limit"], "/a");
    gateway.get("/a/next").send().await.assert_status(200);
    let order: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(order, ["/a/first", "/a/next"]);
}

#[tokio::test]
async fn a_body_waits_with_its_request() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 3s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a").send().await.assert_status(200);
    let body = vec![b'x'; 300_000];
    let sent = gateway.post("/a").body(body.clone()).send().await;
    sent.assert_status(200);
    assert_eq!(upstream.seen()[1].body, body);
    assert_eq!(queued(&gateway).await, 1);
}

/// What comes under the new configuration stands behind what waits under the old one.
#[tokio::test]
async fn a_reload_changes_nothing_for_those_who_wait() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 4s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a/first").send().await.assert_status(200);
    let waiting = one_after_another(&gateway, 1).await;
    gateway.edit("max_wait: 20s", "max_wait: 25s");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    let later = tokio::spawn(gateway.get("/a/later").send());
    until(async || queued(&gateway).await == 2).await;
    for request in waiting.into_iter().chain([later]) {
        request.await.unwrap().assert_status(200);
    }
    let order: Vec<_> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(order, ["/a/first", "/a/0", "/a/later"]);
}

#[tokio::test]
async fn who_waits_is_answered_before_the_process_ends() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 2s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let server = "server: { listen: $LISTEN, shutdown: { grace: 0s, deadline: 60s } }\nadmin: { listen: $ADMIN }\n";
    let mut gateway = Gateway::start(&format!("{server}{}", config(&upstream, limit))).await;
    gateway.get("/a").send().await.assert_status(200);
    let waiting = one_after_another(&gateway, 2).await;
    gateway.signal("TERM");
    for request in waiting {
        request.await.unwrap().assert_status(200);
    }
    assert!(gateway.wait().await.success());
    assert!(!gateway.process_log().contains("cut_connections"));
}

#[tokio::test]
async fn who_waits_is_answered_by_the_process_that_is_succeeded() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 5s, algorithm: fixed_window, queue: { max_wait: 20s } }";
    let mut gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a").send().await.assert_status(200);
    let waiting = one_after_another(&gateway, 1).await;
    gateway.upgrade().await;
    for request in waiting {
        request.await.unwrap().assert_status(200);
    }
    assert!(gateway.left_behind().await.is_empty());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_client_does() {
    let upstream = Upstream::echo().await;
    let limit = "{ limit: 1, window: 20s, algorithm: fixed_window, queue: { max_wait: 30s } }";
    let gateway = Gateway::start(&config(&upstream, limit)).await;
    gateway.get("/a").send().await.assert_status(200);
    let impatient = gateway.get("/a").header("grpc-timeout", "5S").send();
    impatient.await.assert_status(429);
    assert_eq!(queued(&gateway).await, 0);
}

/// Where other gateways count too, each has lines of its own.
#[tokio::test]
async fn requests_wait_for_a_shared_limit() {
    for mode in ["fast", "strict"] {
        let redis = Redis::start().await;
        let upstream = Upstream::echo().await;
        let limit = format!(
            "{{ limit: 1, window: 3s, algorithm: fixed_window, store: redis, mode: {mode}, queue: {{ max_wait: 20s }} }}"
        );
        let shared = format!(
            "redis: {{ url: \"redis://{}\" }}\n{}",
            redis.address,
            config(&upstream, &limit)
        );
        let gateway = Gateway::start(&shared).await;
        gateway.get("/a/first").send().await.assert_status(200);
        for request in one_after_another(&gateway, 2).await {
            request.await.unwrap().assert_status(200);
        }
        let order: Vec<_> = upstream.seen().into_iter().map(|it| it.target).collect();
        assert_eq!(order, ["/a/first", "/a/0", "/a/1"], "{mode}");
    }
}
