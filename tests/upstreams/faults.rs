//! Every fault of a backend under every policy, as the table in docs/resilience.md has it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Fault, Gateway, Traffic, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;

/// What is switched on, and how it is asked.
struct Policy {
    rest: &'static str,
    method: Method,
    /// Requests before the ones that count.
    before: usize,
}

const POLICIES: [Policy; 7] = [
    // Nothing.
    Policy {
        rest: "retry: off, outlier_detection: off",
        method: Method::GET,
        before: 0,
    },
    // Retries, idempotent and not.
    Policy {
        rest: "outlier_detection: off",
        method: Method::GET,
        before: 0,
    },
    Policy {
        rest: "outlier_detection: off",
        method: Method::POST,
        before: 0,
    },
    // Retries of what is late.
    Policy {
        rest: "retry: { on: [connect_failure, reset, timeout, 502, 503, 504] }, outlier_detection: off",
        method: Method::GET,
        before: 0,
    },
    // Ejection alone.
    Policy {
        rest: "retry: off, outlier_detection: { consecutive_failures: 2 }",
        method: Method::POST,
        before: 8,
    },
    // A second attempt beside the first.
    Policy {
        rest: "retry: { hedge_after: 50ms, hedge_budget: 100% }, outlier_detection: off",
        method: Method::GET,
        before: 0,
    },
    // A fallback alone.
    Policy {
        rest: "retry: off, outlier_detection: off, fallback: { status: 200, body: fallback }",
        method: Method::POST,
        before: 0,
    },
];

/// What clients see of the requests that go to the faulty one of two backends; `other` is the other
/// one's answer, `own` the faulty one's.
const TABLE: [(Fault, &str, [&str; 7]); 14] = [
    (
        Fault::Refuses,
        "refuses connections",
        [
            "502", "other", "other", "other", "other", "other", "fallback",
        ],
    ),
    (
        Fault::Hangs,
        "accepts and says nothing",
        ["504", "504", "504", "other", "other", "other", "fallback"],
    ),
    (
        Fault::Resets,
        "resets before it answers",
        ["502", "other", "502", "other", "other", "other", "fallback"],
    ),
    (
        Fault::EndsInHeader,
        "ends within the header",
        ["502", "other", "502", "other", "other", "other", "fallback"],
    ),
    (
        Fault::Garbles,
        "answers no HTTP",
        ["502", "other", "502", "other", "other", "other", "fallback"],
    ),
    (
        Fault::EndsInBody,
        "resets within the body",
        [
            "broken", "broken", "broken", "broken", "other", "broken", "broken",
        ],
    ),
    (
        Fault::EndsShort,
        "sends less than announced",
        [
            "broken", "broken", "broken", "broken", "other", "broken", "broken",
        ],
    ),
    (
        Fault::Stalls,
        "stops within the body",
        [
            "broken", "broken", "broken", "broken", "other", "broken", "broken",
        ],
    ),
    (
        Fault::Drips,
        "drips",
        ["own", "own", "own", "own", "own", "own", "own"],
    ),
    (
        Fault::Says(502),
        "says 502",
        ["502", "other", "502", "other", "other", "other", "fallback"],
    ),
    (
        Fault::Says(503),
        "says 503",
        ["503", "other", "503", "other", "other", "other", "fallback"],
    ),
    (
        Fault::Says(500),
        "says 500",
        ["500", "500", "500", "500", "500", "500", "500"],
    ),
    (
        Fault::Flaps,
        "says 503 every other time",
        ["503", "other", "503", "other", "503", "other", "fallback"],
    ),
    (
        Fault::HalfOpen,
        "forgets pooled connections",
        ["504", "504", "504", "other", "504", "other", "fallback"],
    ),
];

/// Asks once, on a connection of its own.
async fn outcome(gateway: &Gateway, method: &Method) -> String {
    let stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri("/a")
        .header("host", "a");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    match response.into_body().collect().await {
        Err(_) => "broken".to_owned(),
        Ok(body) if status == 200 => match &*body.to_bytes() {
            b"other" => "other".to_owned(),
            b"fallback" => "fallback".to_owned(),
            _ => "own".to_owned(),
        },
        Ok(_) => status.as_str().to_owned(),
    }
}

