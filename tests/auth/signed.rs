//! Signed requests, driven from outside.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, Authority, Client, Fault, Gateway, MessageSigner, Request, Signature, Upstream, dial,
    digest,
};
use bytes::Bytes;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ACME: MessageSigner = MessageSigner {
    key: "acme-1",
    secret: "0123456789abcdef0123456789abcdef",
};
const BODY: &[u8] = b"{\"amount\": 100}";

/// A gateway to these backends, with more in its service.
async fn gateway(targets: &[&Upstream], more: &str) -> Gateway {
    let targets: Vec<_> = targets
        .iter()
        .map(|it| format!("\"http://{}\"", it.address))
        .collect();
    Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2, trusted_proxies: [127.0.0.9/32] }}
admin: {{ listen: $ADMIN }}
auth_providers:
  partners: {{ signature: {{ keys: {{ acme-1: {} }}, forward_name: X-Partner }} }}
consumers: {{ acme: {{ credentials: {{ partners: acme-1 }} }} }}
services:
  a:
    targets: [{}]
    auth: partners
    load_balancing: round_robin
    routes: [{{ prefix: /a }}, {{ path: /ping, respond: {{ body: pong }} }}]
    {more}
",
        ACME.secret,
        targets.join(", ")
    ))
    .await
}

/// A signature of a request without a body.
fn bare(gateway: &Gateway, method: &str, path: &str, query: &str) -> Signature {
    ACME.sign(&[
        ("@method", method),
        ("@authority", &gateway.address.to_string()),
        ("@path", path),
        ("@query", query),
    ])
}

/// A signature of a `POST` to `/a` of a body with this digest.
fn of_body(gateway: &Gateway, method: &str, digest: &str) -> Signature {
    ACME.sign(&[
        ("@method", method),
        ("@authority", &gateway.address.to_string()),
        ("@path", "/a"),
        ("@query", "?"),
        ("content-digest", digest),
    ])
}

fn post(gateway: &Gateway, signed: &[u8]) -> Request {
    let digest = digest(signed);
    gateway
        .post("/a")
        .header("content-digest", &digest)
        .signature(&of_body(gateway, "POST", &digest))
}

#[track_caller]
fn refused(answer: Answer, detail: &str) {
    let answer = answer
        .assert_status(401)
        .assert_header("www-authenticate", "Signature realm=\"tollgate\"");
    assert_eq!(answer.json()["detail"], detail);
}

const WRONG: &str = "the signature is wrong";
const WRONG_BODY: &str = "the body is not the one that was signed";

#[tokio::test]
async fn a_signed_request_tells_the_backend_who_sent_it() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    gateway
        .get("/a/b%20c?x=1")
        .signature(&bare(&gateway, "GET", "/a/b%20c", "?x=1"))
        .header("x-partner", "mallory")
        .header("x_partner", "mallory")
        .send()
        .await
        .assert_status(200);
    let seen = upstream.last();
    assert_eq!(seen.headers("x-partner"), ["acme-1"]);
    assert_eq!(seen.headers("x-consumer"), ["acme"]);
    assert_eq!(seen.header("x_partner"), None);
    assert_eq!(seen.target, "/a/b%20c?x=1");
}

#[tokio::test]
async fn whatever_was_not_signed_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    let good = || bare(&gateway, "GET", "/a", "?x=1");
    let sent = async |request: Request| request.signature(&good()).send().await;
    refused(sent(gateway.get("/a?x=2")).await, WRONG);
    refused(sent(gateway.get("/a/?x=1")).await, WRONG);
    refused(sent(gateway.get("/a")).await, WRONG);
    refused(sent(gateway.request(Method::DELETE, "/a?x=1")).await, WRONG);
    let elsewhere = gateway.get("/a?x=1").header("host", "other.example");
    refused(sent(elsewhere).await, WRONG);
    let unsigned = gateway.get("/a?x=1").send().await;
    refused(unsigned, "a credential is needed");
    let other = MessageSigner {
        key: "acme-2",
        ..ACME
    };
    let unknown = other.sign(&[("@method", "GET")]);
    let unknown = gateway.get("/a?x=1").signature(&unknown).send().await;
    refused(unknown, "the credential is not known");
    let little = ACME.sign(&[("@method", "GET"), ("@path", "/a")]);
    let little = gateway.get("/a?x=1").signature(&little).send().await;
    refused(little, "the signature does not cover all that it must");
    assert_eq!(upstream.seen().len(), 0);
    // Nor does it cost anybody the connection.
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.get("/a").await.assert_status(401);
    }
    let log = gateway.log(10).await;
    assert!(log.iter().all(|it| it["flags"][0] == "unauthorized"));
}

