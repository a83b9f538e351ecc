//! What the gateway sees to before and behind all services: who may come in from where, whose scripts
//! may call, and what browsers are told to beware of.

use std::time::{Duration, Instant};

use crate::support::{Answer, Database, Gateway, Request, Upstream};
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;
use tempfile::TempDir;

const NETWORKS: [(&str, &str); 3] = [
    ("192.0.2.0/24", "DE"),
    ("198.51.100.0/24", "KP"),
    ("2001:db8::/32", "FR"),
];
const DE: &str = "192.0.2.7";
const KP: &str = "198.51.100.7";
const FR: &str = "2001:db8::7";
const NOWHERE: &str = "203.0.113.7";

/// A gateway that believes this machine, beside a database of countries.
async fn beside_countries(rest: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    write_countries(&folder, &Database::of(&NETWORKS));
    let config = format!(
        "server: {{ listen: $LISTEN, trusted_proxies: [127.0.0.1] }}\nadmin: {{ listen: $ADMIN }}\ngeoip: {{ database: countries.mmdb }}\n{rest}"
    );
    Gateway::start_in(folder, &config, &[]).await
}

/// As tools that update it do: nobody ever sees half a file.
fn write_countries(folder: &TempDir, file: &[u8]) {
    let new = folder.path().join("new.mmdb");
    std::fs::write(&new, file).unwrap();
    std::fs::rename(new, folder.path().join("countries.mmdb")).unwrap();
}

async fn from(gateway: &Gateway, path: &str, client: &str) -> Answer {
    let request = gateway.get(path).header("x-forwarded-for", client);
    request.send().await
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn countries_decide_about_addresses_that_no_network_holds() {
    let gateway = beside_countries(
        r#"
access: { allow_countries: [DE, FR] }
services:
  a:
    routes:
      - { path: /allowed, respond: { body: a } }
      - { path: /denied, respond: { body: a }, access: { deny_countries: [KP] } }
      - { path: /both, respond: { body: a }, access: { allow: [203.0.113.0/24], deny: [192.0.2.7], allow_countries: [DE] } }
      - { path: /open, respond: { body: a }, access: off }
"#,
    )
    .await;
    for (path, expected) in [
        ("/allowed", [200, 403, 200, 403]),
        ("/denied", [200, 403, 200, 200]),
        ("/both", [403, 403, 403, 200]),
        ("/open", [200, 200, 200, 200]),
    ] {
        for (client, status) in [DE, KP, FR, NOWHERE].into_iter().zip(expected) {
            let answer = from(&gateway, path, client).await;
            assert_eq!(answer.status, status, "{path} from {client}");
        }
    }
    for (path, client, reason) in [
        ("/both", DE, "requests from this address are not admitted"),
        (
            "/allowed",
            KP,
            "requests from this country are not admitted",
        ),
        (
            "/allowed",
            NOWHERE,
            "requests from this address are not admitted, since its country is not known",
        ),
    ] {
        let refused = from(&gateway, path, client).await.assert_status(403).json();
        assert_eq!(refused["detail"], reason);
        assert_eq!(refused["type"], "urn:tollgate:problem:access-denied");
    }
    let log = gateway.log(19).await;
    let line = log.iter().find(|line| line["status"] == 403).unwrap();
    assert_eq!(line["flags"], json!(["access_denied"]));
}

#[tokio::test]
async fn a_new_database_is_read_without_being_told_and_a_damaged_one_changes_nothing() {
    let gateway = beside_countries(
        "services: { a: { access: { deny_countries: [KP] }, routes: [{ path: /a, respond: { body: a } }] } }",
    )
    .await;
    let status = async |client| from(&gateway, "/a", client).await.status.as_u16();
    assert_eq!((status(DE).await, status(KP).await), (200, 403));
    let swapped = [("198.51.100.0/24", "DE"), ("192.0.2.0/24", "KP")];
    write_countries(&gateway.directory, &Database::of(&swapped));
    until(async || status(DE).await == 403).await;
    assert_eq!(status(KP).await, 200);
    assert_eq!(gateway.status().await["last_reload"]["by"], "file_change");

    let mut damaged = Database::of(&NETWORKS);
    damaged.truncate(damaged.len() / 2);
    write_countries(&gateway.directory, &damaged);
    until(async || gateway.status().await["last_reload"]["outcome"] == "refused").await;
    let status_page = gateway.status().await;
    let message = &status_page["last_reload"]["findings"][0]["message"];
    let expected = "`countries.mmdb` is no database of countries: ";
    assert!(message.as_str().unwrap().starts_with(expected), "{message}");
    assert_eq!((status(DE).await, status(KP).await), (403, 200));

    write_countries(&gateway.directory, &Database::of(&NETWORKS));
    until(async || status(KP).await == 403).await;
}

const SHOP: &str = "https://eu.shop.example.com";
const EVIL: &str = "https://evilshop.example.com";

/// The question of a browser whether a script of this origin may `PUT`.
fn preflight(gateway: &Gateway, path: &str, origin: &str) -> Request {
    gateway
        .request(Method::OPTIONS, path)
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "authorization")
}

