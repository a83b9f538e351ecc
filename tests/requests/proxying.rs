//! What backends see, what clients get back, and that bytes pass as they are.

use std::time::Duration;

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A service `a` with one prefix route for everything, and whatever else is given.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "services:\n  a:\n    base_url: http://{}\n    routes: [{{ prefix: / }}]\n{more}",
        upstream.address
    )
}

#[tokio::test]
async fn path_query_and_body_arrive_as_sent() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}/base\", routes: [{{ prefix: /v1 }}] }} }}",
        upstream.address
    ))
    .await;
    let path = "/v1/a%20b/c;d=1?q=%2F&x=1+2&y=%C3%A9";
    let answer = gateway
        .post(path)
        .header("x-mine", "1")
        .body("bytes\0here")
        .send()
        .await;
    assert_eq!(answer.assert_status(200).text(), "hello");
    let seen = upstream.last();
    assert_eq!(seen.target, format!("/base{path}"));
    assert_eq!(seen.method, "POST");
    assert_eq!(&seen.body[..], b"bytes\0here");
    assert_eq!(seen.header("x-mine"), Some("1"));
    assert_eq!(
        seen.header("host"),
        Some(upstream.address.to_string().as_str())
    );
}

#[tokio::test]
async fn a_path_that_means_another_is_forwarded_as_what_was_matched() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{}\n    routes: [{{ prefix: /public }}, {{ prefix: /admin, access: {{ deny: [0.0.0.0/0] }} }}]\n",
        upstream.address
    ))
    .await;
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "//admin",
        "/%61dmin",
        "/public/./../admin/x",
    ] {
        gateway.get(path).send().await.assert_status(403);
    }
    gateway.get("/public//x").send().await.assert_status(200);
    assert_eq!(upstream.last().target, "/public/x");
    for path in [
        "/public/%2fadmin",
        "/public/%00",
        "/public/..%5cadmin",
        "/../../etc",
    ] {
        let status = gateway.get(path).send().await.status.as_u16();
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_target_that_is_a_url_becomes_its_path() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services:\n  a: {{ base_url: \"http://{0}\", host_header: client, routes: [{{ path: /x, hosts: [right.example] }}] }}",
        upstream.address
    ))
    .await;
    let answer = gateway
        .exchange(b"GET http://right.example/x?y=1 HTTP/1.1\r\nHost: right.example\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = upstream.last();
    assert_eq!(seen.target, "/x?y=1");
    assert_eq!(seen.headers("host"), ["right.example"]);
    let differing = b"GET http://right.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n";
    let answer = gateway.exchange(differing).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn where_a_request_came_from_is_told_and_not_believed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    gateway
        .get("/")
        .header("host", "shop.example")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example")
        .header("x-request-id", "chosen")
        .header("via", "1.0 client")
        .send()
        .await
        .assert_status(200);
    let seen = upstream.last();
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.headers("x-forwarded-host"), ["shop.example"]);
    assert_eq!(
        seen.headers("forwarded"),
        ["for=127.0.0.1;host=\"shop.example\";proto=http"]
    );
    assert_eq!(seen.headers("via"), ["1.0 client", "1.1 tollgate"]);
    assert_ne!(seen.header("x-request-id"), Some("chosen"));
}

#[tokio::test]
async fn a_trusted_proxys_word_is_passed_on() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, trusted_proxies: [127.0.0.0/8] }}\nadmin: off\n{}",
        config(&upstream, "")
    ))
    .await;
    gateway
        .get("/")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("forwarded", "for=192.0.2.1")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "chosen")
        .send()
        .await
        .assert_status(200)
        .assert_header("x-request-id", "chosen");
    let seen = upstream.last();
    assert_eq!(
        seen.headers("x-forwarded-for"),
        ["192.0.2.1, 10.0.0.1, 127.0.0.1"]
    );
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
    assert!(
        seen.header("forwarded")
            .unwrap()
            .starts_with("for=192.0.2.1, for=127.0.0.1;")
    );
    assert_eq!(seen.header("x-request-id"), Some("chosen"));
    assert_eq!(gateway.log(1).await[0]["client"], "10.0.0.1");
}

