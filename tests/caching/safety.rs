//! Nobody is given an answer that was made for somebody else, and nobody can put one in another's place.

use bytes::Bytes;
use hyper::{Method, Response};

use crate::support::{Answer, Gateway, Request, Seen, Upstream};

/// What a backend sees of who asks.
fn asker(seen: &Seen) -> String {
    let fields = ["authorization", "x-partner", "cookie", "x-api-key"];
    let shown = fields.map(|name| seen.header(name).unwrap_or("-").to_owned());
    shown.join(" ")
}

/// Keys of the API for two users, in the language of the configuration.
fn keys() -> String {
    let digest = |key: &str| tollgate::auth::hash_key(key).unwrap();
    format!(
        "{{ alice: \"{}\", bob: \"{}\" }}",
        digest("key-alice-0123456789"),
        digest("key-bob-0123456789")
    )
}

/// RFC 9111 §3.5 and beyond: whatever a backend says, and however two users prove who they are, neither
/// sees what was made for the other.
#[tokio::test]
async fn two_users_never_see_each_others_answers() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let upstream = Upstream::answering(|seen| {
        let response = Response::builder().header(
            "cache-control",
            seen.header("x-say").unwrap_or("max-age=60"),
        );
        response.body(Bytes::from(asker(seen))).unwrap()
    })
    .await;
    let gateway = Gateway::start(&format!(
        "auth_providers:
  keys: {{ api_key: {{ keys: {keys}, forward_name: X-Partner }} }}
  hidden: {{ api_key: {{ keys: {keys}, forward_name: X-Partner, hide_credentials: true }} }}
services: {{ a: {{ base_url: \"http://{}\", routes: [
  {{ prefix: /said, cache: {{}} }},
  {{ prefix: /ttl, cache: {{ ttl: 1h }} }},
  {{ prefix: /keys, cache: {{ ttl: 1h }}, auth: keys }},
  {{ prefix: /hidden, cache: {{ ttl: 1h }}, auth: hidden }},
  {{ prefix: /cookies, cache: {{ ttl: 1h, key: {{ cookies: [] }} }} }} ] }} }}",
        upstream.address,
        keys = keys()
    ))
    .await;
    let says = [
        "max-age=60",
        "public, max-age=60",
        "s-maxage=60",
        "max-age=60, stale-while-revalidate=60",
        "max-age=0, stale-while-revalidate=60",
        "must-revalidate, max-age=60",
        "private, max-age=60",
        "no-cache",
    ];
    let mut hits = 0;
    for _ in 0..600 {
        let (user, other) = if random.bool() {
            ("alice", "bob")
        } else {
            ("bob", "alice")
        };
        let route = random
            .choice(["said", "ttl", "keys", "hidden", "cookies"])
            .unwrap();
        let mut request = gateway.get(&format!("/{route}/{}", random.u8(..3)));
        request = request.header("x-say", random.choice(says).unwrap());
        request = match route {
            "keys" | "hidden" => request.header("x-api-key", &format!("key-{user}-0123456789")),
            "cookies" => request.header("cookie", &format!("sid={user}")),
            _ if random.bool() => request.header("cookie", &format!("sid={user}")),
            _ => request.header("authorization", &format!("Bearer {user}")),
        };
        let answer = request.send().await.assert_status(200);
        hits += usize::from(answer.header("age").is_some());
        let text = answer.text();
        assert!(
            !text.contains(other),
            "{user} sees {text} at {route}, seed {seed}"
        );
        if route == "cookies" {
            assert!(!text.contains(user), "{text}");
        }
    }
    assert!(hits > 100, "only {hits} answers were kept ones");
}

#[tokio::test]
async fn what_is_shared_is_told_apart_by_claims_and_by_what_backends_say() {
    let upstream = Upstream::answering(|seen| {
        let mut response = Response::builder().header(
            "cache-control",
            seen.header("x-say").unwrap_or("max-age=60"),
        );
        if seen.target.contains("vary") {
            response = response.header("vary", "X-Partner");
        }
        response.body(Bytes::from(asker(seen))).unwrap()
    })
    .await;
    let gateway = Gateway::start(&format!(
        "auth_providers: {{ keys: {{ api_key: {{ keys: {}, forward_name: X-Partner, hide_credentials: true }} }} }}
services: {{ a: {{ base_url: \"http://{}\", auth: keys, routes: [
  {{ prefix: /all, cache: {{ shared: true }} }},
  {{ prefix: /claim, cache: {{ shared: true, ttl: 1h, key: {{ claims: [sub] }} }} }} ] }} }}",
        keys(),
        upstream.address
    ))
    .await;
    let get = |user: &str, path: &str, say: &str| {
        let request = gateway
            .get(path)
            .header("x-api-key", &format!("key-{user}-0123456789"));
        request.header("x-say", say).send()
    };
    let is_shared = async |path: &str, say: &str| {
        get("alice", path, say).await.assert_status(200);
        get("bob", path, say).await.text().contains("alice")
    };
    assert!(
        !is_shared("/all/1", "max-age=60").await,
        "nothing permits it"
    );
    assert!(is_shared("/all/2", "public, max-age=60").await);
    assert!(!is_shared("/all/vary", "public, max-age=60").await);
    assert!(!is_shared("/claim/1", "public, max-age=60").await);
    // Whoever may not come in gets no kept answer either.
    gateway.get("/all/2").send().await.assert_status(401);
}