#[tokio::test]
async fn a_preflight_is_answered_whoever_asks_and_refusals_can_be_read() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "0123456789abcdef0123456789abcdef" }} }} }} }}
cors: {{ origins: ["https://*.shop.example.com"], methods: [GET, PUT], headers: [Authorization], credentials: true }}
services:
  a:
    base_url: http://{}
    auth: main
    routes:
      - /a
      - {{ path: /scoped, auth: {{ provider: main, require: {{ scope: admin }} }} }}
      - {{ path: /elsewhere, access: {{ deny: [127.0.0.1] }} }}
      - {{ path: /spent, rate_limit: {{ limit: 1, window: 1h, by: everyone }} }}
"#,
        upstream.address
    ))
    .await;
    for credential in [None, Some("Bearer nonsense"), Some("Basic bWU6bWU=")] {
        let ask = |origin| {
            let request = preflight(&gateway, "/a", origin);
            match credential {
                Some(credential) => request.header("authorization", credential),
                None => request,
            }
        };
        ask(SHOP)
            .send()
            .await
            .assert_status(204)
            .assert_header("access-control-allow-origin", SHOP)
            .assert_header("access-control-allow-credentials", "true")
            .assert_header("access-control-allow-methods", "GET, PUT")
            .assert_header(
                "vary",
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            );
        ask(EVIL)
            .send()
            .await
            .assert_status(204)
            .assert_no_header("access-control-allow-origin")
            .assert_no_header("access-control-allow-methods");
    }
    assert_eq!(upstream.seen().len(), 0);

    let token = crate::support::run(&["token", "-c", "gateway.yaml"], gateway.directory.path());
    let token = format!("Bearer {}", String::from_utf8(token.stdout).unwrap().trim());
    let call = |path, origin| {
        let request = gateway.get(path).header("origin", origin);
        request.header("authorization", &token).send()
    };
    call("/spent", SHOP).await.assert_status(200);
    let unauthorized = gateway.get("/a").header("origin", SHOP).send().await;
    for (answer, status) in [
        (call("/a", SHOP).await, 200),
        (unauthorized, 401),
        (call("/scoped", SHOP).await, 403),
        (call("/elsewhere", SHOP).await, 403),
        (call("/spent", SHOP).await, 429),
    ] {
        answer
            .assert_status(status)
            .assert_header("access-control-allow-origin", SHOP)
            .assert_header("access-control-allow-credentials", "true")
            .assert_header("vary", "Origin");
    }
    call("/spent", EVIL)
        .await
        .assert_status(429)
        .assert_no_header("access-control-allow-origin")
        .assert_header("vary", "Origin");
    // Which of the two is the real one?
    let twice = gateway.get("/a").header("origin", SHOP);
    twice
        .header("origin", "https://other.shop.example.com")
        .send()
        .await
        .assert_no_header("access-control-allow-origin");
}

#[tokio::test]
async fn a_private_network_is_opened_to_allowed_origins_only() {
    let gateway = Gateway::start(
        r#"
cors: { origins: ["https://*.shop.example.com"] }
services:
  a:
    routes:
      - { path: /closed, respond: { body: a } }
      - { path: /open, respond: { body: a }, cors: { origins: ["https://*.shop.example.com"], private_network: true } }
"#,
    )
    .await;
    let ask = |path, origin| {
        let request = preflight(&gateway, path, origin);
        let request = request.header("access-control-request-private-network", "true");
        request.send()
    };
    let allowed = "access-control-allow-private-network";
    ask("/open", SHOP)
        .await
        .assert_status(204)
        .assert_header(allowed, "true");
    ask("/open", EVIL)
        .await
        .assert_status(204)
        .assert_no_header(allowed);
    ask("/closed", SHOP)
        .await
        .assert_status(204)
        .assert_header("access-control-allow-origin", SHOP)
        .assert_no_header(allowed);
}