#[tokio::test]
async fn a_signature_is_used_once_though_the_configuration_changes() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    let signature = bare(&gateway, "GET", "/a", "?");
    let send = || gateway.get("/a").signature(&signature).send();
    send().await.assert_status(200);
    refused(send().await, "the signature was used before");
    gateway.edit("forward_name: X-Partner", "max_age: 2m");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gateway.process_log().contains("reloaded") {
        assert!(Instant::now() < deadline, "{}", gateway.process_log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    refused(send().await, "the signature was used before");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_scheme_is_that_which_a_trusted_proxy_saw() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    let signature = || {
        ACME.sign(&[
            ("@method", "GET"),
            ("@target-uri", "https://shop.example/a?b=c"),
        ])
    };
    let send = |from: &str| {
        gateway
            .get("/a?b=c")
            .from(from)
            .header("host", "shop.example:443")
            .header("x-forwarded-proto", "https")
            .signature(&signature())
            .send()
    };
    send("127.0.0.9").await.assert_status(200);
    refused(send("127.0.0.1").await, WRONG);
}

#[tokio::test]
async fn a_signed_body_arrives_whatever_its_length() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    for length in [0, 1, 15, 65_536, 1_000_000] {
        let body: Vec<u8> = (0..length).map(|it| it as u8).collect();
        let sent = post(&gateway, &body).body(body.clone()).send().await;
        sent.assert_status(200);
        assert!(upstream.last().body == body, "{length}");
    }
    // The same in chunks.
    let digest = digest(BODY);
    let signature = of_body(&gateway, "POST", &digest);
    let head = head(&gateway, &digest, &signature, "transfer-encoding: chunked");
    let (first, rest) = BODY.split_at(4);
    let mut request = head.into_bytes();
    for part in [first, rest] {
        request.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = gateway.exchange(&request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.last().body, BODY);
}

fn head(gateway: &Gateway, digest: &str, signature: &Signature, length: &str) -> String {
    format!(
        "POST /a HTTP/1.1\r\nhost: {}\r\ncontent-digest: {digest}\r\nsignature-input: {}\r\nsignature: {}\r\n{length}\r\n\r\n",
        gateway.address, signature.input, signature.value
    )
}

/// A backend that keeps what each connection brought, and answers nothing.
async fn silent() -> (Upstream, Arc<Mutex<Vec<Vec<u8>>>>) {
    let brought: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = brought.clone();
    let upstream = Upstream::raw(move |mut stream| {
        let kept = kept.clone();
        async move {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            kept.lock().unwrap().push(bytes);
        }
    })
    .await;
    (upstream, brought)
}

/// What the next connection brought, when it has ended.
async fn brought(connections: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(bytes) = connections.lock().unwrap().pop() {
            return bytes;
        }
        assert!(Instant::now() < deadline, "no connection ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_backend_never_sees_the_end_of_another_body() {
    let (upstream, connections) = silent().await;
    let gateway = gateway(&[&upstream], "").await;
    let large = vec![b'x'; 300_000];
    let mut last = large.clone();
    *last.last_mut().unwrap() = b'y';
    let longer = [&large[..], b"z"].concat();
    for (signed, sent) in [
        (BODY, &b"{\"amount\": 900}"[..]),
        (BODY, b"{\"amount\": 1000}"),
        (BODY, b"x"),
        (&large, &last),
        (&large, &longer),
        (&large, &large[1..]),
    ] {
        let answer = post(&gateway, signed).body(sent.to_vec()).send().await;
        refused(answer, WRONG_BODY);
        let bytes = brought(&connections).await;
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let header = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        assert!(
            header.contains(&format!("content-length: {}", sent.len())),
            "{header}"
        );
        assert!(bytes.len() - end - 4 < sent.len(), "{}", sent.len());
    }
    // In chunks, the last one never comes.
    let digest = digest(BODY);
    let signature = of_body(&gateway, "POST", &digest);
    let head = head(&gateway, &digest, &signature, "transfer-encoding: chunked");
    let request = head + "5\r\nother\r\n0\r\n\r\n";
    let answer = gateway.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let bytes = brought(&connections).await;
    assert!(!bytes.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn a_body_that_nobody_signed_is_refused_before_a_backend_is_asked() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    let unsigned = |method: Method| {
        let signature = bare(&gateway, method.as_str(), "/a", "?");
        gateway
            .request(method, "/a")
            .signature(&signature)
            .header("content-digest", &digest(BODY))
    };
    let not_covered = "the signature does not cover all that it must";
    refused(unsigned(Method::PUT).body(BODY).send().await, not_covered);
    refused(unsigned(Method::GET).body(BODY).send().await, not_covered);
    // One that was signed and is not there.
    refused(post(&gateway, BODY).send().await, WRONG_BODY);
    assert_eq!(upstream.connections(), 0);
    // No body was signed and none is there.
    post(&gateway, b"").send().await.assert_status(200);
    unsigned(Method::PUT).send().await.assert_status(200);
    // Nobody reads it where the gateway answers itself.
    let signature = bare(&gateway, "GET", "/ping", "?");
    let ping = gateway.get("/ping").signature(&signature).send().await;
    assert_eq!(ping.assert_status(200).text(), "pong");
}

#[tokio::test]
async fn a_client_whose_body_was_refused_keeps_its_connection() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&[&upstream], "").await;
    let digest = digest(BODY);
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    for (body, status) in [(&b"{\"amount\": 900}"[..], "401"), (BODY, "200")] {
        let signature = of_body(&gateway, "POST", &digest);
        let length = format!("content-length: {}", body.len());
        let head = head(&gateway, &digest, &signature, &length);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "it is closed after {answer}");
            answer += &String::from_utf8_lossy(&part[..count]);
        }
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_sent_again_is_the_same_one() {
    let retry = "retry: { attempts: 2, on: [503], budget: 100%, backoff: 1ms }";
    let (failing, well) = (Fault::Says(503).backend().await, Upstream::echo().await);
    let gateway = gateway(&[&failing, &well], retry).await;
    let put = |digest: &str| {
        gateway
            .request(Method::PUT, "/a")
            .header("content-digest", digest)
            .signature(&of_body(&gateway, "PUT", digest))
    };
    for _ in 0..4 {
        let answer = put(&digest(BODY)).body(BODY).send().await;
        answer.assert_status(200);
        assert_eq!(well.last().body, BODY);
    }
    let count = well.seen().len();
    assert_eq!(count, 4);
    for _ in 0..2 {
        let answer = put(&digest(BODY)).body("{\"amount\": 900}").send().await;
        refused(answer, WRONG_BODY);
    }
    let log = gateway.log(6).await;
    let (well, refused): (Vec<_>, Vec<_>) = log.iter().partition(|it| it["status"] == 200);
    assert!(well.iter().any(|it| it["attempts"] == 2), "{log:?}");
    assert!(refused.iter().all(|it| it["attempts"] == 1), "{log:?}");
}

/// The second attempt begins while the client is still sending.
#[tokio::test]
async fn a_body_that_is_half_there_is_read_from_its_start_again() {
    let hasty = Upstream::raw(|mut stream| async move {
        let mut part = [0; 8192];
        let _ = stream.read(&mut part).await;
        let answer = b"HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
        while matches!(stream.read(&mut part).await, Ok(1..)) {}
    })
    .await;
    let well = Upstream::echo().await;
    let retry = "retry: { attempts: 2, on: [503], budget: 100%, backoff: 1ms, all_methods: true }";
    let gateway = gateway(&[&hasty, &well], retry).await;
    let digest = digest(BODY);
    let length = format!("content-length: {}", BODY.len());
    let signature = of_body(&gateway, "POST", &digest);
    let head = head(&gateway, &digest, &signature, &length);
    let mut stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let (first, rest) = BODY.split_at(4);
    let begin = [head.as_bytes(), first].concat();
    stream.write_all(&begin).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while well.connections() == 0 {
        assert!(Instant::now() < deadline, "no second attempt");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(rest).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(well.last().body, BODY);
}

#[tokio::test]
async fn copies_and_second_attempts_are_of_signed_bodies_alone() {
    let (upstream, shadow) = (Upstream::echo().await, Upstream::echo().await);
    let more = format!(
        "retry: {{ hedge_after: 20ms, hedge_budget: 100% }}
  b: {{ base_url: \"http://{}\", routes: [/b] }}
  c: {{ base_url: \"http://{}\", auth: partners, routes: [{{ path: /c, mirror: {{ service: b }} }}] }}",
        shadow.address, upstream.address
    );
    let gateway = gateway(&[&upstream], &more).await;
    let to_c = |body: &'static [u8]| {
        let digest = digest(BODY);
        let signature = ACME.sign(&[
            ("@method", "POST"),
            ("@authority", &gateway.address.to_string()),
            ("@path", "/c"),
            ("@query", "?"),
            ("content-digest", &digest),
        ]);
        let request = gateway.post("/c").header("content-digest", &digest);
        request.signature(&signature).body(body).send()
    };
    refused(to_c(b"{\"amount\": 900}").await, WRONG_BODY);
    to_c(BODY).await.assert_status(200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while shadow.seen().is_empty() {
        assert!(Instant::now() < deadline, "no copy came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shadow.seen().len(), 1);
    assert_eq!(shadow.last().body, BODY);
    // Hedged requests have no body, and must not have had one.
    let get = |digest: &str| {
        let signature = of_body(&gateway, "GET", digest);
        let request = gateway.get("/a").header("content-digest", digest);
        request.signature(&signature).send()
    };
    get(&digest(b"")).await.assert_status(200);
    let before = upstream.seen().len();
    refused(get(&digest(BODY)).await, WRONG_BODY);
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test]
async fn other_credentials_are_left_to_others() {
    let upstream = Upstream::answering(|seen| {
        Response::new(Bytes::from(format!("{:?}", seen.headers("x-partner"))))
    })
    .await;
    let gateway = Gateway::start(&format!(
        "auth_providers:
  old: {{ signature: {{ keys: {{ acme-0: ffffffffffffffffffffffffffffffff }}, forward_name: X-Partner }} }}
  new: {{ signature: {{ keys: {{ acme-1: {} }}, forward_name: X-Partner }} }}
services:
  a: {{ base_url: \"http://{}\", routes: [{{ path: /a, auth: {{ any_of: [old, new], anonymous: true }} }}] }}",
        ACME.secret, upstream.address
    ))
    .await;
    let answer = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(answer.text(), "[]");
    let signature = bare(&gateway, "GET", "/a", "?");
    let signed = gateway.get("/a").signature(&signature).send().await;
    assert_eq!(signed.assert_status(200).text(), "[\"acme-1\"]");
    let forged = MessageSigner {
        secret: "0123456789abcdef0123456789abcdeg",
        ..ACME
    };
    let forged = forged.sign(&[
        ("@method", "GET"),
        ("@authority", &gateway.address.to_string()),
        ("@path", "/a"),
        ("@query", "?"),
    ]);
    refused(gateway.get("/a").signature(&forged).send().await, WRONG);
}

#[tokio::test]
async fn the_target_of_an_encrypted_request_is_signed_as_one() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let directory = tempfile::tempdir().unwrap();
    authority.write(directory.path(), "a", &["a.example"]);
    let config = format!(
        "server: {{ listen: {{ address: $LISTEN, tls: {{ certificates: {{ cert: a.pem, key: a.key }} }} }} }}
admin: {{ listen: $ADMIN }}
auth_providers: {{ partners: {{ signature: {{ keys: {{ acme-1: {} }}, components: '@target-uri' }} }} }}
services: {{ a: {{ base_url: \"http://{}\", auth: partners, routes: [/a] }} }}
",
        ACME.secret, upstream.address
    );
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    for (target, status) in [
        ("https://a.example/a?x=1", 200),
        ("http://a.example/a?x=1", 401),
    ] {
        let stream = dial(gateway.address, "a.example", &config).await.unwrap();
        let mut client = Client::over(stream, "a.example").await;
        let signature = ACME.sign(&[("@target-uri", target)]);
        let fields = [
            ("host", "a.example"),
            ("signature-input", &signature.input),
            ("signature", &signature.value),
        ];
        let fields =
            fields.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let answer = client
            .get_with("/a?x=1", &HeaderMap::from_iter(fields))
            .await;
        answer.assert_status(status);
    }
}
