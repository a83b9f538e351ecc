//! Consumers: one name for several credentials, with limits of its own, in the log and the metrics.

use crate::support::{Answer, Gateway, Upstream};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(subject: &str) -> String {
    let claims = json!({"exp": 4_000_000_000_u64, "sub": subject});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// `key-acme` and `key-bolt` are the keys.
async fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
auth_providers:
  main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "{SECRET}" }} }} }}
  keys:
    api_key:
      keys:
        acme-1: "sha256:{}"
        bolt-1: "sha256:{}"
consumers:
  acme:
    credentials: {{ main: [svc-acme, svc-acme-2], keys: acme-1 }}
    groups: [gold, eu]
  bolt:
    credentials: {{ keys: bolt-1 }}
    rate_limit: {{ limit: 2, window: 1h }}
consumer_groups:
  gold: {{ rate_limit: {{ limit: 5, window: 1h }} }}
{more}
services:
  a:
    base_url: http://{}
    auth: {{ any_of: [main, keys] }}
    rate_limit: [{{ limit: 3, window: 1h, by: consumer }}, {{ limit: 100, window: 1h }}]
    routes:
      - /a
      - {{ path: /gold, auth: {{ any_of: [main, keys], require: {{ groups: gold }} }} }}
      - {{ path: /bolt, auth: {{ any_of: [main, keys], require: {{ consumers: [bolt] }} }} }}
      - {{ path: /free, auth: off, rate_limit: off }}
"#,
        digest("key-acme"),
        digest("key-bolt"),
        upstream.address
    ))
    .await
}

fn digest(key: &str) -> String {
    let digest = openssl::sha::sha256(key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn with_key(gateway: &Gateway, path: &str, key: &str) -> Answer {
    gateway.get(path).header("x-api-key", key).send().await
}

async fn with_token(gateway: &Gateway, path: &str, subject: &str) -> Answer {
    let value = format!("Bearer {}", token(subject));
    gateway
        .get(path)
        .header("authorization", &value)
        .send()
        .await
}

#[tokio::test]
async fn one_consumer_has_several_credentials_and_backends_know_its_name() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "").await;
    with_key(&gateway, "/a", "key-acme")
        .await
        .assert_status(200);
    with_token(&gateway, "/a", "svc-acme")
        .await
        .assert_status(200);
    for seen in upstream.seen() {
        assert_eq!(seen.headers("x-consumer"), ["acme"]);
        assert_eq!(seen.headers("x-consumer-groups"), ["gold,eu"]);
    }
    // Known to the provider, but nobody's name.
    with_token(&gateway, "/a", "acme").await.assert_status(200);
    assert_eq!(upstream.last().header("x-consumer"), None);
    let log = gateway.log(3).await;
    let known = log.iter().filter(|line| line["consumer"] == "acme");
    assert_eq!(known.count(), 2);
    assert!(log.iter().any(|line| line.get("consumer").is_none()));
    let metrics = gateway.admin("/metrics").await.text();
    for line in [
        r#"tollgate_consumer_requests_total{consumer="acme",class="2xx"} 2"#,
        r#"tollgate_consumer_requests_total{consumer="bolt",class="2xx"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn nobody_poses_as_a_consumer() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "").await;
    let names = [
        "x-consumer",
        "X-Consumer-Groups",
        "x_consumer",
        "X-CONSUMER_groups",
    ];
    for (path, name) in names
        .into_iter()
        .flat_map(|name| [("/a", name), ("/free", name)])
    {
        let request = gateway.get(path).header("x-api-key", "key-acme");
        request
            .header(name, "mallory")
            .send()
            .await
            .assert_status(200);
        let seen = upstream.last();
        let is_forged = seen.headers.values().any(|value| value == "mallory");
        assert!(!is_forged, "{path} {name}: {:?}", seen.headers);
        let expected = match path {
            "/a" => Some("acme"),
            _ => None,
        };
        assert_eq!(seen.header("x-consumer"), expected);
    }
}

#[tokio::test]
async fn groups_and_names_open_routes() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "").await;
    with_key(&gateway, "/gold", "key-acme")
        .await
        .assert_status(200);
    with_key(&gateway, "/gold", "key-bolt")
        .await
        .assert_status(403);
    with_key(&gateway, "/bolt", "key-bolt")
        .await
        .assert_status(200);
    with_token(&gateway, "/bolt", "svc-acme")
        .await
        .assert_status(403);
    with_token(&gateway, "/gold", "gold")
        .await
        .assert_status(403);
    let log = gateway.log(5).await;
    let is_refused =
        |line: &&serde_json::Value| line["consumer"] == "bolt" && line["status"] == 403;
    assert_eq!(
        log.iter().filter(is_refused).count(),
        1,
        "refused, but known: {log:?}"
    );
}

#[tokio::test]
async fn a_consumers_own_limit_stands_in_for_the_routes() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "").await;
    // Its group's limit, whichever credential it uses.
    for turn in 0..5 {
        let answer = match turn % 2 {
            0 => with_key(&gateway, "/a", "key-acme").await,
            _ => with_token(&gateway, "/a", "svc-acme-2").await,
        };
        let answer = answer.assert_status(200);
        let policies: Vec<_> = answer.headers.get_all("ratelimit-policy").iter().collect();
        assert_eq!(policies, ["\"gold\";q=5;w=3600", "\"a-2\";q=100;w=3600"]);
        let nearest = answer.header("ratelimit").unwrap();
        let expected = format!("\"gold\";r={};", 4 - turn);
        assert!(nearest.starts_with(&expected), "{nearest}");
    }
    let refused = with_token(&gateway, "/a", "svc-acme")
        .await
        .assert_status(429);
    assert!(refused.text().contains("`gold`"), "{refused:?}");
    // Its own.
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(200);
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(200);
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(429);
    // The route's, by what the provider calls it.
    for _ in 0..3 {
        with_token(&gateway, "/a", "carol").await.assert_status(200);
    }
    with_token(&gateway, "/a", "carol").await.assert_status(429);
    with_token(&gateway, "/a", "dave").await.assert_status(200);
}

#[tokio::test]
async fn what_is_spent_stays_spent_over_a_reload_and_names_change_at_once() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "").await;
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(200);
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(200);
    with_token(&gateway, "/a", "svc-acme")
        .await
        .assert_status(200);
    gateway.edit("main: [svc-acme, svc-acme-2]", "main: [svc-acme-2]");
    let (code, said, error) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}{error}");
    with_key(&gateway, "/a", "key-bolt")
        .await
        .assert_status(429);
    // The token is remembered, but not whose it was.
    with_token(&gateway, "/a", "svc-acme")
        .await
        .assert_status(200);
    assert_eq!(upstream.last().header("x-consumer"), None);
}
