//! Clients and backends that misbehave: a clear answer each time, nothing hangs, nothing crashes.

use std::time::Duration;

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROBLEM: &str = "application/problem+json";

async fn gateway_to(address: impl std::fmt::Display, more: &str) -> Gateway {
    Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{address}\n    routes: [{{ prefix: / }}]\n{more}"
    ))
    .await
}

#[tokio::test]
async fn a_dead_backend_is_502_and_said_so() {
    let gateway = gateway_to(crate::support::free_port(), "").await;
    let answer = gateway.get("/").send().await.assert_status(502);
    assert_eq!(answer.header("content-type"), Some(PROBLEM));
    assert_eq!(
        answer.header("proxy-status"),
        Some("tollgate; error=connection_refused")
    );
    assert_eq!(
        answer.json()["instance"],
        answer.header("x-request-id").unwrap()
    );
    let log = gateway.log(1).await;
    assert_eq!(log[0]["status"], 502);
    assert_eq!(
        log[0]["flags"],
        serde_json::json!(["upstream_connect_failed"])
    );
}

#[tokio::test]
async fn a_backend_that_never_answers_is_504() {
    let upstream = Upstream::raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let gateway = gateway_to(upstream.address, "    timeouts: { first_byte: 200ms }\n").await;
    let answer = gateway.get("/").send().await.assert_status(504);
    assert_eq!(
        answer.header("proxy-status"),
        Some("tollgate; error=http_response_timeout")
    );
    // A body is no excuse.
    gateway
        .post("/")
        .body("x".repeat(100_000))
        .send()
        .await
        .assert_status(504);
    let log = gateway.log(2).await;
    assert_eq!(log[0]["flags"], serde_json::json!(["upstream_timeout"]));
}

#[tokio::test]
async fn a_backend_that_trickles_its_header_is_504() {
    let upstream = Upstream::raw(|mut stream| async move {
        while stream.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let timeouts = "    timeouts: { first_byte: 10s, total: 300ms }\n";
    let gateway = gateway_to(upstream.address, timeouts).await;
    let status = gateway.get("/").send().await.status.as_u16();
    // `HHHH…` is no HTTP either; which is noticed first is the backend's fault both ways.
    assert!(matches!(status, 502 | 504), "{status}");
}

#[tokio::test]
async fn a_backend_that_falls_silent_is_cut_off() {
    let upstream = Upstream::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = gateway_to(upstream.address, "    timeouts: { idle: 300ms }\n").await;
    let answer = gateway.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("half"), "{answer}");
    let log = gateway.log(1).await;
    assert_eq!(log[0]["flags"], serde_json::json!(["upstream_timeout"]));
}

#[tokio::test]
async fn garbage_from_a_backend_is_502() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\x16\x03\x01\x00\x01\x00\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\x00: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"",
    ] {
        let upstream = Upstream::raw(move |mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(garbage).await;
        })
        .await;
        let gateway = gateway_to(upstream.address, "").await;
        let answer = gateway.get("/").send().await.assert_status(502);
        assert_eq!(answer.header("content-type"), Some(PROBLEM), "{garbage:?}");
    }
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_meanwhile_is_no_ones_error() {
    // Answers one request a connection and closes it without saying so.
    let upstream = Upstream::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let gateway = gateway_to(upstream.address, "").await;
    let mut client = gateway.connect().await;
    for _ in 0..50 {
        client.get("/").await.assert_status(200);
    }
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let upstream = Upstream::echo().await;
    let gateway = gateway_to(upstream.address, "").await;
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (b"nonsense\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: a\x00b\r\n\r\n", "400"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
            "400",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "400",
        ),
        (
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
            "405",
        ),
    ] {
        let answer = gateway.exchange(request).await;
        let shown = String::from_utf8_lossy(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{shown} → {answer}"
        );
    }
    assert_eq!(upstream.seen().len(), 0);
    gateway.get("/").send().await.assert_status(200);
}

