//! How fast bodies pass, driven from outside. What is asserted of time is only ever how much has passed at
//! least: a slow machine is no fault.

use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Gateway, Request, Upstream};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const KIB: usize = 1024;

/// Bytes that tell where they stand.
fn bytes(count: usize) -> Bytes {
    (0..count).map(|at| (at / 7 + at / 300) as u8).collect()
}

/// Answers `/SIZE…` with a body of so many KiB, and `POST` with what it was sent.
async fn backend() -> Upstream {
    Upstream::answering(|seen| {
        let digits: String = seen.target[1..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        match &*seen.method {
            "POST" => Response::new(seen.body.clone()),
            _ => Response::new(bytes(digits.parse::<usize>().unwrap() * KIB)),
        }
    })
    .await
}

/// A gateway in front of it with a limit, and `rest` of the service.
async fn gateway(upstream: &Upstream, limit: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], bandwidth_limit: {limit}, {rest} }} }}",
        upstream.address
    ))
    .await
}

/// Sends a request and returns how long its answer took at least, which must be whole.
async fn took(request: Request, size: usize) -> Duration {
    let begun = Instant::now();
    let answer = request.send().await.assert_status(200);
    let took = begun.elapsed();
    assert!(answer.body == bytes(size * KIB), "not what was sent");
    took
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn at_least(took: Duration, millis: u64) {
    assert!(took >= Duration::from_millis(millis), "only {took:?}");
}

#[tokio::test]
async fn a_body_takes_as_long_as_its_rate_says() {
    let upstream = backend().await;
    let limit = "{ response: 200KiB/s, request: 100KiB/s, burst: 100KiB }";
    let gateway = gateway(&upstream, limit, "retry: off").await;
    // What is more than the burst takes its time: 200 KiB at 200 KiB/s, 100 KiB at 100 KiB/s.
    at_least(took(gateway.get("/300"), 300).await, 1000);
    let post = gateway.post("/").from("127.0.0.2");
    at_least(took(post.body(bytes(200 * KIB)), 200).await, 1000);
    // Nothing is left of the burst, and what is read in one piece waits as a whole.
    let gateway = self::gateway(&upstream, "{ response: 100KiB/s, burst: 0B }", "").await;
    at_least(took(gateway.get("/50"), 50).await, 500);
}

#[tokio::test]
async fn connections_of_one_client_share_a_rate_and_reloads_forgive_nothing() {
    let upstream = backend().await;
    let limit = "{ response: 200KiB/s, burst: 100KiB }";
    let gateway = gateway(&upstream, limit, "retry: off").await;
    let begun = Instant::now();
    let (one, two, three) = tokio::join!(
        took(gateway.get("/100"), 100),
        took(gateway.get("/100"), 100),
        took(gateway.get("/100"), 100)
    );
    // 200 KiB more than the burst; the last of them waits for all.
    at_least(one.max(two).max(three), 1000);
    gateway.edit("retry: off", "retry: { attempts: 2 }");
    gateway.edit("burst: 100KiB", "burst: 50KiB");
    let (code, printed, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{printed}{said}");
    took(gateway.get("/100"), 100).await;
    at_least(begun.elapsed(), (400 - 100) * 1000 / 200);
}

/// Somebody's download that takes minutes; once its first bytes are there.
async fn endless(gateway: &Gateway, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
    stream
}

/// Whether more than half of it has come.
fn is_far(stream: &TcpStream, size: usize) -> bool {
    let mut received = 0;
    let mut part = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.try_read(&mut part) {
        received += count;
    }
    received > size * KIB / 2
}

#[tokio::test]
async fn another_key_does_not_wait() {
    let upstream = backend().await;
    for (by, other) in [
        ("client_ip", "127.0.0.2"),
        ("[client_ip, route]", "127.0.0.2"),
        // Each request for itself: nobody waits for anybody.
        ("request", "127.0.0.1"),
    ] {
        let limit = format!("{{ response: 10KiB/s, by: {by} }}");
        let gateway = gateway(&upstream, &limit, "").await;
        // It takes more than a minute.
        let first = endless(&gateway, "/1000").await;
        took(gateway.get("/8").from(other), 8).await;
        assert!(!is_far(&first, 1000), "by {by}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_waited_for() {
    let upstream = backend().await;
    // A part of a body takes a minute and more, which is longer than anybody here waits.
    let limit = "{ response: 1KiB/s, request: 1KiB/s, burst: 1KiB, by: request }";
    let only_one = "concurrency_limit: { limit: 1, by: everyone }, timeouts: { idle: 10m }";
    let gateway = gateway(&upstream, limit, only_one).await;
    let ask = async || gateway.get("/0").send().await.status;
    for reset in [true, false] {
        for request in [
            "GET /1000 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n{}",
                "x".repeat(100_000)
            ),
        ] {
            let begin = async || {
                let mut client = TcpStream::connect(gateway.address).await.unwrap();
                client.write_all(request.as_bytes()).await.unwrap();
                client
            };
            let mut client = begin().await;
            until(async || {
                // Whoever asks may have been under way itself when it came, so that it was refused.
                if client.try_read(&mut [0; 1]).is_ok() {
                    client = begin().await;
                }
                ask().await == 429
            })
            .await;
            if reset {
                client.set_zero_linger().unwrap();
            }
            drop(client);
            until(async || ask().await == 200).await;
        }
    }
}

#[tokio::test]
async fn no_time_out_fires_because_the_gateway_waits() {
    // Parts of a body come one by one, none of them late.
    let upstream = Upstream::serving(|request| async move {
        let is_upload = request.method() == Method::POST;
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        let body = if is_upload { sent } else { bytes(32 * KIB) };
        let parts: Vec<Bytes> = body.chunks(8 * KIB).map(Bytes::copy_from_slice).collect();
        let parts = futures_util::stream::iter(parts).then(|part| async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(Frame::data(part))
        });
        Response::new(BodyExt::boxed(StreamBody::new(Box::pin(parts))))
    })
    .await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, timeouts: {{ request_header: 1s, request_body: 1s, response: 1s, keepalive: 1s }} }}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], retry: off,
  timeouts: {{ first_byte: 1s, idle: 1s, total: 1s }},
  bandwidth_limit: {{ response: 6KiB/s, request: 12KiB/s, burst: 1KiB, by: request }} }} }}",
        upstream.address
    ))
    .await;
    // Each part waits for more than a second, longer than anybody may be late.
    let client = async |method: Method| {
        let body = match method {
            Method::POST => bytes(32 * KIB),
            _ => Bytes::new(),
        };
        let mut client = gateway.connect().await;
        let begun = Instant::now();
        let answer: Answer = client.send(method, "/", &HeaderMap::new(), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body == bytes(32 * KIB), "not what was sent");
        begun.elapsed()
    };
    let (down, both) = tokio::join!(client(Method::GET), client(Method::POST));
    at_least(down, 31 * 1000 / 6);
    at_least(both, 31 * 1000 / 6 + 31 * 1000 / 12);
    let log = gateway.log(2).await;
    assert!(
        log.iter()
            .all(|line| line["flags"] == serde_json::json!([]))
    );
}

