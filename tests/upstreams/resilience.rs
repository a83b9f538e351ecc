//! Backends that fail, and clients that don't notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream, service_of};
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn good() -> Upstream {
    Upstream::answering(|seen| Response::new(seen.body.clone())).await
}

async fn answering(status: u16) -> Upstream {
    Upstream::answering(move |_| {
        let response = Response::builder().status(status);
        response.body(Bytes::from_static(b"not now")).unwrap()
    })
    .await
}

/// Reads a request's header, writes `answer`, and waits for the client to go, unless it closes first.
async fn rude(answer: &'static [u8], closes: bool) -> Upstream {
    Upstream::raw(move |mut stream| async move {
        let mut header = [0; 4096];
        while let Ok(1..) = stream.read(&mut header).await {
            if stream.write_all(answer).await.is_err() || closes {
                return;
            }
        }
    })
    .await
}

/// Backends in turn, whatever they did: an answer may reach its client before the request counts as over,
/// and the default law looks at what is under way.
const STAY: &str = "outlier_detection: off, circuit_breaker: off, load_balancing: round_robin";

#[tokio::test]
async fn an_answer_that_says_try_again_is_tried_elsewhere() {
    for status in [502, 503, 504] {
        let (bad, well) = (answering(status).await, good().await);
        let gateway = Gateway::start(&service_of([&bad, &well], STAY)).await;
        for _ in 0..4 {
            gateway.get("/a").send().await.assert_status(200);
        }
        assert_eq!(bad.seen().len(), 2);
        let log = gateway.log(4).await;
        let repeated = log.iter().find(|line| line["attempts"] == 2).unwrap();
        assert_eq!(repeated["flags"], json!(["retried"]));
        let second = well.seen();
        let second = second.iter().find_map(|it| it.header("x-tollgate-attempt"));
        assert_eq!(second, Some("2"));
        assert_eq!(bad.last().header("x-tollgate-attempt"), None);
    }
}

#[tokio::test]
async fn what_is_not_safe_or_not_wanted_is_passed_on() {
    let (bad, error, well) = (answering(503).await, answering(500).await, good().await);
    let gateway = Gateway::start(&service_of([&bad, &well], STAY)).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(gateway.post("/a").send().await.status.as_u16());
    }
    assert_eq!(statuses, [503, 200]);
    let rest = format!("{STAY}, retry: {{ all_methods: true }}");
    let gateway = Gateway::start(&service_of([&bad, &well], &rest)).await;
    for _ in 0..2 {
        gateway.post("/a").send().await.assert_status(200);
    }
    let rest = format!("{STAY}, retry: off");
    let gateway = Gateway::start(&service_of([&bad, &well], &rest)).await;
    gateway.get("/a").send().await.assert_status(503);
    let gateway = Gateway::start(&service_of([&error, &well], STAY)).await;
    let answer = gateway.get("/a").send().await.assert_status(500);
    assert_eq!(answer.text(), "not now");
}

#[tokio::test]
async fn the_last_answer_is_passed_on_when_all_fail() {
    let (one, two) = (answering(503).await, answering(503).await);
    let gateway = Gateway::start(&service_of([&one, &two], STAY)).await;
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert_eq!(answer.text(), "not now");
    assert_eq!(one.seen().len() + two.seen().len(), 3);
    assert_eq!(gateway.log(1).await[0]["attempts"], 3);
}

#[tokio::test]
async fn broken_connections_garbage_and_silence_are_tried_elsewhere() {
    let faults = [
        (rude(b"", true).await, "{}"),
        (rude(b"HTTP/1.1 200 OK\r\nContent-Le", true).await, "{}"),
        (rude(b"what is this\r\n\r\n", true).await, "{}"),
        (
            rude(b"", false).await,
            "{ on: [timeout], per_try_timeout: 200ms }",
        ),
    ];
    for (bad, retry) in &faults {
        let well = good().await;
        let rest = format!("{STAY}, retry: {retry}");
        let gateway = Gateway::start(&service_of([bad, &well], &rest)).await;
        let mut refused = 0;
        for _ in 0..4 {
            gateway.get("/a").send().await.assert_status(200);
        }
        for _ in 0..4 {
            let answer = gateway.request(Method::POST, "/a").send().await;
            refused += usize::from(answer.status.is_server_error());
        }
        // Those that may have had an effect were not repeated.
        assert!(refused > 0, "{retry}");
    }
}

