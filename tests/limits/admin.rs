//! Rate limits as operators see them, and keys that begin anew, driven from outside.

use crate::support::{Answer, Gateway, Redis, Request, Upstream};
use hyper::Method;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef";

/// A gateway with routes, whose operators have a token.
async fn start(top: &str, routes: &str, upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2 }}\nadmin: {{ listen: $ADMIN, token: \"{TOKEN}\" }}\n{top}\n\
         services: {{ shop: {{ base_url: \"http://{}\", routes: [{routes}] }} }}",
        upstream.address
    ))
    .await
}

async fn limits(gateway: &Gateway, query: &str) -> Value {
    let answer = gateway.admin(&format!("/limits{query}")).await;
    answer.assert_status(200).json()["limits"].clone()
}

async fn key(gateway: &Gateway, query: &str) -> Value {
    let limits = limits(gateway, query).await;
    assert_eq!(limits.as_array().unwrap().len(), 1, "{limits}");
    limits[0]["key"].clone()
}

async fn reset(gateway: &Gateway, query: &str, token: Option<&str>) -> Answer {
    let request = Request::new(gateway.admin, Method::DELETE, &format!("/limits{query}"));
    match token {
        Some(token) => request.header("authorization", &format!("Bearer {token}")),
        None => request,
    }
    .send()
    .await
}

/// What is left and when there is more, as clients are told.
fn told(answer: &Answer) -> (u64, u64) {
    let field = answer.header("ratelimit").unwrap();
    let number = |name: &str| {
        let value = field.split(';').find_map(|part| part.strip_prefix(name));
        value.unwrap().parse().unwrap()
    };
    (number("r="), number("t="))
}

#[tokio::test]
async fn operators_are_told_the_same_numbers_as_clients() {
    let upstream = Upstream::echo().await;
    let gateway = start(
        "",
        "{ path: /a, rate_limit: { limit: 5, window: 1h, algorithm: fixed_window } }, \
         { path: /b, rate_limit: { limit: 100, window: 1h, algorithm: token_bucket, burst: 10, by: [\"header:X-Tenant\", client_ip] } }",
        &upstream,
    )
    .await;
    for _ in 0..2 {
        gateway.get("/a").send().await.assert_status(200);
    }
    let (remaining, reset) = told(&gateway.get("/a").send().await.assert_status(200));
    let report = key(&gateway, "?limit=%2Fa&key=127.0.0.1").await;
    assert_eq!(report["counted"], "exactly");
    assert_eq!(
        (&report["spent"], &report["remaining"]),
        (&json!(3), &json!(remaining))
    );
    let later = reset - report["reset"].as_u64().unwrap();
    assert!(later <= 5, "{report}");
    // Another address has spent nothing, and a key of two parts is no key of this one.
    let other = key(&gateway, "?limit=%2Fa&key=192.0.2.1").await;
    assert_eq!(
        (&other["spent"], &other["remaining"]),
        (&json!(0), &json!(5))
    );
    let wrong = gateway
        .admin("/limits?limit=%2Fa&key=a&key=b")
        .await
        .assert_status(400);
    assert!(
        wrong.text().contains("it takes one `key`: client_ip"),
        "{}",
        wrong.text()
    );
    gateway
        .admin("/limits?limit=other")
        .await
        .assert_status(404);

    let answer = gateway.get("/b").header("x-tenant", "blue").send().await;
    let report = key(&gateway, "?key=blue&key=127.0.0.1").await;
    assert_eq!(report["key"], json!(["blue", "127.0.0.1"]));
    assert_eq!(
        (&report["spent"], &report["remaining"]),
        (&json!(1), &json!(told(&answer).0))
    );

    let all = limits(&gateway, "").await;
    let of = |name: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|it| it["limit"] == name)
            .unwrap()
    };
    assert_eq!(of("/a")["decisions"]["admitted"], 3);
    assert_eq!(
        (&of("/a")["quota"], &of("/a")["window"], &of("/a")["keys"]),
        (&json!(5), &json!("1h"), &json!(1))
    );
    assert_eq!(
        (&of("/b")["algorithm"], &of("/b")["burst"]),
        (&json!("token_bucket"), &json!(10))
    );
    assert_eq!(of("/b")["by"], json!(["header:x-tenant", "client_ip"]));
    assert_eq!(of("/b")["place"], "route /b of shop");
}

#[tokio::test]
async fn a_key_begins_anew_for_whoever_has_the_token() {
    let upstream = Upstream::echo().await;
    let gateway = start(
        "",
        "{ path: /a, rate_limit: { limit: 2, window: 1h } }",
        &upstream,
    )
    .await;
    let spend = async || {
        for status in [200, 200, 429] {
            gateway.get("/a").send().await.assert_status(status);
        }
    };
    spend().await;
    let query = "?limit=%2Fa&key=127.0.0.1";
    reset(&gateway, query, None).await.assert_status(401);
    reset(&gateway, query, Some("guessed"))
        .await
        .assert_status(401);
    reset(&gateway, "?key=127.0.0.1", Some(TOKEN))
        .await
        .assert_status(400);
    gateway.get("/a").send().await.assert_status(429);
    let report = reset(&gateway, query, Some(TOKEN))
        .await
        .assert_status(200)
        .json();
    let report = &report["limits"][0]["key"];
    assert_eq!(
        (&report["is_reset"], &report["remaining"]),
        (&json!(true), &json!(2))
    );
    spend().await;
    let arguments = ["limits", "--limit", "/a", "--key", "127.0.0.1", "--reset"];
    let (code, out, _) = gateway.command(&arguments).await;
    assert_eq!(code, 0);
    assert!(out.contains("reset: 127.0.0.1: 0 spent, 2 left"), "{out}");
    spend().await;
    gateway.admin("/limits").await.assert_status(200);
    let post = Request::new(gateway.admin, Method::POST, "/limits")
        .send()
        .await;
    post.assert_status(405)
        .assert_header("allow", "GET, HEAD, DELETE");
}

