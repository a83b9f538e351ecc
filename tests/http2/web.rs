//! gRPC-Web: calls of browsers, over HTTP/1.1, to a server of grpcio.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Server;
use super::support::{Answer, Gateway, check};

async fn gateway(server: &Server, service: &str) -> Gateway {
    let config = format!(
        "services:
  echo:
    base_url: http://{}
    protocol: http2
    grpc_web: true
    cors: {{ origins: [\"https://shop.example.com\"], methods: [POST], expose_headers: [x-mine] }}
    routes: [{{ prefix: /test.Echo }}]
    {service}
",
        server.address
    );
    Gateway::start(&config).await
}

/// A message in its frame.
fn message(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend(text);
    frame
}

/// The messages of a body, and the trailers behind them.
fn parts(mut body: &[u8]) -> (Vec<String>, String) {
    let mut messages = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = body {
        let (part, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        let part = String::from_utf8(part.to_vec()).unwrap();
        if *kind == 0x80 {
            assert!(after.is_empty(), "something comes after the trailers");
            return (messages, part);
        }
        messages.push(part);
        body = after;
    }
    panic!("there are no trailers behind {messages:?}");
}

/// What a body stands for that came as text in pieces, each of which may be padded.
fn decoded(text: &str) -> Vec<u8> {
    let groups = text.as_bytes().chunks(4);
    groups.flat_map(|it| STANDARD.decode(it).unwrap()).collect()
}

async fn call(gateway: &Gateway, method: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = gateway.post(&format!("/test.Echo/{method}"));
    let request = request
        .header("content-type", kind)
        .header("x-grpc-web", "1")
        .header("origin", "https://shop.example.com");
    request.body(body).send().await.assert_status(200)
}

#[tokio::test]
async fn messages_pass_as_bytes_and_trailers_come_behind_them() {
    let server = Server::grpc();
    let gateway = gateway(&server, "").await;
    let kind = "application/grpc-web+proto";
    let answer = call(&gateway, "Unary", kind, message(b"hello")).await;
    assert_eq!(answer.header("content-type"), Some("application/grpc-web"));
    let (messages, trailers) = parts(&answer.body);
    assert_eq!(messages, ["hello"]);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    assert!(trailers.contains("parting-word: none\r\n"), "{trailers}");
    let exposed: Vec<_> = answer
        .headers
        .get_all("access-control-expose-headers")
        .iter()
        .collect();
    assert_eq!(
        exposed,
        [
            "x-mine",
            "grpc-status, grpc-message, grpc-status-details-bin"
        ]
    );
    let answer = call(&gateway, "Down", kind, message(b"3")).await;
    assert_eq!(parts(&answer.body).0, ["0", "1", "2"]);
    assert_eq!(gateway.log(2).await[0]["grpc_status"], "OK");
}

#[tokio::test]
async fn messages_pass_as_text_too() {
    let server = Server::grpc();
    let gateway = gateway(&server, "").await;
    let kind = "application/grpc-web-text";
    // Two pieces, the first of which is padded.
    let whole = message(b"hello");
    let text = STANDARD.encode(&whole[..4]) + &STANDARD.encode(&whole[4..]);
    let answer = call(&gateway, "Unary", kind, text.into_bytes()).await;
    assert_eq!(answer.header("content-type"), Some(kind));
    let (messages, trailers) = parts(&decoded(&answer.text()));
    assert_eq!(messages, ["hello"]);
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    let answer = call(
        &gateway,
        "Down",
        kind,
        STANDARD.encode(message(b"2")).into_bytes(),
    )
    .await;
    assert_eq!(parts(&decoded(&answer.text())).0, ["0", "1"]);
    let answer = call(&gateway, "Unary", kind, b"no base64 at all".to_vec()).await;
    assert_eq!(answer.header("grpc-status"), Some("13"), "{answer:?}");
}

#[tokio::test]
async fn failures_are_told_in_the_header_where_there_is_nothing_else() {
    let server = Server::grpc();
    let gateway = gateway(
        &server,
        "rate_limit: { limit: 1, window: 1h, by: client_ip }",
    )
    .await;
    let kind = "application/grpc-web+proto";
    let answer = call(&gateway, "Fail", kind, message(b"NOT_FOUND")).await;
    assert_eq!(answer.header("grpc-status"), Some("5"), "{answer:?}");
    let answer = call(&gateway, "Fail", kind, message(b"NOT_FOUND")).await;
    assert_eq!(answer.header("grpc-status"), Some("14"), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/grpc-web"));
    assert!(answer.body.is_empty());
    let exposed: Vec<_> = answer
        .headers
        .get_all("access-control-expose-headers")
        .iter()
        .collect();
    assert_eq!(
        exposed[1],
        "grpc-status, grpc-message, grpc-status-details-bin"
    );
}

#[test]
fn there_is_none_for_backends_that_speak_http1() {
    let (code, _, said) = check(
        "services: {a: {base_url: \"http://127.0.0.1:1\", routes: [{prefix: /, grpc_web: true}]}}",
    );
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("add `protocol: http2` to the service"),
        "{said}"
    );
}
