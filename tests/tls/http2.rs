//! HTTP/2: many requests on one connection, each through the same pipeline.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::support::{Authority, Upstream, dial};
use super::{gateway, gateway_with};

pub(super) type Sender = SendRequest<Full<Bytes>>;

pub(super) async fn connect(to: SocketAddr, authority: &Authority, name: &str) -> Sender {
    let config = Arc::new(authority.client(&["h2", "http/1.1"]));
    let stream = dial(to, name, &config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    over(stream).await
}

pub(super) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn ask(mut sender: Sender, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    (
        status,
        answer.into_body().collect().await.unwrap().to_bytes(),
    )
}

pub(super) fn get(target: &str) -> Request<Full<Bytes>> {
    Request::get(target).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_backend_as_any_other() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let sender = connect(gateway.address, &authority, "a.example").await;
    let request = Request::post("https://a.example/x?y=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from_static(b"sent")))
        .unwrap();
    assert_eq!(ask(sender, request).await, (StatusCode::OK, "hello".into()));
    let seen = upstream.last();
    assert_eq!(
        (&*seen.method, &*seen.target, &*seen.body),
        ("POST", "/x?y=1", &b"sent"[..])
    );
    for (name, expected) in [
        ("cookie", "a=1; b=2"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("via", "2 tollgate"),
    ] {
        assert_eq!(seen.headers(name), [expected], "{name}");
    }
    assert_eq!(seen.headers("host"), [upstream.address.to_string()]);
    let line = &gateway.log(1).await[0];
    assert_eq!(line["protocol"], "HTTP/2.0", "{line}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert_eq!(line["host"], "a.example", "{line}");
}

#[tokio::test]
async fn a_listener_may_do_without_it() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    // Behind `tls`, whose last key it stands in place of.
    let gateway = gateway(&authority, &upstream, "strict_sni: false\n    http2: false").await;
    for offered in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let config = Arc::new(authority.client(offered));
        let stream = dial(gateway.address, "a.example", &config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    // Who speaks nothing else is told so by an alert.
    let config = Arc::new(authority.client(&["h2"]));
    assert!(dial(gateway.address, "a.example", &config).await.is_err());
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let sender = connect(gateway.address, &authority, "a.example").await;
    let answers =
        (0..1000).map(|number| ask(sender.clone(), get(&format!("https://a.example/{number}"))));
    for (status, body) in join_all(answers).await {
        assert_eq!((status, &*body), (StatusCode::OK, &b"hello"[..]));
    }
    let mut targets: Vec<_> = upstream.seen().into_iter().map(|it| it.target).collect();
    targets.sort();
    targets.dedup();
    assert_eq!(targets.len(), 1000);
}

#[tokio::test]
async fn bodies_of_any_size_pass_in_both_directions() {
    let authority = Authority::new();
    let upstream = Upstream::answering(|seen| Response::new(seen.body.clone())).await;
    let gateway = gateway(&authority, &upstream, "").await;
    let sender = connect(gateway.address, &authority, "a.example").await;
    let exchanges = [0, 1, 16_384, 65_536, 5_000_000].map(|size| {
        let sender = sender.clone();
        async move {
            let body: Bytes = (0..size).map(|it| it as u8).collect::<Vec<u8>>().into();
            let request = Request::put("https://a.example/").body(Full::new(body.clone()));
            let (status, answer) = ask(sender, request.unwrap()).await;
            assert_eq!(status, StatusCode::OK);
            assert!(answer == body, "{size}: {} bytes", answer.len());
        }
    });
    join_all(exchanges).await;
}

#[tokio::test]
async fn limits_count_each_request_and_refusals_leave_the_connection_open() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let service = "rate_limit: { limit: 3, window: 1h, by: client_ip }, body_limit: 10B";
    let gateway = gateway_with(&authority, &upstream, "", service).await;
    let sender = connect(gateway.address, &authority, "a.example").await;
    let request =
        Request::post("https://a.example/").body(Full::new(Bytes::from(vec![0; 100_000])));
    assert_eq!(
        ask(sender.clone(), request.unwrap()).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let answers = join_all((0..4).map(|_| ask(sender.clone(), get("https://a.example/")))).await;
    let count = |status| answers.iter().filter(|it| it.0 == status).count();
    assert_eq!(count(StatusCode::OK), 2);
    assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), 2);
    assert_eq!(
        ask(sender, get("https://a.example/")).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[tokio::test]
async fn a_connection_that_goes_on_guessing_ends_here_too() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let service = "auth: main } }
auth_providers: { main: { jwt: { algorithms: [HS256], keys: { secret: 0123456789abcdef0123456789abcdef } }";
    let gateway = gateway_with(&authority, &upstream, "", service).await;
    let mut sender = connect(gateway.address, &authority, "a.example").await;
    let guess = || {
        let request = Request::get("https://a.example/").header("authorization", "Bearer a.b.c");
        request.body(Full::default()).unwrap()
    };
    let mut guesses = 0;
    while sender.ready().await.is_ok() && guesses < 20 {
        match sender.send_request(guess()).await {
            Ok(answer) => assert_eq!(answer.status(), StatusCode::UNAUTHORIZED),
            Err(_) => break,
        }
        guesses += 1;
    }
    assert!((2..10).contains(&guesses), "{guesses}");
    connect(gateway.address, &authority, "a.example").await;
}
