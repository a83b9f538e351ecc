//! Second attempts beside the first: which request gets one, and that nothing else changes for it.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{Fault, Gateway, Upstream, service_of};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The first of two backends gets the first request.
const IN_TURN: &str =
    "load_balancing: round_robin, outlier_detection: off, timeouts: { total: 5s }";

fn hedged(backends: &[&Upstream], after: &str) -> String {
    let retry = format!("retry: {{ hedge_after: {after}, hedge_budget: 100% }}");
    service_of(backends.iter().copied(), &format!("{IN_TURN}, {retry}"))
}

/// Answers `slow` after so long.
async fn slow(pause: Duration) -> Upstream {
    Upstream::serving(move |_| async move {
        tokio::time::sleep(pause).await;
        Response::new(Full::new(Bytes::from_static(b"slow")).boxed())
    })
    .await
}

#[tokio::test]
async fn what_takes_long_is_asked_elsewhere_too() {
    let (hanging, well) = (Fault::Hangs.backend().await, Upstream::echo().await);
    let gateway = Gateway::start(&hedged(&[&hanging, &well], "50ms")).await;
    let answer = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(answer.text(), "hello");
    assert_eq!(well.last().header("x-tollgate-attempt"), Some("2"));
    let left: u64 = well
        .last()
        .header("x-request-deadline-ms")
        .unwrap()
        .parse()
        .unwrap();
    assert!(left < 5000, "{left}");
    gateway.log(1).await;
    // The next one's turn is the other's.
    gateway.get("/a").send().await.assert_status(200);
    assert_eq!(well.last().header("x-tollgate-attempt"), None);
    let log = gateway.log(2).await;
    assert_eq!(log[0]["flags"], serde_json::json!(["hedged"]));
    assert_eq!(log[0]["attempts"], 2);
    assert_eq!(log[0]["endpoint"], format!("http://{}", well.address));
    assert_eq!(log[1]["attempts"], 1);
    assert_eq!(log[1]["flags"], serde_json::json!([]));
}

#[tokio::test]
async fn the_first_good_answer_wins_whoever_gives_it() {
    // The first, after all.
    let (first, hanging) = (
        slow(Duration::from_millis(200)).await,
        Fault::Hangs.backend().await,
    );
    let gateway = Gateway::start(&hedged(&[&first, &hanging], "50ms")).await;
    let answer = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(answer.text(), "slow");
    let log = gateway.log(1).await;
    assert_eq!(log[0]["endpoint"], format!("http://{}", first.address));
    assert_eq!(log[0]["flags"], serde_json::json!(["hedged"]));

    // The first, since the second one's is to be repeated.
    for bad in [
        Fault::Says(503),
        Fault::Resets,
        Fault::Refuses,
        Fault::Garbles,
    ] {
        let (first, bad) = (slow(Duration::from_millis(300)).await, bad.backend().await);
        let gateway = Gateway::start(&hedged(&[&first, &bad], "50ms")).await;
        let answer = gateway.get("/a").send().await.assert_status(200);
        assert_eq!(answer.text(), "slow");
    }
}

#[tokio::test]
async fn when_both_fail_the_client_is_told() {
    let (hanging, bad) = (Fault::Hangs.backend().await, Fault::Resets.backend().await);
    let config = hedged(&[&hanging, &bad], "50ms").replace("total: 5s", "total: 400ms");
    let gateway = Gateway::start(&config).await;
    let answer = gateway.get("/a").send().await.assert_status(504);
    assert_eq!(
        answer.json()["type"],
        "urn:tollgate:problem:upstream-timeout"
    );
    let log = gateway.log(1).await;
    assert_eq!(log[0]["status"], 504);
}

#[tokio::test]
async fn only_what_may_be_sent_twice_is() {
    let (first, second) = (
        slow(Duration::from_millis(150)).await,
        Upstream::echo().await,
    );
    let gateway = Gateway::start(&hedged(&[&first, &second], "20ms")).await;
    // Each has the first backend's turn, and the one after it the second's.
    let post = || gateway.post("/a");
    let with_body = || gateway.request(Method::PUT, "/a").body("some");
    assert_eq!(post().send().await.text(), "slow");
    assert_eq!(gateway.get("/a").send().await.text(), "hello");
    assert_eq!(with_body().send().await.text(), "slow");
    assert_eq!(gateway.get("/a").send().await.text(), "hello");
    assert_eq!(gateway.get("/a").send().await.text(), "hello");
    let log = gateway.log(5).await;
    let hedged: Vec<_> = log
        .iter()
        .filter(|it| it["flags"] == serde_json::json!(["hedged"]))
        .collect();
    assert_eq!(hedged.len(), 1);
    assert_eq!(hedged[0]["attempts"], 2);
}

