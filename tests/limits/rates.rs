//! Rate limits, driven from outside.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream};

/// The configuration that the project began with, as it stands in the article.
#[tokio::test]
async fn ten_requests_of_an_address_pass_and_the_eleventh_does_not() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "rateLimitWindow: 5m\nrateLimitCount: 10\nservices:\n  service1:\n    base_url: http://{}\n    routes:\n      - path: /api/v1/data\n",
        upstream.address
    ))
    .await;
    for left in (0..10).rev() {
        let answer = gateway.get("/api/v1/data").send().await.assert_status(200);
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"global\";r={left};t=")),
            "{state}"
        );
        answer.assert_header("ratelimit-policy", "\"global\";q=10;w=300");
    }
    let refused = gateway.get("/api/v1/data").send().await.assert_status(429);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.json()["status"], 429);
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((200..=300).contains(&retry), "{retry}");
    gateway
        .get("/api/v1/data")
        .from("127.0.0.2")
        .send()
        .await
        .assert_status(200);
    assert_eq!(upstream.seen().len(), 11);
    let log = gateway.log(12).await;
    let line = log.iter().find(|line| line["status"] == 429).unwrap();
    assert_eq!(line["flags"], serde_json::json!(["rate_limited"]));
}

#[tokio::test]
async fn after_the_window_requests_pass_again() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        "rateLimitWindow: 1s\nrateLimitCount: 2\nservices: {{a: {{base_url: \"http://{}\", routes: [/a]}}}}",
        upstream.address
    ))
    .await;
    let deadline = Instant::now() + Duration::from_secs(30);
    for expected in [429, 200, 429, 200] {
        while gateway.get("/a").send().await.status != expected {
            assert!(Instant::now() < deadline, "no {expected}");
        }
    }
}

#[tokio::test]
async fn a_route_cant_spend_anothers_budget() {
    let upstream = Upstream::echo().await;
    let limit = "rate_limit: {limit: 2, window: 1h, by: everyone}";
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{0}\n    routes:\n      - {{path: /one, {limit}}}\n      - {{path: /two, {limit}}}\n      - {{path: /free, rate_limit: off}}\n  b:\n    base_url: http://{0}\n    {limit}\n    routes: [/three, /four]\n",
        upstream.address
    ))
    .await;
    let statuses = |path: &'static str| {
        let gateway = &gateway;
        async move {
            let mut statuses = Vec::new();
            for _ in 0..3 {
                statuses.push(gateway.get(path).send().await.status.as_u16());
            }
            statuses
        }
    };
    assert_eq!(statuses("/one").await, [200, 200, 429]);
    assert_eq!(statuses("/two").await, [200, 200, 429]);
    assert_eq!(statuses("/free").await, [200, 200, 200]);
    // Above two routes, one budget is shared by both.
    gateway.get("/three").send().await.assert_status(200);
    assert_eq!(statuses("/four").await, [200, 429, 429]);
}

#[tokio::test]
async fn limits_count_by_header_and_by_claim() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "0123456789abcdef0123456789abcdef" }} }} }} }}
services:
  a:
    base_url: http://{}
    routes:
      - path: /tenant
        rate_limit: {{ limit: 1, window: 1h, by: "header:X-Tenant" }}
      - path: /user
        auth: main
        rate_limit: [ {{ limit: 1, window: 1h, by: "claim:sub" }}, {{ limit: 100, window: 1h }} ]
"#,
        upstream.address
    ))
    .await;
    let tenant = |name: &str| gateway.get("/tenant").header("x-tenant", name).send();
    tenant("a").await.assert_status(200);
    tenant("a").await.assert_status(429);
    tenant("b").await.assert_status(200);

    let token = |user: &str| {
        let claim = format!("sub={user}");
        let output = crate::support::run(
            &["token", "-c", "gateway.yaml", "--claim", &claim],
            gateway.directory.path(),
        );
        format!(
            "Bearer {}",
            String::from_utf8(output.stdout).unwrap().trim()
        )
    };
    let user = |token: &str| gateway.get("/user").header("authorization", token).send();
    let (alice, bob) = (token("alice"), token("bob"));
    user(&alice).await.assert_status(200);
    user(&alice).await.assert_status(429);
    user(&bob).await.assert_status(200);
    // Who has no token spends nobody's budget.
    gateway.get("/user").send().await.assert_status(401);
}

/// Each algorithm admits exactly its limit at once.
#[tokio::test]
async fn every_algorithm_admits_its_burst() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
services:
  a:
    base_url: http://{}
    routes:
      - {{ path: /fixed, rate_limit: {{ limit: 3, window: 1h, algorithm: fixed_window }} }}
      - {{ path: /sliding, rate_limit: {{ limit: 3, window: 1h, algorithm: sliding_window }} }}
      - {{ path: /bucket, rate_limit: {{ limit: 3, window: 1h, algorithm: token_bucket, burst: 5 }} }}
"#,
        upstream.address
    ))
    .await;
    for (path, burst) in [("/fixed", 3), ("/sliding", 3), ("/bucket", 5)] {
        let mut admitted = 0;
        for _ in 0..8 {
            admitted += u32::from(gateway.get(path).send().await.status == 200);
        }
        assert_eq!(admitted, burst, "{path}");
    }
}

/// A client whose requests a trusted proxy forwards is told apart; others can't choose an address.
#[tokio::test]
async fn forwarded_addresses_count_only_from_trusted_proxies() {
    let upstream = Upstream::echo().await;
    let config = |trusted: &str| {
        format!(
            "server: {{ listen: $LISTEN, trusted_proxies: [{trusted}] }}\nadmin: off\nrate_limit: {{ limit: 1, window: 1h }}\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
            upstream.address
        )
    };
    for (trusted, second) in [("127.0.0.1", 200), ("", 429)] {
        let gateway = Gateway::start(&config(trusted)).await;
        let from = |client: &str| gateway.get("/a").header("x-forwarded-for", client).send();
        from("192.0.2.1").await.assert_status(200);
        from("192.0.2.2").await.assert_status(second);
        from("192.0.2.1").await.assert_status(429);
    }
}
