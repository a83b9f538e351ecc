//! What clients and operators are told by rate limits, driven from outside.

use crate::support::{Gateway, Upstream};
use serde_json::json;

/// The value of a sample of `/metrics`; 0 if it is not there.
async fn decisions(gateway: &Gateway, limit: &str, decision: &str) -> u64 {
    let text = gateway.admin("/metrics").await.assert_status(200).text();
    let sample =
        format!(r#"tollgate_rate_limit_decisions_total{{limit="{limit}",decision="{decision}"}} "#);
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_limit_that_is_tried_out_is_seen_by_operators_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ path: /a, rate_limit: {{ limit: 2, window: 1h, enforce: false, legacy_headers: true }} }}] }} }}",
        upstream.address
    ))
    .await;
    for _ in 0..5 {
        gateway
            .get("/a")
            .send()
            .await
            .assert_status(200)
            .assert_no_header("ratelimit")
            .assert_no_header("ratelimit-policy")
            .assert_no_header("x-ratelimit-limit")
            .assert_no_header("retry-after");
    }
    assert_eq!(decisions(&gateway, "/a", "admitted").await, 2);
    assert_eq!(decisions(&gateway, "/a", "would_refuse").await, 3);
    assert_eq!(decisions(&gateway, "/a", "refused").await, 0);
    let log = gateway.log(5).await;
    let flags = |flags| log.iter().filter(|line| line["flags"] == flags).count();
    assert_eq!(flags(json!([])), 2);
    assert_eq!(flags(json!(["rate_limit_would_refuse"])), 3);
    let named = log.iter().filter(|line| line["limit"] == "/a").count();
    assert_eq!(named, 3);
    // Enforced, it goes on from where it is.
    gateway.edit("enforce: false", "enforce: true");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    gateway.get("/a").send().await.assert_status(429);
    assert_eq!(decisions(&gateway, "/a", "refused").await, 1);
    assert_eq!(decisions(&gateway, "/a", "would_refuse").await, 3);
}

/// Beside a limit that is enforced, the other one is not told of.
#[tokio::test]
async fn only_what_is_enforced_refuses_and_is_told() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "rate_limit: [{{ limit: 1, window: 1h, enforce: false }}, {{ limit: 3, window: 1h }}]\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}",
        upstream.address
    ))
    .await;
    for left in (0..3).rev() {
        let answer = gateway.get("/a").send().await.assert_status(200);
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"global-2\";r={left};t=")),
            "{state}"
        );
        answer.assert_header("ratelimit-policy", "\"global-2\";q=3;w=3600");
    }
    gateway.get("/a").send().await.assert_status(429);
    let log = gateway.log(4).await;
    let refused = log.iter().find(|line| line["status"] == 429).unwrap();
    assert_eq!(refused["flags"], json!(["rate_limited"]));
    assert_eq!(refused["limit"], "global-2");
    assert_eq!(decisions(&gateway, "global", "would_refuse").await, 2);
}