#[tokio::test]
async fn hop_by_hop_fields_end_here_in_both_directions() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .header("connection", "x-hop, keep-alive")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=9")
            .header("proxy-connection", "keep-alive")
            .header("x-end", "1")
            .body(Bytes::from_static(b"ok"))
            .unwrap()
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let answer = gateway
        .get("/")
        .header("connection", "x-mine, close")
        .header("x-mine", "1")
        .header("keep-alive", "timeout=1")
        .header("proxy-authorization", "Basic x")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip")
        .header("upgrade", "h2c")
        .send()
        .await
        .assert_status(200)
        .assert_no_header("x-hop")
        .assert_no_header("keep-alive")
        .assert_no_header("proxy-connection")
        .assert_header("x-end", "1");
    assert_eq!(answer.text(), "ok");
    let seen = upstream.last();
    for name in [
        "x-mine",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "upgrade",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn head_has_no_body_and_the_connection_lives_on() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let answer = gateway
        .exchange(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let parts: Vec<&str> = answer.split("HTTP/1.1 200 OK").collect();
    assert_eq!(parts.len(), 3, "{answer}");
    assert!(
        parts[1].to_lowercase().contains("content-length: 5"),
        "{answer}"
    );
    assert!(parts[1].ends_with("\r\n\r\n"), "{answer}");
    assert!(parts[2].ends_with("\r\n\r\nhello"), "{answer}");
    let methods: Vec<String> = upstream
        .seen()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(methods, ["HEAD", "GET"]);
}

#[tokio::test]
async fn connections_to_backends_are_reused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let mut client = gateway.connect().await;
    for _ in 0..20 {
        client.get("/").await.assert_status(200);
    }
    upstream.assert_connections(1, &gateway);
}

#[tokio::test]
async fn chunked_bodies_pass_both_ways() {
    let upstream = Upstream::serving(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let chunks = body
            .chunks(3)
            .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))));
        let stream = futures_util::stream::iter(chunks.collect::<Vec<_>>());
        Response::new(BodyExt::boxed(StreamBody::new(stream)))
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let answer = gateway
        .exchange(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n",
        )
        .await;
    assert!(
        answer.to_lowercase().contains("transfer-encoding: chunked"),
        "{answer}"
    );
    let data: String = answer
        .split("\r\n\r\n")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .skip(1)
        .step_by(2)
        .collect();
    assert_eq!(data, "abcdefg", "{answer}");
}

/// The framework has no trailers in HTTP/1.1; an intermediary may discard them (RFC 9110 §6.5.1), as
/// long as they harm nothing.
#[tokio::test]
async fn trailers_are_discarded_and_harm_nothing() {
    let upstream = Upstream::raw(|mut stream| async move {
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(count @ 1..) => request.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        }
        let body = String::from_utf8_lossy(&request).matches("forged").count();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\n{body}\r\n0\r\nX-Sum: 1\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read(&mut chunk).await;
    })
    .await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/up] }} }}",
        upstream.address
    ))
    .await;
    let request = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n2\r\nab\r\n0\r\nX-User-Id: forged\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = gateway.exchange(request).await;
    // The body came through, nothing of the trailer reached the backend as a field, and the next
    // request was not mistaken for a part of it.
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\r\n1\r\n0\r\n0\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("trailer:"), "{answer}");
    assert!(answer.contains("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_is_asked() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 512];
    let count = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert!(
        first[..count].starts_with(b"HTTP/1.1 100"),
        "{}",
        String::from_utf8_lossy(&first[..count])
    );
    stream.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
    assert_eq!(&upstream.last().body[..], b"body");
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let upstream = Upstream::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let answer = gateway
        .exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 103"), "{answer}");
    assert!(answer.contains("Link: </a.css>"), "{answer}");
    assert!(
        answer.contains("HTTP/1.1 200 OK") && answer.ends_with("ok"),
        "{answer}"
    );
}

#[tokio::test]
async fn events_are_not_held_back() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(4);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let upstream = Upstream::serving(move |_| {
        let receiver = receiver.clone();
        async move {
            let stream = futures_util::stream::unfold(receiver, |receiver| async move {
                let event = receiver.lock().await.recv().await?;
                Some((
                    Ok(Frame::data(Bytes::from_static(event.as_bytes()))),
                    receiver,
                ))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(BodyExt::boxed(StreamBody::new(Box::pin(stream))))
                .unwrap()
        }
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        // The next event is sent only once this one has come through.
        sender.send(event).await.unwrap();
        while !seen.contains(event) {
            let mut chunk = [0; 1024];
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut chunk));
            let count = read.await.expect("the event comes").unwrap();
            assert_ne!(count, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }
}

/// A backend that sends every message back.
async fn echoes() -> Upstream {
    use futures_util::{SinkExt, StreamExt};
    Upstream::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_websocket_is_cut_because_its_backend_was_quick() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let upstream = echoes().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/ws] }} }}",
        upstream.address
    ))
    .await;
    let url = format!("ws://{}/ws", gateway.address);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let url = url.clone();
        clients.spawn(async move {
            for round in 0..150 {
                let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
                socket.send(Message::text("there?")).await.unwrap();
                let echo = socket.next().await;
                assert!(matches!(echo, Some(Ok(_))), "round {round}: {echo:?}");
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_websocket_passes_once_the_pipeline_has_said_yes() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let upstream = echoes().await;
    let gateway = Gateway::start(&format!(
        "auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: \"0123456789abcdef0123456789abcdef\" }} }} }} }}\nservices:\n  a:\n    base_url: http://{}\n    auth: main\n    routes: [/ws]\n",
        upstream.address
    ))
    .await;
    let url = format!("ws://{}/ws", gateway.address);
    let refused = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    assert_eq!(upstream.connections(), 0);
    let token = crate::support::run(&["token", "-c", "gateway.yaml"], gateway.directory.path());
    let token = String::from_utf8(token.stdout).unwrap();
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert(
        "authorization",
        format!("Bearer {}", token.trim()).parse().unwrap(),
    );
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).await.unwrap();
        let echoed = tokio::time::timeout(Duration::from_secs(20), socket.next())
            .await
            .unwrap();
        assert_eq!(echoed.unwrap().unwrap().into_text().unwrap().as_str(), text);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    let log = gateway.log(2).await;
    let flags = |status| &log.iter().find(|line| line["status"] == status).unwrap()["flags"];
    assert_eq!(*flags(401), serde_json::json!(["unauthorized"]));
    assert_eq!(flags(101)[0], "upgraded");
}

#[tokio::test]
async fn targets_share_the_traffic_by_weight_and_a_dead_one_is_passed_over() {
    let (one, two) = (Upstream::echo().await, Upstream::echo().await);
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    targets: [\"http://{}\", {{ url: \"http://{}\", weight: 3 }}]\n    routes: [/a]\n  b:\n    targets: [\"http://{}\", \"http://{}\"]\n    routes: [/b]\n",
        one.address,
        two.address,
        crate::support::free_port(),
        one.address
    ))
    .await;
    for _ in 0..12 {
        gateway.get("/a").send().await.assert_status(200);
    }
    assert_eq!((one.seen().len(), two.seen().len()), (3, 9));
    for _ in 0..6 {
        gateway.get("/b").send().await.assert_status(200);
    }
    let log = gateway.log(18).await;
    assert!(
        log.iter()
            .any(|line| line["attempts"] == 2 && line["flags"][0] == "retried")
    );
}