/// A backend that sets some of its headers itself, as an application does that knows better.
async fn careful_backend() -> Upstream {
    Upstream::answering(|seen| {
        let response = Response::builder()
            .header("server", "apache/2.2.3")
            .header("x-powered-by", "php/5.3");
        let response = match seen.target.as_str() {
            "/own" => response
                .header("content-security-policy", "default-src 'self'")
                .header("x-content-type-options", "sniff"),
            "/frames" => response.header("x-frame-options", "SAMEORIGIN"),
            _ => response,
        };
        response.body(Bytes::from_static(b"hello")).unwrap()
    })
    .await
}

#[tokio::test]
async fn every_answer_tells_browsers_what_to_beware_of() {
    let upstream = careful_backend().await;
    let gateway = Gateway::start(&format!(
        r#"
security_headers: api
services:
  a:
    base_url: http://{}
    routes:
      - /plain
      - /own
      - /frames
      - {{ path: /page, security_headers: web }}
      - {{ path: /off, security_headers: off }}
      - {{ path: /denied, access: {{ deny: [127.0.0.1] }} }}
      - {{ path: /ping, respond: {{ body: pong }} }}
"#,
        upstream.address
    ))
    .await;
    let answer = async |path: &str| gateway.get(path).send().await;
    for (path, status) in [
        ("/plain", 200),
        ("/ping", 200),
        ("/denied", 403),
        ("/nowhere", 404),
        ("/%00", 400),
    ] {
        answer(path)
            .await
            .assert_status(status)
            .assert_header(
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'",
            )
            .assert_header("x-content-type-options", "nosniff")
            .assert_header("x-frame-options", "DENY")
            .assert_header("referrer-policy", "no-referrer")
            .assert_no_header("strict-transport-security")
            .assert_no_header("x-powered-by")
            .assert_no_header("server");
    }
    answer("/own")
        .await
        .assert_header("content-security-policy", "default-src 'self'")
        .assert_header("x-content-type-options", "nosniff")
        .assert_header("x-frame-options", "DENY");
    answer("/frames")
        .await
        .assert_header("x-frame-options", "SAMEORIGIN")
        .assert_header("content-security-policy", "default-src 'none'");
    answer("/page")
        .await
        .assert_header("cross-origin-opener-policy", "same-origin")
        .assert_header(
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        );
    answer("/off")
        .await
        .assert_header("server", "apache/2.2.3")
        .assert_no_header("x-frame-options");
}

#[tokio::test]
async fn browsers_are_bound_to_tls_only_where_a_trusted_proxy_speaks_it() {
    let config = |trusted: &str| {
        format!(
            "server: {{ listen: $LISTEN, trusted_proxies: [{trusted}] }}\nadmin: off\nsecurity_headers: {{ preset: web, hsts: {{ max_age: 730d, preload: true }} }}\nservices: {{ a: {{ routes: [{{ path: /a, respond: {{ body: a }} }}] }} }}\n"
        )
    };
    let name = "strict-transport-security";
    let over = |gateway: &Gateway, proto| {
        let request = gateway.get("/a").header("x-forwarded-proto", proto);
        request.send()
    };
    let believed = Gateway::start(&config("127.0.0.1")).await;
    over(&believed, "https")
        .await
        .assert_header(name, "max-age=63072000; includeSubDomains; preload");
    over(&believed, "http").await.assert_no_header(name);
    believed.get("/a").send().await.assert_no_header(name);
    let alone = Gateway::start(&config("")).await;
    over(&alone, "https").await.assert_no_header(name);
}

#[tokio::test]
async fn explain_shows_which_policies_of_the_edge_are_in_force() {
    let gateway = beside_countries(
        r#"
security_headers: api
services:
  a:
    access: { deny_countries: [KP] }
    cors: { origins: "https://*.example.com" }
    routes: [{ path: /a, respond: { body: a } }, { path: /b, respond: { body: b }, security_headers: off }]
"#,
    )
    .await;
    let (_, printed, said) = gateway.command(&["explain", "/a"]).await;
    for line in [
        "access           { deny_countries: [KP] }",
        "security_headers api",
    ] {
        assert!(printed.contains(line), "{line}: {printed}{said}");
    }
    let (_, printed, _) = gateway.command(&["explain", "/b"]).await;
    assert!(printed.contains("security_headers off"), "{printed}");
    gateway.edit("security_headers: api", "security_headers: web");
    gateway.edit("countries.mmdb", "./countries.mmdb");
    let (_, printed, _) = gateway.command(&["diff"]).await;
    for line in [
        "~ /a of a\n    security_headers: api → web\n",
        "geoip.database: countries.mmdb → ./countries.mmdb",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}