#[tokio::test]
async fn a_body_is_sent_again_as_a_whole_or_not_at_all() {
    let (bad, well) = (answering(503).await, good().await);
    let gateway = Gateway::start(&service_of([&bad, &well], STAY)).await;
    let body = Bytes::from(vec![b'x'; 40_000]);
    for _ in 0..2 {
        let request = gateway.request(Method::PUT, "/a").body(body.clone());
        let answer = request.send().await.assert_status(200);
        assert_eq!(answer.body, body);
    }
    let large = Bytes::from(vec![b'x'; 200_000]);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let request = gateway.request(Method::PUT, "/a").body(large.clone());
        statuses.push(request.send().await.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
}

#[tokio::test]
async fn repetitions_stay_within_their_budget() {
    let (one, two) = (answering(503).await, answering(503).await);
    let gateway = Gateway::start(&service_of([&one, &two], STAY)).await;
    let mut kept = gateway.connect().await;
    let requests = 400;
    let begun = Instant::now();
    for _ in 0..requests {
        kept.get("/a").await.assert_status(503);
    }
    let repeated = one.seen().len() + two.seen().len() - requests;
    // A fifth of the requests, and 3 a second of each window of ten.
    let windows = 1 + begun.elapsed().as_secs() as usize / 10;
    let most = requests / 5 + 30 * windows;
    assert!((30..=most).contains(&repeated), "{repeated} of {most}");
}

#[tokio::test]
async fn a_backend_that_fails_is_left_alone_for_a_while() {
    let broken = Arc::new(AtomicUsize::new(0));
    let count = broken.clone();
    let bad = Upstream::raw(move |_| {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let (one, two) = (good().await, good().await);
    let rest = "outlier_detection: { consecutive_failures: 3, ejection: 4m }";
    let gateway = Gateway::start(&service_of([&bad, &one, &two], rest)).await;
    for _ in 0..60 {
        gateway.get("/a").send().await.assert_status(200);
    }
    assert_eq!(broken.load(Ordering::Relaxed), 3);
    let log = gateway.process_log();
    let said = format!(
        "endpoint ejected: service=a endpoint=http://{}",
        bad.address
    );
    assert!(log.contains(&said), "{log}");
    // When its time is over it is tried again.
    let rest = "outlier_detection: { consecutive_failures: 3, ejection: 1s }";
    let gateway = Gateway::start(&service_of([&bad, &one, &two], rest)).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while broken.load(Ordering::Relaxed) <= 6 {
        assert!(Instant::now() < deadline, "it never comes back");
        gateway.get("/a").send().await.assert_status(200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn no_client_notices_when_one_of_three_is_killed() {
    let (one, two, three) = (good().await, good().await, good().await);
    let gateway = Gateway::start(&service_of([&one, &two, &three], "")).await;
    let mut traffic = crate::support::Traffic::start(gateway.address, "/a");
    traffic.flows(100).await;
    drop(two);
    traffic.flows(500).await;
    traffic.end().await;
    assert!(gateway.process_log().contains("endpoint ejected"));
}

/// A backend that fails until it is told to be well.
async fn curable() -> (Upstream, Arc<AtomicUsize>) {
    let status = Arc::new(AtomicUsize::new(503));
    let its = status.clone();
    let upstream = Upstream::answering(move |_| {
        let status = its.load(Ordering::Relaxed) as u16;
        let response = Response::builder().status(status);
        response
            .body(Bytes::from_static(b"from the backend"))
            .unwrap()
    })
    .await;
    (upstream, status)
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_until_it_is_well() {
    let (backend, status) = curable().await;
    let rest = "retry: off, circuit_breaker: { minimum_requests: 10, open_for: 1s, half_open_requests: 2 }";
    let gateway = Gateway::start(&service_of([&backend], rest)).await;
    for _ in 0..10 {
        let answer = gateway.get("/a").send().await.assert_status(503);
        assert_eq!(answer.text(), "from the backend");
    }
    let answer = gateway.get("/a").send().await.assert_status(503);
    let answer = answer.assert_header("proxy-status", "tollgate; error=destination_unavailable");
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:circuit-open");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(backend.seen().len(), 10);
    let log = gateway.log(11).await;
    let is_refused = |line: &&serde_json::Value| line["flags"] == json!(["circuit_open"]);
    assert_eq!(log.iter().filter(is_refused).count(), 1);
    assert!(gateway.process_log().contains("circuit opened: service=a"));
    assert_eq!(gateway.status().await["impaired"][0]["service"], "a");
    let metrics = gateway.admin("/metrics").await.text();
    let state = |metrics: &str| {
        let line = metrics
            .lines()
            .find(|it| it.starts_with("tollgate_circuit_breaker_state{"));
        line.unwrap().chars().last().unwrap()
    };
    assert!(['1', '2'].contains(&state(&metrics)), "{metrics}");

    // It asks again, finds it ill, and waits longer; then it finds it well.
    let deadline = Instant::now() + Duration::from_secs(20);
    while backend.seen().len() == 10 {
        assert!(Instant::now() < deadline, "it never asks again");
        gateway.get("/a").send().await.assert_status(503);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.process_log().matches("circuit opened").count(), 2);
    status.store(200, Ordering::Relaxed);
    while gateway.get("/a").send().await.status != 200 {
        assert!(Instant::now() < deadline, "it never closes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while !gateway.process_log().contains("circuit closed: service=a") {
        assert!(Instant::now() < deadline, "it never closes");
        gateway.get("/a").send().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.status().await["impaired"], json!([]));
    assert_eq!(state(&gateway.admin("/metrics").await.text()), '0');
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_a_service_bears() {
    let (release, released) = tokio::sync::watch::channel(false);
    let backend = Upstream::serving(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|it| *it).await;
            Response::new(http_body_util::BodyExt::boxed(http_body_util::Full::new(
                Bytes::from_static(b"late"),
            )))
        }
    })
    .await;
    let rest = "circuit_breaker: { max_in_flight: 2 }";
    let gateway = Gateway::start(&service_of([&backend], rest)).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(gateway.get("/a").send()))
        .collect();
    while backend.connections() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = gateway.get("/a").send().await.assert_status(503);
    let answer = answer.assert_header("retry-after", "1");
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:overloaded");
    release.send(true).unwrap();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().assert_status(200).text(), "late");
    }
    gateway.get("/a").send().await.assert_status(200);
    let log = gateway.log(4).await;
    let is_refused = |line: &&serde_json::Value| line["flags"] == json!(["overloaded"]);
    assert_eq!(log.iter().filter(is_refused).count(), 1);
}
