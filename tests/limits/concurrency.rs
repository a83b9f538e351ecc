//! How many requests of a client may be under way at once, driven from outside. However a request ends,
//! it leaves its place: exactly as many as may can be under way then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Fault, Gateway, Request, Upstream};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// A backend that answers `/slow` when it is told to, and everything else at once.
struct Patient {
    upstream: Upstream,
    arrived: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Patient {
    async fn start() -> Self {
        let arrived = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(Semaphore::new(0));
        let (came, may_go) = (arrived.clone(), answers.clone());
        let upstream = Upstream::serving(move |request| {
            let (came, may_go) = (came.clone(), may_go.clone());
            async move {
                if request.uri().path() == "/slow" {
                    came.fetch_add(1, Ordering::SeqCst);
                    may_go.acquire().await.unwrap().forget();
                }
                Response::new(Full::new(Bytes::from_static(b"done")).boxed())
            }
        })
        .await;
        Self {
            upstream,
            arrived,
            answers,
        }
    }

    fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Has so many requests wait here, more than do already. One that is refused meanwhile comes again: a
    /// request that ended may have its place for a moment yet.
    async fn fill(&self, count: usize, request: impl Fn() -> Request) -> Vec<JoinHandle<Answer>> {
        let mut waiting = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while waiting.len() < count {
            let before = self.arrived();
            let sent = tokio::spawn(request().send());
            until(async || self.arrived() > before || sent.is_finished()).await;
            if self.arrived() > before {
                waiting.push(sent);
                continue;
            }
            sent.await.unwrap().assert_status(429);
            assert!(Instant::now() < deadline, "only {} fit", waiting.len());
        }
        waiting
    }

    /// Asserts that `count` requests can be under way, and no more; then answers all.
    async fn fits_exactly(&self, count: usize, request: impl Fn() -> Request) {
        let waiting = self.fill(count, &request).await;
        request().send().await.assert_status(429);
        self.answer(waiting).await;
    }

    async fn answer(&self, waiting: Vec<JoinHandle<Answer>>) {
        self.answers.add_permits(waiting.len());
        for answer in waiting {
            let answer = answer.await.unwrap().assert_status(200);
            assert_eq!(answer.text(), "done");
        }
    }
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All requests of all routes share one limit; `rest` are more services.
async fn gateway(patient: &Patient, limit: usize, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2, watch_files: false }}\nadmin: {{ listen: $ADMIN }}\nconcurrency_limit: {{ limit: {limit}, by: everyone }}\nservices:\n  patient:\n    base_url: http://{}\n    timeouts: {{ first_byte: 60s, total: 60s }}\n    routes: [/slow, /quick]\n{rest}",
        patient.upstream.address
    ))
    .await
}

#[tokio::test]
async fn as_many_as_may_are_under_way_and_the_next_one_is_refused() {
    let patient = Patient::start().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", concurrency_limit: {{ limit: 3 }}, rate_limit: {{ limit: 100, window: 1h }},
         routes: [/slow, /quick, {{ path: /free, concurrency_limit: off }}] }} }}",
        patient.upstream.address
    ))
    .await;
    let slow = || gateway.get("/slow");
    let mut waiting = patient.fill(3, slow).await;
    let refused = gateway.get("/quick").send().await.assert_status(429);
    assert_eq!(
        refused.json()["type"],
        "urn:tollgate:problem:concurrency-limited"
    );
    assert_eq!(
        refused.json()["detail"],
        "as many requests are under way as the limit `a-concurrent` allows"
    );
    let policies: Vec<_> = refused.headers.get_all("ratelimit-policy").iter().collect();
    assert_eq!(
        policies,
        [
            "\"a\";q=100;w=3600",
            "\"a-concurrent\";q=3;qu=\"concurrent-requests\""
        ]
    );
    refused
        .assert_header("retry-after", "1")
        .assert_header("proxy-status", "tollgate; error=http_request_denied");
    // Others have places of their own, and so have routes without the limit.
    waiting.extend(patient.fill(1, || slow().from("127.0.0.2")).await);
    gateway.get("/free").send().await.assert_status(200);
    patient.answer(waiting).await;
    patient.fits_exactly(3, slow).await;
    let log = gateway.log(10).await;
    let flags = log.iter().filter(|line| line["status"] == 429);
    for line in flags {
        assert_eq!(line["flags"], json!(["concurrency_limited"]));
    }
}