async fn outcomes(fault: Fault, policy: &Policy) -> BTreeSet<String> {
    let bad = fault.backend().await;
    let good = Upstream::answering(|_| Response::new(Bytes::from_static(b"other"))).await;
    let config = format!(
        "services: {{ a: {{ targets: [\"http://{}\", \"http://{}\"], load_balancing: round_robin,
         circuit_breaker: off, timeouts: {{ first_byte: 500ms, idle: 500ms }},
         routes: [{{ prefix: /a }}], {} }} }}",
        bad.address, good.address, policy.rest
    );
    let gateway = Gateway::start(&config).await;
    for _ in 0..policy.before {
        outcome(&gateway, &policy.method).await;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        seen.insert(outcome(&gateway, &policy.method).await);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_what_the_table_says() {
    let mut wrong = Vec::new();
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(6));
    let mut running = tokio::task::JoinSet::new();
    for (fault, _, cells) in &TABLE {
        for (policy, cell) in POLICIES.iter().zip(cells) {
            let slots = slots.clone();
            running.spawn(async move {
                let _slot = slots.acquire().await.unwrap();
                let seen = outcomes(*fault, policy).await;
                (*fault, policy.rest, *cell, seen)
            });
        }
    }
    while let Some(ended) = running.join_next().await {
        let (fault, rest, cell, mut seen) = ended.unwrap();
        // The well one answers for itself, and a faulty one may do well at times.
        seen.remove("other");
        if matches!(fault, Fault::Flaps | Fault::HalfOpen) {
            seen.remove("own");
        }
        let expected: BTreeSet<_> = [cell.to_owned()].into();
        if seen != expected && !(cell == "other" && seen.is_empty()) {
            wrong.push(format!("{fault:?} with {rest}: {seen:?} instead of {cell}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_the_documented_one() {
    let text = include_str!("../../docs/resilience.md");
    for (_, name, cells) in &TABLE {
        let row = format!("| {name} | {} |", cells.join(" | "));
        assert!(text.contains(&row), "{row}");
    }
}

async fn well() -> Upstream {
    Upstream::answering(|_| Response::new(Bytes::from_static(b"other"))).await
}

/// A backend that answers well until it is told to misbehave.
async fn corruptible() -> (Upstream, tokio::sync::watch::Sender<&'static str>) {
    let (sender, receiver) = tokio::sync::watch::channel("well");
    let backend = Upstream::raw(move |mut stream| {
        let mode = receiver.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut header = [0; 8192];
            while let Ok(1..) = stream.read(&mut header).await {
                let answer: &[u8] = match *mode.borrow() {
                    "hang" => b"",
                    "garble" => b"\x00\x01 garbage \r\n\r\n",
                    _ => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell",
                };
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (backend, sender)
}

#[tokio::test]
async fn no_client_notices_when_one_of_three_garbles_or_hangs() {
    for (mode, retry) in [
        ("garble", "{}"),
        (
            "hang",
            "{ on: [connect_failure, reset, timeout, 502, 503, 504], per_try_timeout: 200ms }",
        ),
    ] {
        let (one, two, (three, fault)) = (well().await, well().await, corruptible().await);
        let config = format!(
            "services: {{ a: {{ targets: [\"http://{}\", \"http://{}\", \"http://{}\"],
             routes: [{{ prefix: /a }}], retry: {retry} }} }}",
            one.address, two.address, three.address
        );
        let gateway = Gateway::start(&config).await;
        let mut traffic = Traffic::start(gateway.address, "/a");
        traffic.flows(200).await;
        // Every failed answer is a panic of the traffic: the success rate is 100 %.
        fault.send(mode).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !gateway.process_log().contains("endpoint ejected") {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                gateway.process_log()
            );
            traffic.flows(20).await;
        }
        traffic.flows(500).await;
        let answers = traffic.end().await;
        let log = gateway.log(answers).await;
        let repeated = log.iter().filter(|it| it["attempts"] != 1).count();
        // The budget's share of the requests, and its floor.
        assert!(repeated <= answers / 5 + 30, "{repeated} of {answers}");
    }
}
