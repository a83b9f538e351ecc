//! Another service decides who comes in, driven from outside.

use crate::support::{Fault, Gateway, NameServer, Seen, Upstream, free_port};
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;

/// A backend behind the one that decides, with what else is said of that.
async fn gateway(decides: &Upstream, backend: &Upstream, rest: &str) -> Gateway {
    Gateway::start(&configuration(
        &decides.address.to_string(),
        backend,
        rest,
        "outside",
    ))
    .await
}

fn configuration(decides: &str, backend: &Upstream, rest: &str, auth: &str) -> String {
    format!(
        "auth_providers: {{ outside: {{ forward: {{ url: \"http://{decides}/auth?x=1\", {rest} }} }} }}
services: {{ a: {{ base_url: \"http://{}\", auth: {auth}, routes: [{{ prefix: /a }}, {{ prefix: /open, auth: off }}] }} }}
",
        backend.address
    )
}

fn answer(status: u16, fields: &[(&str, &str)], body: &'static str) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// Lets alice in, and nobody else.
async fn doorkeeper() -> Upstream {
    Upstream::answering(|seen: &Seen| match seen.header("authorization") {
        Some("alice") => answer(
            200,
            &[
                ("x-user", "alice"),
                ("x-team", "red"),
                ("x-team", "blue"),
                ("x-secret", "1"),
                ("set-cookie", "seen=1"),
                ("x-note", "welcome"),
            ],
            "in",
        ),
        Some(_) => answer(403, &[("content-type", "text/plain")], "not you"),
        None => answer(
            401,
            &[
                ("www-authenticate", "Custom realm=\"there\""),
                ("x-secret", "1"),
            ],
            "",
        ),
    })
    .await
}

const COPIES: &str = "copy_response_headers: [X-User, X-Team], copy_to_client: [Set-Cookie, X-Note], subject_from: X-User";

#[tokio::test]
async fn it_sees_what_the_request_is_and_nothing_of_its_body() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let gateway = gateway(&decides, &backend, COPIES).await;
    gateway
        .request(Method::PUT, "/a/x/../%7e?q=1")
        .header("authorization", "alice")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("user-agent", "test")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-uri", "/open")
        .header("x-forwarded-method", "GET")
        .header("x-forwarded-host", "evil.example")
        .header("x-request-id", "mine")
        .header("x-other", "1")
        .header("te", "trailers")
        .header("content-type", "text/plain")
        .header("host", "shop.example")
        .body("the body")
        .send()
        .await
        .assert_status(200);
    let seen = decides.last();
    assert_eq!((&*seen.method, &*seen.target), ("GET", "/auth?x=1"));
    assert!(seen.body.is_empty());
    for (name, value) in [
        ("authorization", "alice"),
        ("user-agent", "test"),
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-uri", "/a/~?q=1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("host", &decides.address.to_string()),
    ] {
        assert_eq!(seen.headers(name), [value], "{name}");
    }
    assert_eq!(seen.headers("cookie"), ["a=1", "b=2"]);
    for name in [
        "x-other",
        "te",
        "content-type",
        "content-length",
        "transfer-encoding",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let id = gateway.log(1).await[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(id, "mine");
    assert_eq!(seen.header("x-request-id"), Some(&*id));
    assert_eq!(backend.last().body, "the body");
}

#[tokio::test]
async fn a_trusted_proxys_word_is_passed_on() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let rest = configuration(&decides.address.to_string(), &backend, COPIES, "outside");
    let config = format!(
        "server: {{ listen: $LISTEN, trusted_proxies: [127.0.0.1/32] }}\nadmin: {{ listen: $ADMIN }}\n{rest}"
    );
    let gateway = Gateway::start(&config).await;
    gateway
        .get("/a")
        .header("authorization", "alice")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-uri", "/open")
        .send()
        .await
        .assert_status(200);
    let seen = decides.last();
    assert_eq!(seen.headers("x-forwarded-for"), ["192.0.2.7, 127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.headers("x-forwarded-uri"), ["/a"]);
}

#[tokio::test]
async fn headers_are_copied_both_ways_and_clients_cant_send_them() {
    let (decides, backend) = (
        doorkeeper().await,
        Upstream::answering(|_| {
            answer(200, &[("set-cookie", "own=1"), ("x-note", "own")], "hello")
        })
        .await,
    );
    let gateway = gateway(&decides, &backend, COPIES).await;
    let let_in = gateway
        .get("/a")
        .header("authorization", "alice")
        .header("x-user", "mallory")
        .header("X_User", "mallory")
        .header("x-team", "black")
        .send()
        .await
        .assert_status(200);
    let cookies: Vec<_> = let_in.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["own=1", "seen=1"]);
    assert_eq!(let_in.header("x-note"), Some("welcome"));
    assert_eq!(let_in.headers.get_all("x-note").iter().count(), 1);
    let_in
        .assert_no_header("x-user")
        .assert_no_header("x-secret");
    let seen = backend.last();
    assert_eq!(seen.headers("x-user"), ["alice"]);
    assert_eq!(seen.headers("x-team"), ["red", "blue"]);
    assert_eq!(seen.header("x_user"), None);
    assert_eq!(seen.header("x-secret"), None);
    // Nor where nobody decides.
    gateway
        .get("/open")
        .header("x-user", "mallory")
        .send()
        .await
        .assert_status(200)
        .assert_header("x-note", "own");
    assert_eq!(backend.last().header("x-user"), None);
    assert_eq!(decides.seen().len(), 1);
}

#[tokio::test]
async fn a_header_that_is_missing_in_the_answer_is_missing_in_the_request() {
    let decides = Upstream::answering(|_| answer(204, &[], "")).await;
    let backend = Upstream::echo().await;
    let gateway = gateway(&decides, &backend, COPIES).await;
    gateway
        .get("/a")
        .header("x-user", "mallory")
        .send()
        .await
        .assert_status(200);
    assert_eq!(backend.last().header("x-user"), None);
}

#[tokio::test]
async fn a_refusal_is_the_clients_answer() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let config = configuration(&decides.address.to_string(), &backend, COPIES, "outside");
    let config = format!("{config}cors: {{ origins: [\"https://shop.example\"] }}\n");
    let gateway = Gateway::start(&config).await;
    let refused = gateway
        .get("/a")
        .header("origin", "https://shop.example")
        .send()
        .await
        .assert_status(401)
        .assert_header("www-authenticate", "Custom realm=\"there\"")
        .assert_header("cache-control", "no-store")
        .assert_header("access-control-allow-origin", "https://shop.example")
        .assert_header("proxy-status", "tollgate; error=http_request_denied")
        .assert_no_header("x-secret");
    // It had no body of its own.
    assert_eq!(refused.json()["status"], 401);
    let refused = gateway
        .get("/a")
        .header("authorization", "bob")
        .send()
        .await
        .assert_status(403)
        .assert_header("content-type", "text/plain")
        .assert_header("proxy-status", "tollgate; error=http_request_denied");
    assert_eq!(refused.text(), "not you");
    let head = gateway
        .request(Method::HEAD, "/a")
        .header("authorization", "bob")
        .send()
        .await
        .assert_status(403);
    assert!(head.body.is_empty());
    for line in gateway.log(3).await {
        let flag = match line["status"].as_u64() {
            Some(401) => "unauthorized",
            _ => "forbidden",
        };
        assert_eq!(line["flags"], json!([flag]));
    }
    assert_eq!(backend.seen().len(), 0);
    // The gateway's connections to it are kept, whatever it says.
    decides.assert_connections(1, &gateway);
}

#[tokio::test]
async fn a_redirect_is_the_clients_and_never_followed() {
    let decides = Upstream::answering(|_| {
        answer(
            302,
            &[
                ("location", "https://id.example/login"),
                ("set-cookie", "state=1"),
                ("set-cookie", "nonce=2"),
            ],
            "",
        )
    })
    .await;
    let backend = Upstream::echo().await;
    let gateway = gateway(&decides, &backend, COPIES).await;
    let sent_away = gateway
        .get("/a")
        .send()
        .await
        .assert_status(302)
        .assert_header("location", "https://id.example/login");
    let cookies: Vec<_> = sent_away.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["state=1", "nonce=2"]);
    assert!(sent_away.body.is_empty());
    assert_eq!(decides.seen().len(), 1);
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_the_clients() {
    let decides = Upstream::answering(|seen| {
        let size = seen.header("authorization").unwrap().parse().unwrap();
        Response::builder()
            .status(403)
            .header("content-type", "text/html")
            .body(vec![b'x'; size].into())
            .unwrap()
    })
    .await;
    let backend = Upstream::echo().await;
    let gateway = gateway(&decides, &backend, "").await;
    let ask = async |size: &str| gateway.get("/a").header("authorization", size).send().await;
    let whole = ask("65536").await.assert_status(403);
    assert_eq!(whole.body.len(), 65536);
    let refused = ask("65537").await.assert_status(403);
    assert_eq!(refused.json()["type"], "urn:tollgate:problem:forbidden");
}

/// What is no decision is none, and nobody comes in by it.
#[tokio::test]
async fn whatever_is_no_decision_is_503() {
    let backend = Upstream::echo().await;
    for status in [304, 500, 502, 503, 599, 300, 302] {
        let decides = Upstream::answering(move |_| answer(status, &[], "")).await;
        refuse(&decides, &backend).await;
    }
    for fault in [
        Fault::Refuses,
        Fault::Hangs,
        Fault::Resets,
        Fault::EndsInHeader,
        Fault::Garbles,
    ] {
        refuse(&fault.backend().await, &backend).await;
    }
    let interim = Upstream::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await;
        let _ = stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
            .await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    refuse(&interim, &backend).await;
    assert_eq!(backend.seen().len(), 0);
}

async fn refuse(decides: &Upstream, backend: &Upstream) {
    let gateway = gateway(decides, backend, "timeout: 200ms").await;
    let refused = gateway
        .get("/a")
        .header("authorization", "alice")
        .send()
        .await
        .assert_status(503)
        .assert_header("retry-after", "5");
    assert_eq!(
        refused.json()["type"],
        "urn:tollgate:problem:auth-unavailable"
    );
    let log = gateway.log(1).await;
    assert_eq!(log[0]["flags"], json!(["auth_unavailable"]));
    let said = gateway.process_log();
    assert!(said.contains("requests are not decided about"), "{said}");
}

#[tokio::test]
async fn requests_may_come_in_as_nobody_while_nobody_decides() {
    let backend = Upstream::echo().await;
    let gone = free_port();
    let rest = "on_failure: allow, copy_response_headers: X-User, subject_from: X-User";
    let config = configuration(&gone.to_string(), &backend, rest, "outside");
    let gateway = Gateway::start(&config).await;
    let said = gateway.process_log();
    assert!(said.contains("requests come in unchecked"), "{said}");
    gateway
        .get("/a")
        .header("authorization", "alice")
        .header("x-user", "mallory")
        .send()
        .await
        .assert_status(200);
    assert_eq!(backend.last().header("x-user"), None);
    let log = gateway.log(1).await;
    assert_eq!(log[0]["flags"], json!(["auth_unavailable"]));
    // Its word counts again as soon as there is one.
    let decides = Upstream::answering_at(&gone.to_string(), |_| answer(403, &[], "")).await;
    gateway.get("/a").send().await.assert_status(403);
    assert_eq!(decides.seen().len(), 1);
    let said = gateway.process_log();
    assert!(said.contains("requests are decided about again"), "{said}");
}

#[tokio::test]
async fn nobody_has_the_rights_that_are_asked_for() {
    let backend = Upstream::echo().await;
    let rest = "on_failure: allow, subject_from: X-User";
    let auth = "{ provider: outside, require: { claims: { sub: alice } } }";
    let config = configuration(&free_port().to_string(), &backend, rest, auth);
    let gateway = Gateway::start(&config).await;
    gateway.get("/a").send().await.assert_status(503);
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn who_it_names_is_a_consumer_with_rights_and_limits() {
    let decides = Upstream::answering(|seen| {
        let name = seen.header("authorization").unwrap();
        answer(
            200,
            &[("x-user", name), ("x-groups", "readers, writers")],
            "",
        )
    })
    .await;
    let backend = Upstream::echo().await;
    let rest = "subject_from: X-User, roles_from: X-Groups, copy_to_client: X-User";
    let auth = "{ provider: outside, require: { groups: gold, roles: writers } }";
    let config = configuration(&decides.address.to_string(), &backend, rest, auth);
    let gateway = Gateway::start(&format!(
        "{config}consumers: {{ acme: {{ credentials: {{ outside: alice }}, groups: gold, rate_limit: {{ limit: 1, window: 1h }} }} }}\nconsumer_groups: {{ gold: {{}} }}\n"
    ))
    .await;
    let ask = async |name: &str| gateway.get("/a").header("authorization", name).send().await;
    ask("alice").await.assert_status(200);
    assert_eq!(backend.last().header("x-consumer"), Some("acme"));
    ask("alice").await.assert_status(429);
    // What it tells the client is told whatever becomes of the request.
    let refused = ask("bob").await.assert_status(403);
    refused.assert_header("x-user", "bob");
}

#[tokio::test]
async fn it_is_asked_last_and_only_if_nobody_else_knows_the_credential() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let digest = "sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
    let config = configuration(
        &decides.address.to_string(),
        &backend,
        "",
        "{ any_of: [keys, outside] }",
    );
    let config = config.replace(
        "auth_providers: {",
        &format!("auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme: \"{digest}\" }} }} }},"),
    );
    let gateway = Gateway::start(&config).await;
    let ask = async |name: &str, value: &str| gateway.get("/a").header(name, value).send().await;
    ask("x-api-key", "key").await.assert_status(200);
    assert_eq!(decides.seen().len(), 0);
    ask("authorization", "alice").await.assert_status(200);
    ask("x-api-key", "another").await.assert_status(401);
    assert_eq!(decides.seen().len(), 2);
}

#[tokio::test]
async fn explain_says_who_decides_and_asks_nobody() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let gateway = gateway(&decides, &backend, "").await;
    let (code, said, _) = gateway
        .command(&["explain", "/a", "-H", "Authorization: alice"])
        .await;
    let expected = "outside     is asked about the request at /auth?x=1";
    assert!(code == 0 && said.contains(expected), "{said}");
    assert_eq!(decides.seen().len(), 0);
}

#[tokio::test]
async fn two_authorizations_are_refused() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let gateway = gateway(&decides, &backend, "").await;
    gateway
        .get("/a")
        .header("authorization", "alice")
        .header("authorization", "alice")
        .send()
        .await
        .assert_status(401);
    assert_eq!(decides.seen().len(), 0);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    // Each of its connections ends with the second question.
    let decides = Upstream::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        if let Ok(1..) = stream.read(&mut [0; 4096]).await {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    })
    .await;
    let backend = Upstream::echo().await;
    let gateway = gateway(&decides, &backend, "").await;
    for _ in 0..20 {
        gateway.get("/a").send().await.assert_status(200);
    }
    assert!(decides.connections() > 1);
}

#[tokio::test]
async fn its_name_is_looked_up_in_advance_and_every_address_tried() {
    let (decides, backend) = (doorkeeper().await, Upstream::echo().await);
    let names = NameServer::start().await;
    // Nobody is at the first one.
    names.set("decides.example", &["127.0.0.9", "127.0.0.1"]);
    names.live_for(60);
    let place = format!("decides.example:{}", decides.address.port());
    let rest = configuration(&place, &backend, COPIES, "outside");
    let config = format!(
        "server: {{ listen: $LISTEN, nameservers: [\"{}\"] }}\nadmin: {{ listen: $ADMIN }}\n{rest}",
        names.address
    );
    let gateway = Gateway::start(&config).await;
    let queries = names.queries();
    for _ in 0..20 {
        let request = gateway.get("/a").header("authorization", "alice");
        request.send().await.assert_status(200);
    }
    assert_eq!(decides.last().header("host"), Some(&*place));
    assert_eq!(names.queries(), queries);
}

#[tokio::test]
async fn a_reload_changes_who_decides() {
    let (first, backend) = (doorkeeper().await, Upstream::echo().await);
    let second = Upstream::answering(|_| answer(403, &[], "")).await;
    let gateway = gateway(&first, &backend, "").await;
    let ask = async || {
        gateway
            .get("/a")
            .header("authorization", "alice")
            .send()
            .await
    };
    ask().await.assert_status(200);
    gateway.edit(&first.address.to_string(), &second.address.to_string());
    gateway.signal("HUP");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ask().await.status != 403 {
        assert!(std::time::Instant::now() < deadline);
    }
}