/// The client may come back by another connection as soon as it has the answer's last byte.
#[tokio::test]
async fn an_answered_request_is_under_way_no_more() {
    let patient = Patient::start().await;
    let odd = Upstream::answering(|seen| {
        let response = Response::builder();
        let response = match seen.target.as_str() {
            "/empty" => response.status(204),
            "/none" => response.header("etag", "\"a\"").status(304),
            "/failed" => response.status(500),
            _ => response,
        };
        let body = match seen.target.as_str() {
            "/large" => Bytes::from(vec![7; 500_000]),
            "/one" => Bytes::from_static(b"1"),
            _ => Bytes::new(),
        };
        response.body(body).unwrap()
    })
    .await;
    let streams = Upstream::raw(|mut stream| async move {
        let mut request = [0; 4096];
        let mut turn = 0;
        while matches!(stream.read(&mut request).await, Ok(1..)) {
            turn += 1;
            let chunked: &[u8] =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
            let closed: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none";
            let answer = if turn % 2 == 0 { closed } else { chunked };
            if stream.write_all(answer).await.is_err() || turn % 2 == 0 {
                return;
            }
        }
    })
    .await;
    let gateway = gateway(
        &patient,
        1,
        &format!(
            "  odd:\n    base_url: http://{}\n    routes: [/empty, /none, /failed, /large, /one, /nothing, {{ path: /pong, respond: {{ body: pong }} }}, {{ path: /away, redirect: {{ to: / }} }}, {{ path: /small, body_limit: 1B }}, {{ path: /post }}]\n  streams: {{ base_url: \"http://{}\", routes: [/stream] }}\n  gone: {{ base_url: \"http://{}\", routes: [/gone], retry: off, circuit_breaker: off }}\n",
            odd.address,
            streams.address,
            crate::support::free_port()
        ),
    )
    .await;
    let mut clients = [gateway.connect().await, gateway.connect().await];
    let none = HeaderMap::new();
    for round in 0..60 {
        for (method, path, status) in [
            (Method::GET, "/quick", 200),
            (Method::HEAD, "/quick", 200),
            (Method::GET, "/empty", 204),
            (Method::GET, "/none", 304),
            (Method::GET, "/failed", 500),
            (Method::GET, "/nothing", 200),
            (Method::GET, "/one", 200),
            (Method::GET, "/large", 200),
            (Method::GET, "/stream", 200),
            (Method::GET, "/pong", 200),
            (Method::GET, "/away", 308),
            (Method::GET, "/gone", 502),
            (Method::POST, "/small", 413),
            (Method::POST, "/post", 200),
        ] {
            let body = match method {
                Method::POST => Bytes::from_static(b"body"),
                _ => Bytes::new(),
            };
            let client = &mut clients[round % 2];
            let answer = client.send(method, path, &none, body).await;
            assert_eq!(answer.status, status, "{path} in round {round}");
            clients.swap(0, 1);
        }
    }
    patient.fits_exactly(1, || gateway.get("/slow")).await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_place() {
    let patient = Patient::start().await;
    let gateway = gateway(&patient, 3, "").await;
    let slow = || gateway.get("/slow");
    for reset in [false, true] {
        let mut clients = Vec::new();
        for _ in 0..3 {
            let before = patient.arrived();
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client
                .write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            until(async || patient.arrived() > before || is_readable(&client)).await;
            if patient.arrived() == before {
                panic!("a request was refused");
            }
            clients.push(client);
        }
        slow().send().await.assert_status(429);
        if reset {
            for client in &clients {
                client.set_zero_linger().unwrap();
            }
        }
        drop(clients);
        patient.fits_exactly(3, slow).await;
    }
}

fn is_readable(client: &TcpStream) -> bool {
    client.try_read(&mut [0; 1]).is_ok()
}

#[tokio::test]
async fn no_fault_of_a_backend_takes_a_place_for_ever() {
    let patient = Patient::start().await;
    let faults = [
        Fault::Refuses,
        Fault::Hangs,
        Fault::Resets,
        Fault::EndsInHeader,
        Fault::Garbles,
        Fault::EndsInBody,
        Fault::EndsShort,
        Fault::Stalls,
        Fault::Drips,
        Fault::Says(503),
        Fault::Flaps,
        Fault::HalfOpen,
    ];
    let mut backends = Vec::new();
    let mut services = String::new();
    for (number, fault) in faults.into_iter().enumerate() {
        let (one, two) = (fault.backend().await, fault.backend().await);
        for (more, rest) in [
            ("plain", "retry: off"),
            (
                "tried",
                "retry: { attempts: 3, on: [connect_failure, reset, timeout, 503], budget: 100% }",
            ),
            ("hedged", "retry: { hedge_after: 20ms, hedge_budget: 100% }"),
        ] {
            services.push_str(&format!(
                "  {more}{number}: {{ targets: [\"http://{}\", \"http://{}\"], routes: [{{ path: /{more}{number}, mirror: {{ service: {more}{number} }} }}], {rest}, timeouts: {{ first_byte: 150ms, idle: 150ms, total: 1s }}, outlier_detection: off, circuit_breaker: off }}\n",
                one.address, two.address
            ));
        }
        backends.push([one, two]);
    }
    let gateway = gateway(&patient, 20, &services).await;
    let mut clients = tokio::task::JoinSet::new();
    for more in ["plain", "tried", "hedged"] {
        for number in 0..faults.len() {
            let address = gateway.address;
            clients.spawn(async move {
                for turn in 0..3 {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let request = format!(
                        "GET /{more}{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                    );
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    // Whatever comes, whole or not; the last time nobody waits for it.
                    if turn < 2 {
                        let _ = stream.read_to_end(&mut answer).await;
                    }
                }
            });
        }
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    patient.fits_exactly(20, || gateway.get("/slow")).await;
    drop(backends);
}

#[tokio::test]
async fn attempts_and_copies_of_a_request_take_no_places_of_their_own() {
    let patient = Patient::start().await;
    let turns = Arc::new(AtomicUsize::new(0));
    let flaps = Upstream::answering(move |_| {
        let status = match turns.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => 503,
            _ => 200,
        };
        Response::builder()
            .status(status)
            .body(Bytes::from_static(b"mine"))
            .unwrap()
    })
    .await;
    let (hanging, well) = (Fault::Hangs.backend().await, Upstream::echo().await);
    let gateway = gateway(
        &patient,
        1,
        &format!(
            "  flaps: {{ base_url: \"http://{}\", routes: [/flaps], retry: {{ budget: 100% }}, outlier_detection: off, circuit_breaker: off }}\n  hedged: {{ targets: [\"http://{}\", \"http://{}\"], load_balancing: round_robin, routes: [/hedged], retry: {{ hedge_after: 10ms, hedge_budget: 100% }}, outlier_detection: off }}\n  copied: {{ base_url: \"http://{}\", routes: [{{ path: /copied, mirror: {{ service: hedged }} }}] }}\n",
            flaps.address, hanging.address, well.address, well.address
        ),
    )
    .await;
    for _ in 0..10 {
        for path in ["/flaps", "/hedged", "/copied"] {
            let answer = gateway.get(path).send().await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    patient.fits_exactly(1, || gateway.get("/slow")).await;
    let log = gateway.log(32).await;
    for flag in ["retried", "hedged", "mirrored"] {
        let has = |line: &serde_json::Value| line["flags"].to_string().contains(flag);
        assert!(log.iter().any(has), "nothing was {flag}");
    }
}

#[tokio::test]
async fn a_websocket_keeps_its_place_until_either_side_ends_it() {
    let patient = Patient::start().await;
    // Ends when it is told to.
    let echoes = Upstream::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text == "end") {
                return;
            }
            let _ = socket.send(message).await;
        }
    })
    .await;
    let gateway = gateway(
        &patient,
        1,
        &format!(
            "  echoes: {{ base_url: \"http://{}\", routes: [/ws] }}\n",
            echoes.address
        ),
    )
    .await;
    let url = format!("ws://{}/ws", gateway.address);
    for ends_itself in [true, false] {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        socket.send(Message::text("there?")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        gateway.get("/quick").send().await.assert_status(429);
        if ends_itself {
            socket.send(Message::text("end")).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        }
        drop(socket);
        patient.fits_exactly(1, || gateway.get("/slow")).await;
    }
}

#[tokio::test]
async fn what_is_under_way_counts_on_after_a_reload() {
    let patient = Patient::start().await;
    let gateway = gateway(&patient, 3, "").await;
    let slow = || gateway.get("/slow");
    let reload = async || {
        let (code, printed, said) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0, "{printed}{said}");
        printed
    };
    let mut waiting = patient.fill(2, slow).await;
    gateway.edit("[/slow, /quick]", "[/slow, /quick, /more]");
    reload().await;
    waiting.extend(patient.fill(1, slow).await);
    slow().send().await.assert_status(429);

    gateway.edit("limit: 3", "limit: 5");
    let printed = reload().await;
    assert!(
        printed
            .contains("concurrency_limit: { limit: 3, by: everyone } → { limit: 5, by: everyone }"),
        "{printed}"
    );
    waiting.extend(patient.fill(2, slow).await);
    slow().send().await.assert_status(429);

    gateway.edit("limit: 5", "limit: 2");
    reload().await;
    let rest = waiting.split_off(3);
    patient.answer(waiting).await;
    // Two of the five are left, as many as may be.
    slow().send().await.assert_status(429);
    patient.answer(rest).await;
    patient.fits_exactly(2, slow).await;
}

