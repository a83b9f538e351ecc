//! How long a request may take is kept across attempts and passed on.

use std::time::Duration;

use crate::support::{Gateway, Upstream, service_of};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;

/// Waits for ever unless the path ends with `quick`.
async fn slow() -> Upstream {
    Upstream::serving(
        |request: hyper::Request<hyper::body::Incoming>| async move {
            if !request.uri().path().ends_with("quick") {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Response::new(http_body_util::Full::new(Bytes::new()).boxed())
        },
    )
    .await
}

fn left(seen: &crate::support::Seen) -> u64 {
    let left = seen.header("x-request-deadline-ms");
    left.unwrap().parse().unwrap()
}

#[tokio::test]
async fn backends_learn_how_much_time_is_left() {
    let answer = |_: &crate::support::Seen| {
        std::thread::sleep(Duration::from_millis(30));
        Response::builder().status(503).body(Bytes::new()).unwrap()
    };
    let (one, two) = (
        Upstream::answering(answer).await,
        Upstream::answering(answer).await,
    );
    let rest = "timeouts: { total: 20s }, outlier_detection: off";
    let gateway = Gateway::start(&service_of([&one, &two], rest)).await;
    // What just anybody says does not count.
    let request = gateway.get("/a").header("x-request-deadline-ms", "5");
    request.send().await.assert_status(503);
    let mut all: Vec<_> = one.seen().iter().chain(&two.seen()).map(left).collect();
    all.sort_unstable();
    assert_eq!(all.len(), 3);
    assert!(all[2] <= 20_000 && all[2] > 15_000, "{all:?}");
    assert!(all[0] + 30 <= all[1] && all[1] + 30 <= all[2], "{all:?}");
    let rest = "timeouts: { total: off }, outlier_detection: off, retry: off";
    let gateway = Gateway::start(&service_of([&one], rest)).await;
    gateway.get("/a").send().await.assert_status(503);
    assert_eq!(one.last().header("x-request-deadline-ms"), None);
}

#[tokio::test]
async fn grpc_clients_say_how_long_they_wait() {
    let echo = Upstream::echo().await;
    let gateway = Gateway::start(&service_of([&echo], "")).await;
    let request = gateway
        .post("/a")
        .header("content-type", "application/grpc");
    request
        .header("grpc-timeout", "2S")
        .send()
        .await
        .assert_status(200);
    let told = echo.last().header("grpc-timeout").unwrap().to_owned();
    let millis: u64 = told.strip_suffix('m').unwrap().parse().unwrap();
    assert!((1000..=2000).contains(&millis), "{told}");
    assert_eq!(left(&echo.last()), millis);
    // The route's own limit is the shorter one.
    let request = gateway
        .post("/a")
        .header("content-type", "application/grpc+proto");
    request
        .header("grpc-timeout", "1H")
        .send()
        .await
        .assert_status(200);
    assert!(left(&echo.last()) <= 30_000);
}

#[tokio::test]
async fn a_client_that_waits_for_too_short_blames_nobody() {
    let (one, two) = (slow().await, slow().await);
    let rest =
        "outlier_detection: { consecutive_failures: 1 }, circuit_breaker: { minimum_requests: 1 }";
    let gateway = Gateway::start(&service_of([&one, &two], rest)).await;
    for _ in 0..4 {
        let request = gateway.get("/a").header("grpc-timeout", "50m");
        let answer = request.send().await.assert_status(504);
        assert_eq!(
            answer.json()["type"],
            "urn:tollgate:problem:upstream-timeout"
        );
    }
    assert_eq!(gateway.status().await["impaired"], serde_json::json!([]));
    gateway.get("/a/quick").send().await.assert_status(200);
    let request = gateway.get("/a").header("grpc-timeout", "0n");
    request.send().await.assert_status(504);
}

#[tokio::test]
async fn a_trusted_proxy_may_shorten_the_time() {
    let slow = slow().await;
    let config = format!(
        "server: {{ listen: $LISTEN, threads: 2, trusted_proxies: [127.0.0.1] }}
admin: {{ listen: $ADMIN }}
{}",
        service_of([&slow], "")
    );
    let gateway = Gateway::start(&config).await;
    let request = gateway.get("/a").header("x-request-deadline-ms", "50");
    request.send().await.assert_status(504);
    let request = gateway
        .get("/a/quick")
        .header("x-request-deadline-ms", "5000");
    request.send().await.assert_status(200);
}
