//! What clients and operators are told by rate limits, driven from outside.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::json;
use support::{Gateway, Upstream};

/// The value of a sample of `/metrics`; 0 if it is not there.
async fn decisions(gateway: &Gateway, limit: &str, decision: &str) -> u64 {
    let text = gateway.admin("/metrics").await.assert_status(200).text();
    let sample =
        format!(r#"tollgate_rate_limit_decisions_total{{decision="{decision}",limit="{limit}"}} "#);
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_limit_that_is_tried_out_is_seen_by_operators_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ path: /a, rate_limit: {{ limit: 2, window: 1h, enforce: false }} }}] }} }}",
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