#[tokio::test]
async fn reloads_under_load_refuse_nobody_and_lose_nothing() {
    let patient = Patient::start().await;
    let gateway = gateway(&patient, 4, "").await;
    // Four clients, each with one request at a time.
    let mut traffic = crate::support::Traffic::start(gateway.address, "/quick");
    for round in 0..10 {
        traffic.flows(50).await;
        let (from, to) = match round % 2 {
            0 => ("[/slow, /quick]", "[/slow, /quick, /more]"),
            _ => ("[/slow, /quick, /more]", "[/slow, /quick]"),
        };
        gateway.edit(from, to);
        let (code, printed, said) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0, "{printed}{said}");
    }
    traffic.end().await;
    patient.fits_exactly(4, || gateway.get("/slow")).await;
}

#[tokio::test]
async fn a_limit_that_is_not_enforced_only_tells_the_log() {
    let patient = Patient::start().await;
    let gateway = gateway(&patient, 1, "").await;
    gateway.edit("by: everyone", "by: everyone, enforce: false");
    let (code, printed, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{printed}{said}");
    let waiting = patient.fill(2, || gateway.get("/slow")).await;
    let answer = gateway.get("/quick").send().await.assert_status(200);
    answer.assert_no_header("ratelimit-policy");
    patient.answer(waiting).await;
    gateway.get("/quick").send().await.assert_status(200);
    let log = gateway.log(4).await;
    let told = |line: &&serde_json::Value| line["flags"] == json!(["would_limit_concurrency"]);
    assert_eq!(log.iter().filter(told).count(), 2);
}

#[tokio::test]
async fn consumers_have_limits_of_their_own_in_place_of_those_by_who_comes() {
    let patient = Patient::start().await;
    let digest = |key: &str| {
        let digest = openssl::sha::sha256(key.as_bytes());
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{text}")
    };
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme-1: "{}", bolt-1: "{}", cole-1: "{}", dora-1: "{}" }} }} }} }}
consumers:
  acme: {{ credentials: {{ keys: acme-1 }}, groups: [gold] }}
  bolt: {{ credentials: {{ keys: bolt-1 }}, groups: [gold], concurrency_limit: {{ limit: 2 }} }}
  cole: {{ credentials: {{ keys: cole-1 }} }}