#[tokio::test]
async fn what_passes_through_a_websocket_is_held_back_too() {
    let upstream = Upstream::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let limit = "{ response: 200KiB/s, request: 200KiB/s, burst: 20KiB, by: everyone }";
    let gateway = gateway(&upstream, limit, "").await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let begun = Instant::now();
    for _ in 0..4 {
        let sent = bytes(30 * KIB);
        socket.send(Message::binary(sent.clone())).await.unwrap();
        let echo = socket.next().await.unwrap().unwrap();
        assert!(echo.into_data() == sent, "not what was sent");
    }
    // 120 KiB, of which 20 may pass at once, each way.
    at_least(begun.elapsed(), 500);
}

#[tokio::test]
async fn hedged_and_repeated_requests_are_held_to_the_rate() {
    let upstream = backend().await;
    let limit = "{ response: 200KiB/s, request: 200KiB/s, burst: 50KiB, by: request }";
    let hedged = "retry: { hedge_after: 10s }";
    let gateway = gateway(&upstream, limit, hedged).await;
    at_least(took(gateway.get("/150"), 150).await, 500);
    // A body that is sent again came from the client once, and is as large as the burst. Were it more, it
    // would take longer than anybody here waits.
    let (refuses, well) = (crate::support::free_port(), backend().await);
    let failing = Upstream::raw(|mut stream| async move {
        // It reads a request's header and something of its body, and gives up.
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ targets: [\"http://{}\", \"http://{refuses}\", \"http://{}\"], load_balancing: round_robin, outlier_detection: off, routes: [{{ prefix: / }}],
         retry: {{ attempts: 4, all_methods: true, budget: 100% }}, bandwidth_limit: {{ request: 1KiB/s, burst: 50KiB }} }} }}",
        failing.address, well.address
    ))
    .await;
    took(gateway.post("/").body(bytes(50 * KIB)), 50).await;
    let log = gateway.log(1).await;
    assert_eq!(log[0]["attempts"], 3);
}

#[tokio::test]
async fn a_consumer_has_a_rate_of_its_own_in_place_of_the_routes() {
    let upstream = backend().await;
    let digest = |key: &str| {
        let digest = openssl::sha::sha256(key.as_bytes());
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{text}")
    };
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme-1: "{}", bolt-1: "{}" }} }} }} }}
consumers:
  acme: {{ credentials: {{ keys: acme-1 }}, groups: [gold] }}
  bolt: {{ credentials: {{ keys: bolt-1 }}, bandwidth_limit: {{ response: 100KiB/s, burst: 50KiB }} }}
consumer_groups: {{ gold: {{ bandwidth_limit: {{ response: 200KiB/s, burst: 100KiB }} }} }}
services:
  a:
    base_url: http://{}
    auth: keys
    bandwidth_limit: {{ response: 1KiB/s }}
    routes: [{{ prefix: / }}]
"#,
        digest("key-acme"),
        digest("key-bolt"),
        upstream.address
    ))
    .await;
    let with = |key: &str, from: &str| {
        let request = gateway.get("/100").header("x-api-key", key);
        took(request.from(from), 100)
    };
    // Two addresses of one consumer share its rate; with the route's it would take minutes.
    let begun = Instant::now();
    let ((_, _, _), bolt) = tokio::join!(
        async {
            tokio::join!(
                with("key-acme", "127.0.0.1"),
                with("key-acme", "127.0.0.2"),
                with("key-acme", "127.0.0.3")
            )
        },
        with("key-bolt", "127.0.0.1")
    );
    at_least(begun.elapsed(), 1000);
    at_least(bolt, 500);
    let mut client = Client::connect(gateway.address, None).await;
    client.get("/0").await.assert_status(401);
}
