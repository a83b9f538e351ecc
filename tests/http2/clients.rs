//! Clients that speak HTTP/2 without TLS, since they know that they may (h2c with prior knowledge).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Body, Gateway, Upstream};
use super::{PYTHON, run, script};

pub(super) async fn connect(to: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn gateway(upstream: &Upstream, server: &str, service: &str) -> Gateway {
    let config = format!(
        "server: {{ threads: 2, listen: {{ address: $LISTEN, http2: true }}, {server} }}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], {service} }} }}
",
        upstream.address
    );
    Gateway::start(&config).await
}

fn get(gateway: &Gateway) -> Request<Body> {
    let request = Request::get(format!("http://{}/x", gateway.address));
    request.body(BoxBody::default()).unwrap()
}

/// The requests that the access log knows, by their protocol.
async fn protocols(gateway: &Gateway, lines: usize) -> Vec<String> {
    let log = gateway.log(lines).await;
    let protocol = |line: &serde_json::Value| line["protocol"].as_str().unwrap().to_owned();
    log.iter().map(protocol).collect()
}

#[tokio::test]
async fn each_version_is_told_by_its_first_bytes() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "", "").await;
    let mut sender = connect(gateway.address).await;
    let answer = sender.send_request(get(&gateway)).await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, Version::HTTP_2)
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("http"));
    assert_eq!(upstream.last().header("via"), Some("2 tollgate"));
    gateway.get("/x").send().await.assert_status(200);
    gateway
        .request(hyper::Method::PUT, "/x")
        .send()
        .await
        .assert_status(200);
    // Shorter than what a client of HTTP/2 begins with.
    let answer = gateway.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut protocols = protocols(&gateway, 4).await;
    protocols.sort();
    assert_eq!(protocols, ["HTTP/1.0", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0"]);
}

#[tokio::test]
async fn first_bytes_may_come_one_by_one() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "", "").await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).await.unwrap();
    assert_eq!(settings[3], 4, "{settings:?}");
}

#[tokio::test]
async fn who_was_not_told_to_speak_it_does_not() {
    let upstream = Upstream::echo().await;
    let config = format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}] }} }}",
        upstream.address
    );
    let gateway = Gateway::start(&config).await;
    let answer = gateway.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn programs_of_nghttp2_get_their_answers() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "", "").await;
    let url = format!("http://{}/x", gateway.address);
    let said = run("nghttp", &["-v", &url]).await;
    assert!(said.contains(":status: 200"), "{said}");
    let said = run("h2load", &["-n2000", "-c4", "-m50", &url]).await;
    assert!(
        said.contains("2000 succeeded, 0 failed, 0 errored"),
        "{said}"
    );
    assert!(said.contains("status codes: 2000 2xx"), "{said}");
}