#[tokio::test]
async fn two_lengths_never_reach_a_backend() {
    let upstream = Upstream::echo().await;
    let gateway = gateway_to(upstream.address, "").await;
    let smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    gateway.exchange(smuggled).await;
    for seen in upstream.seen() {
        assert_ne!(seen.target, "/smuggled");
        assert!(
            seen.header("content-length").is_none() || seen.header("transfer-encoding").is_none()
        );
    }
}

#[tokio::test]
async fn too_much_is_refused_by_its_own_status() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, limits: {{ header_size: 4KiB, headers: 20, uri: 1KiB, body: 64KiB }} }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}, {{ path: /large, body_limit: 1MiB }}] }} }}\n",
        upstream.address
    ))
    .await;
    let long = "x".repeat(2000);
    gateway
        .get(&format!("/{long}"))
        .send()
        .await
        .assert_status(414);
    let many = (0..30).fold(gateway.get("/"), |request, n| {
        request.header(&format!("x-{n}"), "1")
    });
    many.send().await.assert_status(431);
    gateway
        .get("/")
        .header("x-a", &long)
        .header("x-b", &long)
        .header("x-c", &long)
        .send()
        .await
        .assert_status(431);
    let body = "b".repeat(100_000);
    gateway
        .post("/")
        .body(body.clone())
        .send()
        .await
        .assert_status(413);
    gateway
        .post("/large")
        .body(body.clone())
        .send()
        .await
        .assert_status(200);
    assert_eq!(upstream.seen().len(), 1);
    // Without a length it is counted while it comes.
    let mut chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..100 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'c'; 0x400]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = gateway.exchange(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let flags: Vec<String> = gateway
        .log(6)
        .await
        .iter()
        .map(|line| line["flags"][0].as_str().unwrap_or("").to_owned())
        .collect();
    for flag in ["uri_too_long", "headers_too_large", "body_too_large"] {
        assert!(flags.iter().any(|seen| seen == flag), "{flag}: {flags:?}");
    }
}

#[tokio::test]
async fn slow_senders_are_told_and_let_go() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 1, timeouts: {{ request_header: 1s, request_body: 500ms, keepalive: 1s }} }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}] }} }}\n",
        upstream.address
    ))
    .await;
    // A header that trickles in, faster than any time-out between two bytes.
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nx: ")
        .await
        .unwrap();
    let (mut read, mut write) = stream.split();
    let trickle = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let closed = async {
        let mut chunk = [0; 512];
        while let Ok(count @ 1..) = read.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..count]);
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { () = trickle => {}, () = closed => {} }
    });
    ended.await.expect("the connection is closed");
    assert!(
        answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // A body that stops.
    let answer = gateway
        .exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(gateway.log(1).await[0]["flags"][0], "client_timeout");
}

#[tokio::test]
async fn a_client_that_goes_away_is_noted() {
    let upstream = Upstream::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = gateway_to(upstream.address, "").await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    while upstream.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    let log = gateway.log(1).await;
    assert_eq!(log[0]["flags"], serde_json::json!(["client_gone"]));
    assert_eq!(log[0]["status"], 0);
}

#[tokio::test]
async fn the_gateways_own_answers_keep_the_connection() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{}\n    routes:\n      - {{ path: /limited, rate_limit: {{ limit: 1, window: 1h }} }}\n      - {{ path: /closed, access: {{ deny: [0.0.0.0/0] }} }}\n      - {{ path: /ping, respond: {{ body: pong }} }}\n",
        upstream.address
    ))
    .await;
    let mut client = gateway.connect().await;
    client.get("/limited").await.assert_status(200);
    for _ in 0..3 {
        client.get("/limited").await.assert_status(429);
        client.get("/closed").await.assert_status(403);
        client.get("/none").await.assert_status(404);
        assert_eq!(client.get("/ping").await.assert_status(200).text(), "pong");
        let headers = hyper::HeaderMap::new();
        let body = Bytes::from_static(b"a small body");
        client
            .send(hyper::Method::POST, "/none", &headers, body)
            .await
            .assert_status(404);
    }
    assert!(client.is_open().await);
}