consumer_groups: {{ gold: {{ concurrency_limit: {{ limit: 4 }} }} }}
services:
  a:
    base_url: http://{}
    auth: keys
    concurrency_limit: [{{ limit: 1, by: consumer }}, {{ limit: 3, by: "header:X-Tenant" }}]
    routes: [/slow, /quick]
"#,
        digest("key-acme"),
        digest("key-bolt"),
        digest("key-cole"),
        digest("key-dora"),
        patient.upstream.address
    ))
    .await;
    let turn = AtomicUsize::new(0);
    // Each request is of another tenant.
    let with = |key: &str| {
        let tenant = turn.fetch_add(1, Ordering::Relaxed).to_string();
        let request = gateway.get("/slow").header("x-api-key", key);
        request.header("x-tenant", &tenant)
    };
    for (key, fit) in [
        ("key-acme", 4),
        ("key-bolt", 2),
        ("key-cole", 1),
        ("key-dora", 1),
    ] {
        patient.fits_exactly(fit, || with(key)).await;
    }
    // One tenant's requests are bounded whoever sends them.
    let tenant = |key: &str| {
        gateway
            .get("/slow")
            .header("x-api-key", key)
            .header("x-tenant", "a")
    };
    let mut waiting = patient.fill(2, || tenant("key-acme")).await;
    waiting.extend(patient.fill(1, || tenant("key-bolt")).await);
    let refused = tenant("key-cole").send().await.assert_status(429);
    assert!(refused.text().contains("`a-concurrent-2`"), "{refused:?}");
    let policies = refused.headers.get_all("ratelimit-policy").iter().count();
    assert_eq!(policies, 1);
    // What it held of the other limit was given back.
    patient.answer(waiting).await;
    patient.fits_exactly(1, || with("key-cole")).await;
    let mut acme = Client::connect(gateway.address, None).await;
    let fields =
        HeaderMap::from_iter([("x-api-key".parse().unwrap(), "key-acme".parse().unwrap())]);
    let answer = acme.get_with("/quick", &fields).await.assert_status(200);
    let policies: Vec<_> = answer.headers.get_all("ratelimit-policy").iter().collect();
    assert_eq!(
        policies,
        [
            "\"gold-concurrent\";q=4;qu=\"concurrent-requests\"",
            "\"a-concurrent-2\";q=3;qu=\"concurrent-requests\""
        ]
    );
}