#[tokio::test]
async fn no_more_are_sent_twice_than_the_budget_says() {
    let (one, two) = (
        slow(Duration::from_millis(20)).await,
        slow(Duration::from_millis(20)).await,
    );
    let config = hedged(&[&one, &two], "1ms").replace("100%", "5%");
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    for _ in 0..100 {
        client.get("/a").await.assert_status(200);
    }
    let log = gateway.log(100).await;
    let hedged = log.iter().filter(|it| it["attempts"] == 2).count();
    assert!((1..=5).contains(&hedged), "{hedged}");
}

#[tokio::test]
async fn a_percentile_is_known_after_some_answers() {
    let one = Upstream::serving(
        |request: hyper::Request<hyper::body::Incoming>| async move {
            let is_second = request.headers().contains_key("x-tollgate-attempt");
            if request.uri().query() == Some("slow") && !is_second {
                std::future::pending::<()>().await;
            }
            Response::new(Full::new(Bytes::from_static(b"fast")).boxed())
        },
    )
    .await;
    let config = hedged(&[&one], "p95").replace("total: 5s", "total: 1s");
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.connect().await;
    client.get("/a?slow").await.assert_status(504);
    for _ in 0..60 {
        client.get("/a").await.assert_status(200);
    }
    client.get("/a?slow").await.assert_status(200);
    let log = gateway.log(62).await;
    let hedged = log.iter().filter(|it| it["attempts"] == 2);
    let flags: Vec<_> = hedged.map(|it| &it["flags"]).collect();
    assert_eq!(flags, [&serde_json::json!(["hedged"])]);
}

#[tokio::test]
async fn losers_keep_their_connections_and_their_word_counts() {
    let (one, two) = (
        slow(Duration::from_millis(60)).await,
        slow(Duration::from_millis(60)).await,
    );
    let gateway = Gateway::start(&hedged(&[&one, &two], "10ms")).await;
    let mut client = gateway.connect().await;
    for _ in 0..10 {
        client.get("/a").await.assert_status(200);
        // The loser is a little later.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    for backend in [&one, &two] {
        backend.assert_connections(backend.connections().min(2), &gateway);
    }

    // One that only ever loses is ejected nevertheless.
    let failing = Upstream::serving(|_| async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        Response::builder()
            .status(503)
            .body(Full::new(Bytes::new()).boxed())
            .unwrap()
    })
    .await;
    let well = Upstream::echo().await;
    let config = hedged(&[&failing, &well], "10ms").replace(
        "outlier_detection: off",
        "outlier_detection: { consecutive_failures: 3 }",
    );
    let gateway = Gateway::start(&config).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !gateway.process_log().contains("endpoint ejected") {
        assert!(std::time::Instant::now() < deadline);
        gateway.get("/a").send().await.assert_status(200);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let (one, two) = (Fault::Hangs.backend().await, Fault::Hangs.backend().await);
    let gateway = Gateway::start(&hedged(&[&one, &two], "10ms")).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    let log = gateway.log(1).await;
    assert!(
        log[0]["flags"]
            .as_array()
            .unwrap()
            .contains(&"client_gone".into()),
        "{}",
        log[0]
    );
    assert!(log[0]["total_us"].as_u64().unwrap() < 4_000_000);
    assert_eq!(log[0]["endpoint"], format!("http://{}", one.address));
}