#[tokio::test]
async fn a_failing_backend_costs_the_client_no_connection() {
    let silent = Upstream::raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let closing = Upstream::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let gateway = Gateway::start(&format!(
        "services:\n  dead: {{ base_url: \"http://{}\", routes: [/dead] }}\n  silent: {{ base_url: \"http://{}\", timeouts: {{ first_byte: 100ms }}, routes: [/silent] }}\n  closing: {{ base_url: \"http://{}\", routes: [/closing] }}\n",
        crate::support::free_port(),
        silent.address,
        closing.address
    ))
    .await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        for (path, status) in [("/silent", 504), ("/dead", 502), ("/closing", 502)] {
            client
                .get(path)
                .await
                .assert_status(status)
                .assert_header("connection", "keep-alive");
            let headers = hyper::HeaderMap::new();
            let body = Bytes::from_static(b"a small body");
            let answer = client.send(hyper::Method::POST, path, &headers, body).await;
            answer.assert_status(status);
        }
    }
    assert_eq!(gateway.log(12).await.len(), 12);
    // What was sent behind a request is not lost with it.
    let both = b"GET /dead HTTP/1.1\r\nHost: a\r\n\r\nGET /dead HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = gateway.exchange(both).await;
    assert_eq!(answers.matches("HTTP/1.1 502").count(), 2, "{answers}");
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, limits: {{ connections: 3 }} }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        upstream.address
    ))
    .await;
    // The harness's own first connection may still be counted for a moment.
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = loop {
            let mut client = gateway.connect().await;
            if client.is_open().await && client.try_get("/a").await.is_some() {
                break client;
            }
        };
        client.get("/a").await.assert_status(200);
        clients.push(client);
    }
    assert!(gateway.connect().await.try_get("/a").await.is_none());
    drop(clients.pop());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while gateway.connect().await.try_get("/a").await.is_none() {
        assert!(
            std::time::Instant::now() < deadline,
            "no seat was given back"
        );
    }
}

#[tokio::test]
async fn a_gigabyte_passes_both_ways_in_little_memory() {
    const CHUNK: usize = 64 * 1024;
    const SIZE: usize = 1 << 30;
    let upstream = Upstream::serving(|request| async move {
        let mut body = request.into_body();
        let mut received = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            received += frame.data_ref().map_or(0, Bytes::len);
        }
        if received > 0 {
            return Response::new(Full::new(Bytes::from(received.to_string())).boxed());
        }
        let chunk = Bytes::from(vec![7; CHUNK]);
        let frames = (0..SIZE / CHUNK).map(move |_| Ok(hyper::body::Frame::data(chunk.clone())));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        Response::builder()
            .header("content-length", SIZE)
            .body(BodyExt::boxed(body))
            .unwrap()
    })
    .await;
    let gateway = gateway_to(upstream.address, "    body_limit: off\n").await;
    // Most of what is resident is the program itself.
    let idle = gateway.resident();
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"GET /down HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let (mut received, mut most) = (0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut chunk).await.unwrap();
        if count == 0 {
            break;
        }
        received += count;
        if received % (64 << 20) < count {
            most = most.max(gateway.resident());
        }
    }
    assert!(received > SIZE, "{received}");

    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let header = format!(
        "POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n"
    );
    stream.write_all(header.as_bytes()).await.unwrap();
    for sent in 0..SIZE / CHUNK {
        stream.write_all(&chunk).await.unwrap();
        if sent % 1024 == 0 {
            most = most.max(gateway.resident());
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{SIZE}")), "{answer}");
    let more = most.saturating_sub(idle);
    assert!(
        more < 20 << 20,
        "{} MiB more than {}",
        more >> 20,
        idle >> 20
    );
}