/// By frames of hyperframe and hpack.
#[tokio::test]
async fn odd_and_wrong_frames_are_taken_as_the_specification_says() {
    let serve = |request: Request<Incoming>| async move {
        if request.uri().path() == "/late" {
            std::future::pending::<()>().await;
        }
        request.into_body().collect().await.unwrap();
        Response::new(Full::from("hello").boxed())
    };
    let upstream = Upstream::serving(serve).await;
    let gateway = gateway(&upstream, "", "").await;
    let address = gateway.address.to_string();
    let said = run(PYTHON, &[&script("conformance.py"), &address]).await;
    assert_eq!(said, "85 cases\n");
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_its_request_and_no_other() {
    let upstream = Upstream::echo().await;
    let server = "timeouts: { request_body: 300ms }";
    let gateway = gateway(&upstream, server, "").await;
    let mut sender = connect(gateway.address).await;
    let (_more, rest) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::unfold(
        (Some(Bytes::from("begun")), rest),
        |(first, mut rest)| async {
            let part = match first {
                Some(part) => Some(part),
                None => rest.recv().await,
            };
            Some((Ok(Frame::data(part?)), (None, rest)))
        },
    );
    let request = Request::post(format!("http://{}/x", gateway.address));
    let request = request.body(BodyExt::boxed(StreamBody::new(Box::pin(body))));
    let slow = sender.send_request(request.unwrap());
    let quick = sender.clone().send_request(get(&gateway)).await.unwrap();
    assert_eq!(quick.status(), StatusCode::OK);
    let slow = tokio::time::timeout(Duration::from_secs(20), slow).await;
    assert_eq!(slow.unwrap().unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    let log = gateway.log(2).await;
    let line = log.iter().find(|line| line["status"] == 408).unwrap();
    assert_eq!(
        line["flags"],
        serde_json::json!(["client_timeout"]),
        "{line}"
    );
    let quick = sender.send_request(get(&gateway)).await.unwrap();
    assert_eq!(quick.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_keeps_coming_may_take_longer_than_any_silence() {
    let upstream = Upstream::echo().await;
    let server = "timeouts: { request_body: 1s }";
    let gateway = gateway(&upstream, server, "").await;
    let mut sender = connect(gateway.address).await;
    let body = futures_util::stream::unfold(0, |count| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (count < 15).then(|| (Ok(Frame::data(Bytes::from("x"))), count + 1))
    });
    let request = Request::post(format!("http://{}/x", gateway.address));
    let request = request.body(BodyExt::boxed(StreamBody::new(Box::pin(body))));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(upstream.last().body.len(), 15);
}

#[tokio::test]
async fn events_and_late_answers_are_not_held_back() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let upstream = Upstream::serving(move |_| {
        let receiver = receiver.clone();
        async move {
            let events = futures_util::stream::unfold(receiver, |receiver| async move {
                let event = receiver.lock().await.recv().await?;
                Some((Ok(Frame::data(event)), receiver))
            });
            let body = BodyExt::boxed(StreamBody::new(Box::pin(events)));
            let response = hyper::Response::builder().header("content-type", "text/event-stream");
            response.body(body).unwrap()
        }
    })
    .await;
    let gateway = gateway(&upstream, "", "").await;
    let mut client = connect(gateway.address).await;
    let answer = client.send_request(get(&gateway)).await.unwrap();
    let mut body = answer.into_body();
    for event in ["data: one\n\n", "data: two\n\n"] {
        // The next one is sent only once this one has come through.
        sender.send(Bytes::from(event)).await.unwrap();
        let part = tokio::time::timeout(Duration::from_secs(20), body.frame());
        let part = part.await.expect("the event comes").unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), event);
    }
}

#[tokio::test]
async fn who_resets_requests_in_bursts_is_cut_off() {
    let upstream = Upstream::serving(|_| std::future::pending()).await;
    let gateway = gateway(&upstream, "", "").await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..5000 {
        let request = Request::get(format!("http://{}/x", gateway.address));
        let Ok(mut ready) = client.ready().await else {
            break;
        };
        let (_, mut sent) = ready.send_request(request.body(()).unwrap(), true).unwrap();
        sent.send_reset(h2::Reason::CANCEL);
        client = ready;
        tokio::task::yield_now().await;
    }
    let end = tokio::time::timeout(Duration::from_secs(20), connection).await;
    assert!(end.expect("it goes on").unwrap().is_err());
    // Others are served.
    let mut other = connect(gateway.address).await;
    other.ready().await.unwrap();
}

#[tokio::test]
async fn limits_hold_for_each_request() {
    let upstream = Upstream::echo().await;
    let service = "rate_limit: { limit: 3, window: 1h, by: client_ip }, body_limit: 10B";
    let gateway = gateway(&upstream, "", service).await;
    let mut sender = connect(gateway.address).await;
    let body = Full::new(Bytes::from(vec![0; 100_000])).boxed();
    let request = Request::post(format!("http://{}/x", gateway.address)).body(body);
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = sender.send_request(get(&gateway)).await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}
