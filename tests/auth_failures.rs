//! Floods of bad credentials: what is costly to verify is not verified for ever for who sends nonsense.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;
use support::{Answer, Gateway, Upstream};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Stage {
    gateway: Gateway,
    upstream: Upstream,
    key: EncodingKey,
    wrong: EncodingKey,
}

fn private(key: &KeyPair) -> EncodingKey {
    EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap()
}

async fn stage(auth_failures: &str) -> Stage {
    let upstream = Upstream::echo().await;
    let generate = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (key, wrong) = (generate(), generate());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("public.pem"), key.public_key_pem()).unwrap();
    let config = format!(
        r#"
server: {{ listen: $LISTEN, threads: 2, trusted_proxies: [127.0.0.1/32] }}
admin: {{ listen: $ADMIN }}
auth_failures: {auth_failures}
auth_providers:
  main: {{ jwt: {{ issuer: main, algorithms: [ES256], keys: {{ public_key: {{ file: public.pem }} }} }} }}
  partners: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: {SECRET} }} }} }}
services:
  a:
    base_url: http://{}
    auth: main
    routes: [/a, {{ path: /both, auth: {{ any_of: [main, partners] }} }}, {{ path: /open, auth: off }}]
"#,
        upstream.address
    );
    Stage {
        gateway: Gateway::start_in(directory, &config, &[]).await,
        upstream,
        key: private(&key),
        wrong: private(&wrong),
    }
}

impl Stage {
    fn token(&self, subject: &str, key: &EncodingKey) -> String {
        let claims = json!({"exp": 4_000_000_000_u64, "iss": "main", "sub": subject});
        encode(&Header::new(Algorithm::ES256), &claims, key).unwrap()
    }

    async fn present(&self, client: &str, token: &str) -> Answer {
        self.present_at("/a", client, token).await
    }

    async fn present_at(&self, path: &str, client: &str, token: &str) -> Answer {
        let request = self.gateway.get(path).header("x-forwarded-for", client);
        request
            .header("authorization", &format!("Bearer {token}"))
            .send()
            .await
    }

    async fn good(&self, client: &str, subject: &str) -> Answer {
        self.present(client, &self.token(subject, &self.key)).await
    }

    async fn bad(&self, client: &str, number: usize) -> Answer {
        self.present(client, &self.token(&number.to_string(), &self.wrong))
            .await
    }
}

#[tokio::test]
async fn after_many_bad_signatures_an_address_has_to_wait_but_for_what_is_known() {
    let stage = stage("{ signatures: 10, window: 1h }").await;
    let known = stage.token("known", &stage.key);
    stage.present("192.0.2.1", &known).await.assert_status(200);
    let first = stage.token("first", &stage.wrong);
    stage.present("192.0.2.1", &first).await.assert_status(401);
    for number in 1..10 {
        stage.bad("192.0.2.1", number).await.assert_status(401);
    }
    let refused = stage.bad("192.0.2.1", 11).await.assert_status(429);
    assert!(
        refused.text().contains("too many bad credentials"),
        "{refused:?}"
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7200).contains(&wait), "{wait}");
    // Nobody looks at the token any more, so a good one is not known to be one.
    stage.good("192.0.2.1", "new").await.assert_status(429);
    stage.present("192.0.2.1", &known).await.assert_status(200);
    stage.good("192.0.2.2", "new").await.assert_status(200);
    // Bad ones that are remembered as such, or that no signature could make good, cost nothing.
    stage.present("192.0.2.1", &first).await.assert_status(401);
    stage.present("192.0.2.1", "a.b.c").await.assert_status(401);
    let log = stage.gateway.log(17).await;
    let throttled = log
        .iter()
        .filter(|line| line["flags"] == json!(["rate_limited"]));
    assert_eq!(throttled.count(), 2);
    assert_eq!(stage.upstream.seen().len(), 3);
}

#[tokio::test]
async fn whose_token_it_is_decides_where_there_are_several_providers() {
    let stage = stage("{ signatures: 3, window: 1h }").await;
    for number in 0..3 {
        stage.bad("192.0.2.1", number).await.assert_status(401);
    }
    let claims = json!({"exp": 4_000_000_000_u64, "iss": "partner"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let partner = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let answer = stage.present_at("/both", "192.0.2.1", &partner).await;
    answer.assert_status(200);
    let main = stage.token("new", &stage.key);
    let answer = stage.present_at("/both", "192.0.2.1", &main).await;
    answer.assert_status(429);
}

#[tokio::test]
async fn good_ones_are_not_counted_and_off_is_off() {
    let few = stage("{ signatures: 1 }").await;
    for number in 0..20 {
        few.good("192.0.2.1", &number.to_string())
            .await
            .assert_status(200);
    }
    let off = stage("off").await;
    for number in 0..40 {
        off.bad("192.0.2.1", number).await.assert_status(401);
    }
    off.good("192.0.2.1", "new").await.assert_status(200);
}

#[tokio::test]
async fn others_are_served_while_many_send_nonsense() {
    let stage = stage("{ signatures: 100000 }").await;
    let known = stage.token("known", &stage.key);
    stage.present("192.0.2.9", &known).await.assert_status(200);
    let flood = (0..400).map(|number| stage.bad("192.0.2.1", number));
    let flood = futures_util::future::join_all(flood);
    let others = async {
        for number in 0..20 {
            stage.gateway.get("/open").send().await.assert_status(200);
            stage.present("192.0.2.9", &known).await.assert_status(200);
            stage
                .good("192.0.2.9", &number.to_string())
                .await
                .assert_status(200);
        }
    };
    let (refused, ()) = tokio::join!(flood, others);
    // As many at once as there are processors; the rest wait, and none comes in.
    assert!(
        refused.iter().all(|answer| answer.status == 401),
        "{refused:?}"
    );
}