/// Refusals are always noted, so that those who press are known at once.
#[tokio::test]
async fn who_presses_is_known_by_name_and_what_is_secret_is_not() {
    let upstream = Upstream::echo().await;
    let gateway = start(
        "",
        "{ path: /a, rate_limit: { limit: 1, window: 1h, by: \"header:X-Tenant\" } }, \
         { path: /b, rate_limit: { limit: 1, window: 1h, by: \"header:X-Api-Key\" } }, \
         { path: /c, rate_limit: { limit: 1, window: 1h, by: [route, client_ip] } }",
        &upstream,
    )
    .await;
    for (path, times) in [("/a", 9), ("/b", 5), ("/c", 3)] {
        for _ in 0..times {
            let request = gateway.get(path).header("x-tenant", "blue");
            request.header("x-api-key", "tell-nobody").send().await;
        }
    }
    let first = async |name: &str| {
        limits(&gateway, &format!("?limit={name}")).await[0]["top_keys"][0].clone()
    };
    let tenant = first("/a").await;
    assert_eq!(
        (&tenant["key"], &tenant["refused"]),
        (&json!(["blue"]), &json!(8))
    );
    assert_eq!(tenant["remaining"], 0);
    let secret = first("/b").await;
    assert!(
        secret["key"][0].as_str().unwrap().starts_with("digest:"),
        "{secret}"
    );
    assert_eq!(first("/c").await["key"], json!(["/c", "127.0.0.1"]));
    let all = gateway.admin("/limits").await.text();
    assert!(!all.contains("tell-nobody"), "{all}");

    gateway.edit("token:", "top_keys: false, token:");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    gateway
        .get("/a")
        .header("x-tenant", "blue")
        .send()
        .await
        .assert_status(429);
    assert_eq!(first("/a").await, Value::Null);
}

/// A limit with few entries in the table, most of them taken by keys that come once.
#[tokio::test]
async fn who_comes_often_is_counted_exactly_among_many_who_come_once() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2, limits: {{ rate_limit_keys: 1024 }} }}\nadmin: {{ listen: $ADMIN }}\n\
         services: {{ shop: {{ base_url: \"http://{}\", routes: [{{ path: /a, rate_limit: {{ limit: 50, window: 1h, by: \"header:X-Tenant\" }} }}] }} }}",
        upstream.address
    ))
    .await;
    let mut client = gateway.connect().await;
    let mut get = async |tenant: &str| {
        let fields = [("x-tenant", tenant)]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        client
            .get_with("/a", &fields.into_iter().collect())
            .await
            .status
    };
    for number in 0..4000 {
        assert_eq!(get(&number.to_string()).await, 200);
    }
    let mut admitted = 0;
    // Of those that come once some stand for 64 others, as long as they are few.
    for _ in 0..500 {
        admitted += u64::from(get("busy").await == 200);
    }
    assert!((40..=50).contains(&admitted), "{admitted}");
    let report = key(&gateway, "?key=busy").await;
    assert_eq!(
        (&report["counted"], &report["remaining"]),
        (&json!("exactly"), &json!(0))
    );
    let all = gateway.admin("/limits").await.json();
    assert!(all["estimated"].as_u64().unwrap() > 1000, "{all}");
    assert_eq!(all["limits"][0]["top_keys"][0]["key"], json!(["busy"]));
}

#[tokio::test]
async fn a_shared_key_is_asked_for_and_reset_at_the_store() {
    let upstream = Upstream::echo().await;
    for mode in ["strict", "fast"] {
        let mut redis = Redis::start().await;
        let store = format!("redis: {{ url: \"redis://{}\" }}", redis.address);
        let route = format!(
            "{{ path: /a, rate_limit: {{ limit: 3, window: 1h, algorithm: fixed_window, store: redis, mode: {mode} }} }}"
        );
        let (one, other) = (
            start(&store, &route, &upstream).await,
            start(&store, &route, &upstream).await,
        );
        let query = "?limit=%2Fa&key=127.0.0.1";
        let mut admitted = 0;
        // With credit a few more may pass, which the store is told a moment later.
        for _ in 0..8 {
            admitted += u64::from(one.get("/a").send().await.status == 200);
        }
        assert!((3..=4).contains(&admitted), "{mode}: {admitted}");
        let report = key(&other, query).await;
        assert_eq!(
            (&report["counted"], &report["remaining"]),
            (&json!("store"), &json!(0))
        );
        let before = redis.command(&["DBSIZE"]).await;
        key(&other, "?limit=%2Fa&key=192.0.2.7").await;
        assert_eq!(redis.command(&["DBSIZE"]).await, before);

        reset(&one, query, Some(TOKEN)).await.assert_status(200);
        assert_eq!(key(&other, query).await["remaining"], 3, "{mode}");
        one.get("/a").send().await.assert_status(200);

        redis.kill();
        let report = key(&one, query).await;
        assert!(report["error"].is_string(), "{mode}: {report}");
        let failed = reset(&one, query, Some(TOKEN))
            .await
            .assert_status(200)
            .json();
        let failed = &failed["limits"][0]["key"];
        assert!(
            failed["is_reset"].is_null() && failed["error"].is_string(),
            "{failed}"
        );
    }
}