#[tokio::test]
async fn a_refusal_names_the_limit_that_is_spent() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ path: /a, rate_limit: [{{ limit: 9, window: 1m }}, {{ limit: 1, window: 1h }}] }}] }} }}",
        upstream.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    let refused = gateway.get("/a").send().await.assert_status(429).json();
    assert_eq!(
        refused["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(refused["violated-policies"], json!(["/a-2"]));
    let missing = gateway.get("/nowhere").send().await.json();
    assert_eq!(missing.get("violated-policies"), None);
}

#[tokio::test]
async fn a_refusal_may_be_written_and_still_says_when_to_come_back() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
services:
  a:
    base_url: http://{}
    routes:
      - path: /a
        rate_limit:
          limit: 1
          window: 1h
          algorithm: fixed_window
          retry_jitter: 1h
          refusal:
            status: 503
            headers: {{ Content-Type: application/json, X-Why: quota }}
            body: '{{"error":"slow down"}}'
      - path: /plain
        rate_limit: {{ limit: 1, window: 1h, refusal: {{ body: later }} }}
"#,
        upstream.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    for _ in 0..5 {
        let refused = gateway.get("/a").send().await.assert_status(503);
        assert_eq!(refused.text(), r#"{"error":"slow down"}"#);
        let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((3000..=7200).contains(&retry), "{retry}");
        let state = refused.header("ratelimit").unwrap();
        let reset = state.strip_prefix("\"/a\";r=0;t=").unwrap();
        assert!(reset.parse::<u64>().unwrap() <= 3600, "{state}");
        refused
            .assert_header("content-type", "application/json")
            .assert_header("x-why", "quota")
            .assert_header("proxy-status", "tollgate; error=http_request_denied")
            .assert_header("ratelimit-policy", "\"/a\";q=1;w=3600");
    }
    gateway.get("/plain").send().await.assert_status(200);
    let plain = gateway.get("/plain").send().await.assert_status(429);
    assert_eq!(plain.text(), "later");
    plain.assert_header("content-type", "text/plain; charset=utf-8");
    let log = gateway.log(8).await;
    let refused = log.iter().filter(|line| line["status"] != 200);
    for line in refused {
        assert_eq!(line["flags"], json!(["rate_limited"]));
    }
}

#[tokio::test]
async fn a_consumers_limit_refuses_in_its_own_words() {
    let upstream = Upstream::echo().await;
    let config = format!(
        r#"
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme: "$HASH" }} }} }} }}
consumers:
  acme:
    credentials: {{ keys: acme }}
    rate_limit: {{ limit: 1, window: 1h, refusal: {{ status: 402, body: "buy more" }} }}
services: {{ a: {{ base_url: "http://{}", auth: keys, routes: [/a] }} }}
"#,
        upstream.address
    );
    let hash = tollgate::auth::hash_key("secret-of-acme").unwrap();
    let gateway = Gateway::start(&config.replace("$HASH", &hash.to_string())).await;
    let ask = || {
        gateway
            .get("/a")
            .header("x-api-key", "secret-of-acme")
            .send()
    };
    ask().await.assert_status(200);
    let refused = ask().await.assert_status(402);
    assert_eq!(refused.text(), "buy more");
    let log = gateway.log(2).await;
    let line = log.iter().find(|line| line["status"] == 402).unwrap();
    assert_eq!(line["limit"], "acme");
}

/// A client would wait before it follows.
#[tokio::test]
async fn a_redirect_does_not_say_that_nothing_is_left() {
    let gateway = Gateway::start(
        "services: { a: { rate_limit: { limit: 2, window: 1h, legacy_headers: true }, routes: [{ path: /old, redirect: { to: /new } }] } }",
    )
    .await;
    let old = || gateway.get("/old").send();
    let first = old().await.assert_status(308);
    assert!(
        first
            .header("ratelimit")
            .unwrap()
            .starts_with("\"a\";r=1;t=")
    );
    old()
        .await
        .assert_status(308)
        .assert_no_header("ratelimit")
        .assert_no_header("x-ratelimit-remaining")
        .assert_header("ratelimit-policy", "\"a\";q=2;w=3600");
    let refused = old().await.assert_status(429);
    assert!(
        refused
            .header("ratelimit")
            .unwrap()
            .starts_with("\"a\";r=0;t=")
    );
}

#[tokio::test]
async fn legacy_headers_say_the_same_where_they_are_asked_for() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", rate_limit: {{ limit: 3, window: 1h, algorithm: fixed_window, legacy_headers: true }}, routes: [/a, {{ path: /new, rate_limit: {{ limit: 3, window: 1h }} }}] }} }}",
        upstream.address
    ))
    .await;
    for (status, left) in [(200, "2"), (200, "1"), (200, "0"), (429, "0")] {
        let answer = gateway.get("/a").send().await.assert_status(status);
        let reset: u64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((3000..=3600).contains(&reset), "{reset}");
        answer
            .assert_header("x-ratelimit-limit", "3")
            .assert_header("x-ratelimit-remaining", left);
    }
    gateway
        .get("/new")
        .send()
        .await
        .assert_status(200)
        .assert_no_header("x-ratelimit-limit");
}