/// What a backend may say, byte for byte.
const ANSWERS: [(&str, &[u8]); 12] = [
    ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: 1\r\nX-A: 2\r\n\r\nbody"),
    ("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
    ("closed", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"),
    ("ancient", b"HTTP/1.0 200 Fine\r\n\r\nuntil the end"),
    ("none", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("unmodified", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    ("early", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    ("hops", b"HTTP/1.1 404 Not Here\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nContent-Length: 2\r\n\r\nno"),
    ("error", b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"),
    ("switch", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("short", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody"),
];

/// Answers by the target's query; closes after each answer. What is to be hedged is answered when the
/// second request for it has come, not before, however slow the machine is.
async fn speaking() -> Upstream {
    let asked = watch::Sender::new(HashMap::<String, u32>::new());
    Upstream::raw(move |mut stream| {
        let asked = asked.clone();
        async move {
            let mut request = [0; 8192];
            let Ok(length @ 1..) = stream.read(&mut request).await else {
                return;
            };
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let query = request.split(['?', ' ']).nth(2).unwrap_or_default();
            let answer = ANSWERS.iter().find(|(name, _)| *name == query);
            let answer = answer.map_or(&b""[..], |(_, answer)| answer);
            let case = request.lines().find_map(|it| it.strip_prefix("x-case: "));
            if let Some(case) = case {
                asked.send_modify(|asked| *asked.entry(case.to_owned()).or_default() += 1);
                let is_hedged = |asked: &HashMap<String, u32>| asked[case] >= 2;
                let mut asked = asked.subscribe();
                // The other one comes to nothing if its kept connection was closed in that moment.
                let second = asked.wait_for(is_hedged);
                let _ = tokio::time::timeout(Duration::from_secs(1), second).await;
            }
            let end = answer
                .windows(4)
                .rposition(|it| it == b"\r\n\r\n")
                .map_or(0, |at| at + 4);
            let head = if query == "chunked" { 47 } else { end };
            let _ = stream.write_all(&answer[..head]).await;
            // The head comes a little before the body.
            tokio::time::sleep(Duration::from_millis(10)).await;
            if !request.starts_with("HEAD") {
                let _ = stream.write_all(&answer[head..]).await;
            }
        }
    })
    .await
}

/// An answer without what differs from request to request.
fn lasting(answer: &str) -> String {
    let differs = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("x-request-id:") && !line.starts_with("date:")
    };
    let lines = answer.split("\r\n").filter(differs).collect::<Vec<_>>();
    let text = lines.join("\r\n");
    // A problem names the request.
    match text.find("\"instance\"") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[tokio::test]
async fn clients_see_no_difference() {
    let backend = speaking().await;
    let config = format!(
        "retry: {{ attempts: 1 }}\nservices: {{
            plain: {{ base_url: \"http://{0}\", outlier_detection: off, circuit_breaker: off, routes: [/plain] }},
            hedged: {{ base_url: \"http://{0}\", outlier_detection: off, circuit_breaker: off, routes: [/hedged],
                       retry: {{ attempts: 1, hedge_after: 1ms, hedge_budget: 100%, budget: 100% }} }} }}",
        backend.address
    );
    let gateway = Gateway::start(&config).await;
    let mut asked = Vec::new();
    for (name, _) in ANSWERS {
        for method in ["GET", "HEAD"] {
            for version in ["1.0", "1.1"] {
                asked.push((name, method, version));
            }
        }
    }
    let gateway = &gateway;
    let compared = futures_util::stream::iter(asked).map(|(name, method, version)| async move {
        let request = |route: &str, more: &str| {
            format!(
                "{method} /{route}?{name} HTTP/{version}\r\nHost: a\r\n{more}Connection: close\r\n\r\n"
            )
        };
        let case = format!("X-Case: {method} {name} {version}\r\n");
        let plain = gateway.exchange(request("plain", "").as_bytes()).await;
        let hedged = gateway.exchange(request("hedged", &case).as_bytes()).await;
        assert_eq!(
            lasting(&plain),
            lasting(&hedged),
            "{method} {name} {version}"
        );
        assert!(plain.starts_with("HTTP/1."), "{plain}");
    });
    compared.buffer_unordered(8).collect::<()>().await;
    let log = gateway.log(4 * 2 * ANSWERS.len()).await;
    let hedged = log.iter().filter(|it| it["route"] == "/hedged");
    let attempts: Vec<_> = hedged.map(|it| &it["attempts"]).collect();
    assert_eq!(attempts.len(), 4 * ANSWERS.len());
    // More where a kept connection was closed in the same moment.
    assert!(
        attempts.iter().all(|it| it.as_u64() >= Some(2)),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn connections_are_kept_and_large_answers_are_whole() {
    const CHUNKS: usize = 200;
    let chunk = || Bytes::from(vec![b'x'; 50_000]);
    let backend = Upstream::serving(
        move |request: hyper::Request<hyper::body::Incoming>| async move {
            if request.uri().query() == Some("small") {
                return Response::new(Full::new(Bytes::from_static(b"small")).boxed());
            }
            let frames =
                futures_util::stream::iter((0..CHUNKS).map(move |_| Ok(Frame::data(chunk()))));
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        },
    )
    .await;
    let gateway = Gateway::start(&hedged(&[&backend], "4s")).await;
    let mut client = gateway.connect().await;
    for _ in 0..5 {
        let answer = client.get("/a").await.assert_status(200);
        assert_eq!(answer.body.len(), CHUNKS * 50_000);
        assert_eq!(client.get("/a?small").await.text(), "small");
    }
    backend.assert_connections(1, &gateway);
    let log = gateway.log(10).await;
    assert_eq!(log[0]["response_bytes"], CHUNKS * 50_000);
}
