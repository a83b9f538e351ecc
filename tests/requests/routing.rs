//! Which route takes a request and what becomes of it: the small policies of the language.

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use hyper::{Method, Response};

#[tokio::test]
async fn the_most_specific_route_wins_whatever_its_place_in_the_file() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
services:
  a:
    base_url: http://{}
    routes:
      - {{ prefix: /, rewrite: /any }}
      - {{ prefix: /o, rewrite: /short }}
      - {{ prefix: /o/x, rewrite: /long }}
      - {{ path: "/o/{{*rest}}", rewrite: "/rest/{{rest}}" }}
      - {{ path: "/o/{{id}}", rewrite: "/id/{{id}}" }}
      - {{ path: /o/mine, rewrite: /exact }}
      - {{ path: /o/mine, methods: [PUT], rewrite: /put }}
      - {{ path: /o/mine, headers_match: {{ X-Canary: "true" }}, rewrite: /canary }}
      - {{ path: /o/mine, query_match: {{ v: "2" }}, rewrite: /v2 }}
      - {{ path: /o/mine, hosts: ["*.example.com"], rewrite: /wild }}
      - {{ path: /o/mine, hosts: [shop.example.com], rewrite: /shop }}
"#,
        upstream.address
    ))
    .await;
    for (method, path, headers, expected) in [
        (Method::GET, "/zzz", vec![], "/any/zzz"),
        (Method::GET, "/o", vec![], "/short"),
        (Method::GET, "/o/7", vec![], "/id/7"),
        (Method::GET, "/o/7/8", vec![], "/rest/7/8"),
        (Method::GET, "/o/mine", vec![], "/exact"),
        (Method::PUT, "/o/mine", vec![], "/put"),
        (
            Method::GET,
            "/o/mine",
            vec![("x-canary", "true")],
            "/canary",
        ),
        (
            Method::GET,
            "/o/mine",
            vec![("x-canary", "false")],
            "/exact",
        ),
        (Method::GET, "/o/mine?v=2", vec![], "/v2?v=2"),
        (
            Method::GET,
            "/o/mine",
            vec![("host", "a.b.example.com")],
            "/wild",
        ),
        (
            Method::GET,
            "/o/mine",
            vec![("host", "SHOP.example.com:8080")],
            "/shop",
        ),
        (
            Method::GET,
            "/o/mine",
            vec![("host", "example.com")],
            "/exact",
        ),
    ] {
        let request = headers
            .iter()
            .fold(gateway.request(method, path), |request, (name, value)| {
                request.header(name, value)
            });
        request.send().await.assert_status(200);
        assert_eq!(upstream.last().target, expected, "{path} {headers:?}");
    }
}

#[tokio::test]
async fn wrong_methods_are_405_and_unknown_paths_404() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ path: /a, methods: [GET, PUT] }}] }} }}",
        upstream.address
    ))
    .await;
    let answer = gateway.post("/a").send().await.assert_status(405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
    gateway
        .request(Method::HEAD, "/a")
        .send()
        .await
        .assert_status(200);
    let missing = gateway.get("/b").send().await.assert_status(404);
    assert_eq!(missing.json()["title"], "Not found");
    let text = gateway
        .get("/b")
        .header("accept", "text/plain")
        .send()
        .await;
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(text.text().starts_with("404 Not found"), "{}", text.text());
}

#[tokio::test]
async fn paths_are_stripped_rewritten_and_redirected() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
services:
  a:
    base_url: http://{}/base
    routes:
      - {{ prefix: /strip/me, strip_prefix: /strip }}
      - {{ prefix: /swap, rewrite: /new }}
      - {{ path: "/user/{{id}}/pet/{{pet}}", rewrite: "/p/{{pet}}/of/{{id}}" }}
      - {{ prefix: /old, redirect: {{ to: /new }} }}
      - {{ path: "/gone/{{id}}", redirect: {{ to: "https://other.example/{{id}}", status: 302 }} }}
      - {{ path: /teapot, respond: {{ status: 418, headers: {{ X-Kind: pot }}, body: short and stout }} }}
"#,
        upstream.address
    ))
    .await;
    for (path, expected) in [
        ("/strip/me/x?y=1", "/base/me/x?y=1"),
        ("/swap/a/b", "/base/new/a/b"),
        ("/swap", "/base/new"),
        ("/user/7/pet/a%20b", "/base/p/a%20b/of/7"),
    ] {
        gateway.get(path).send().await.assert_status(200);
        assert_eq!(upstream.last().target, expected);
    }
    gateway
        .get("/old/x/y?q=1")
        .send()
        .await
        .assert_status(308)
        .assert_header("location", "/new/x/y?q=1");
    gateway
        .get("/gone/7")
        .send()
        .await
        .assert_status(302)
        .assert_header("location", "https://other.example/7");
    let pot = gateway
        .get("/teapot")
        .send()
        .await
        .assert_status(418)
        .assert_header("x-kind", "pot");
    assert_eq!(pot.text(), "short and stout");
}