#[tokio::test]
async fn host_is_the_upstreams_the_clients_or_a_fixed_one() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services:\n  a: {{ base_url: \"http://{0}\", routes: [/a] }}\n  b: {{ base_url: \"http://{0}\", host_header: client, routes: [/b] }}\n  c: {{ base_url: \"http://{0}\", host_header: fixed.example, routes: [/c] }}\n",
        upstream.address
    ))
    .await;
    let upstream_host = upstream.address.to_string();
    for (path, expected) in [
        ("/a", upstream_host.as_str()),
        ("/b", "shop.example"),
        ("/c", "fixed.example"),
    ] {
        gateway
            .get(path)
            .header("host", "shop.example")
            .send()
            .await
            .assert_status(200);
        assert_eq!(upstream.last().headers("host"), [expected]);
    }
}

#[tokio::test]
async fn every_request_is_one_line_in_the_log() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&config(
        &upstream,
        "log: { access: { headers: [user-agent, authorization] } }\n",
    ))
    .await;
    let answer = gateway
        .request(Method::PUT, "/x/y?secret=1")
        .header("user-agent", "te\"st")
        .header("authorization", "Bearer abc")
        .body("1234567")
        .send()
        .await;
    gateway.get("/").send().await.assert_status(200);
    let log = gateway.log(2).await;
    let id = answer.header("x-request-id").unwrap();
    let line = log.iter().find(|line| line["id"] == id).unwrap();
    assert_eq!(line["method"], "PUT");
    assert_eq!(line["path"], "/x/y");
    assert_eq!(line["route"], "/");
    assert_eq!(line["service"], "a");
    assert_eq!(line["endpoint"], format!("http://{}", upstream.address));
    assert_eq!(line["status"], 200);
    assert_eq!(line["request_bytes"], 7);
    assert_eq!(line["response_bytes"], 5);
    assert_eq!(line["flags"], serde_json::json!([]));
    assert_eq!(
        line["headers"],
        serde_json::json!({"user-agent": "te\"st", "authorization": "[redacted]"})
    );
    for phase in ["pipeline_us", "connected_us", "first_byte_us", "total_us"] {
        assert!(line[phase].is_u64(), "{phase}");
    }
}