/// Shows all that a request can bring in.
fn mirror(seen: &Seen) -> Response<Bytes> {
    let mut fields: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .filter(|field| {
            !field.starts_with("x-request-id") && !field.starts_with("x-request-deadline")
        })
        .collect();
    fields.sort();
    let text = format!(
        "{} {}\n{}\n{}",
        seen.method,
        seen.target,
        fields.join("\n"),
        String::from_utf8_lossy(&seen.body)
    );
    let response = Response::builder().header("cache-control", "max-age=600");
    response.body(Bytes::from(text)).unwrap()
}

/// What a victim gets is what it would get if nobody had asked before.
#[tokio::test]
async fn nobody_puts_an_answer_in_anothers_place() {
    let upstream = Upstream::answering(mirror).await;
    let start = |cache: &'static str| {
        let address = upstream.address;
        async move {
            Gateway::start(&format!(
                "services: {{ a: {{ base_url: \"http://{address}\", host_header: client, routes: [{{ prefix: / }}], cache: {cache} }} }}"
            ))
            .await
        }
    };
    let keeping = start("{ ttl: 1h, key: { query_except: [utm_*], cookies: [lang] } }").await;
    let keeping_nothing = start("off").await;
    let victim =
        |gateway: &Gateway, path: &str| gateway.get(path).header("host", "shop.example").send();
    let attack = |path: &str| keeping.get(path).header("host", "shop.example");
    let mut number = 0;
    let mut check = async |attacks: Vec<Request>, path: &str| {
        for attack in attacks {
            attack.send().await;
        }
        let expected = victim(&keeping_nothing, path).await.assert_status(200);
        let got: Answer = victim(&keeping, path).await.assert_status(200);
        assert!(!got.text().contains("evil"), "{path}: {}", got.text());
        assert_eq!(target(&got.text()), target(&expected.text()));
        number += 1;
    };
    for name in [
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-forwarded-for",
        "x-original-url",
        "x-rewrite-url",
        "x-host",
        "x-forwarded-scheme",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-http-method-override",
    ] {
        let path = format!("/field/{name}");
        check(vec![attack(&path).header(name, "evil")], &path).await;
    }
    check(
        vec![keeping.get("/host").header("host", "evil.example")],
        "/host",
    )
    .await;
    check(
        vec![keeping.get("/host").header("host", "shop.example:8080")],
        "/host",
    )
    .await;
    check(vec![attack("/fat").body("evil")], "/fat").await;
    check(
        vec![
            keeping
                .request(Method::HEAD, "/head")
                .header("host", "shop.example")
                .header("cookie", "evil=1"),
        ],
        "/head",
    )
    .await;
    check(
        vec![attack("/cookie").header("cookie", "sid=evil")],
        "/cookie",
    )
    .await;
    check(vec![attack("/query?utm_x=1;q=evil")], "/query").await;
    check(vec![attack("/query?utm_x=evil&q=1")], "/query?q=1").await;
    check(vec![attack("/query?q=1&q=evil")], "/query?q=1").await;
    check(vec![attack("/query?%71=evil")], "/query?q=1").await;
    check(vec![attack("/path/a%2Fevil")], "/path/a").await;
    check(vec![attack("/path/b%3Fevil")], "/path/b").await;
    check(
        vec![
            attack("/path//c"),
            attack("/path/x/../c"),
            attack("/path/%63?evil"),
        ],
        "/path/c",
    )
    .await;
    check(
        vec![attack("/range").header("range", "bytes=0-3")],
        "/range",
    )
    .await;
    check(
        vec![attack("/condition").header("if-none-match", "\"evil\"")],
        "/condition",
    )
    .await;
    assert_eq!(number, 25);
}

/// The first line: what the backend was asked for.
fn target(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