#[tokio::test]
async fn headers_are_edited_on_the_way_there_and_back() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .header("server", "secret/1.0")
            .header("x-kept", "1")
            .body(Bytes::new())
            .unwrap()
    })
    .await;
    let gateway = Gateway::start(&format!(
        r#"
headers: {{ response: {{ remove: [Server] }} }}
services:
  a:
    base_url: http://{}
    routes:
      - path: "/x/{{id}}"
        headers:
          request: {{ set: {{ X-From: gateway, X-Id: "{{id}}" }}, add: {{ X-More: b }}, remove: [X-Debug] }}
          response: {{ set: {{ X-Served-By: tollgate }}, remove: [Server] }}
      - /plain
      - {{ path: /off, headers: off }}
"#,
        upstream.address
    ))
    .await;
    gateway
        .get("/x/7")
        .header("x-from", "client")
        .header("x-more", "a")
        .header("x-debug", "1")
        .send()
        .await
        .assert_header("x-served-by", "tollgate")
        .assert_header("x-kept", "1")
        .assert_no_header("server");
    let seen = upstream.last();
    assert_eq!(seen.headers("x-from"), ["gateway"]);
    assert_eq!(seen.headers("x-id"), ["7"]);
    assert_eq!(seen.headers("x-more"), ["a", "b"]);
    assert_eq!(seen.header("x-debug"), None);
    gateway
        .get("/plain")
        .send()
        .await
        .assert_no_header("server");
    gateway
        .get("/off")
        .send()
        .await
        .assert_header("server", "secret/1.0");
}

#[tokio::test]
async fn cross_origin_rules_hold_for_every_answer() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "0123456789abcdef0123456789abcdef" }} }} }} }}
services:
  a:
    base_url: http://{}
    cors: {{ origins: ["https://shop.example"], methods: [GET, PUT], headers: [Authorization], credentials: true, max_age: 1h }}
    auth: main
    routes: [{{ path: /a, methods: [GET, PUT] }}]
"#,
        upstream.address
    ))
    .await;
    let preflight = |origin: &str| {
        gateway
            .request(Method::OPTIONS, "/a")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .send()
    };
    // Answered before a token is asked for.
    preflight("https://shop.example")
        .await
        .assert_status(204)
        .assert_header("access-control-allow-origin", "https://shop.example")
        .assert_header("access-control-allow-methods", "GET, PUT")
        .assert_header("access-control-allow-headers", "Authorization")
        .assert_header("access-control-allow-credentials", "true")
        .assert_header("access-control-max-age", "3600");
    preflight("https://evil.example")
        .await
        .assert_status(204)
        .assert_no_header("access-control-allow-origin");
    // The 401 can be read by the script that caused it.
    gateway
        .get("/a")
        .header("origin", "https://shop.example")
        .send()
        .await
        .assert_status(401)
        .assert_header("access-control-allow-origin", "https://shop.example")
        .assert_header("vary", "Origin");
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn addresses_are_admitted_by_the_longest_network() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
access: {{ allow: [127.0.0.0/8], deny: [127.0.0.2] }}
services:
  a:
    base_url: http://{}
    routes:
      - /a
      - {{ path: /open, access: off }}
      - {{ path: /other, access: {{ allow: [127.0.0.2] }} }}
"#,
        upstream.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    gateway
        .get("/a")
        .from("127.0.0.2")
        .send()
        .await
        .assert_status(403);
    gateway
        .get("/open")
        .from("127.0.0.2")
        .send()
        .await
        .assert_status(200);
    gateway
        .get("/other")
        .from("127.0.0.2")
        .send()
        .await
        .assert_status(200);
    gateway.get("/other").send().await.assert_status(403);
}

#[tokio::test]
async fn health_is_told_apart_from_readiness() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}",
        upstream.address
    ))
    .await;
    assert_eq!(
        gateway.admin("/healthz").await.assert_status(200).text(),
        "ok\n"
    );
    assert_eq!(
        gateway.admin("/readyz").await.assert_status(200).text(),
        "ready\n"
    );
    gateway.admin("/a").await.assert_status(404);
}
