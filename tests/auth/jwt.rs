//! Who may come in, driven from outside.

use crate::support::{Answer, Gateway, Upstream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn token(claims: &Value) -> String {
    encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

fn good() -> Value {
    json!({"exp": now() + 600, "sub": "alice", "iss": "https://id.example/", "aud": "shop", "scope": "read write"})
}

fn with(more: &Value) -> Value {
    let mut claims = good();
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

async fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        r#"
auth_providers:
  main:
    jwt:
      issuer: https://id.example/
      audiences: shop
      algorithms: [HS256]
      keys: {{ secret: "{SECRET}" }}
      leeway: 5s
      required_claims: sub
      token_from: [bearer, "header:X-Token", "cookie:session", "query:access_token"]
      forward_claims: {{ sub: X-User-Id, team: X-Team }}
services:
  a:
    base_url: http://{}
    auth: main
    routes:
      - /a
      - {{ path: /write, auth: {{ provider: main, require: {{ scope: write }} }} }}
      - {{ path: /admin, auth: {{ provider: main, require: {{ scope: [write, admin] }} }} }}
      - {{ path: /team, auth: {{ provider: main, require: {{ claims: {{ team: [red, blue] }} }} }} }}
      - {{ path: /open, auth: off }}
"#,
        upstream.address
    ))
    .await
}

async fn present(gateway: &Gateway, path: &str, token: &str) -> Answer {
    gateway
        .get(path)
        .header("authorization", &format!("Bearer {token}"))
        .send()
        .await
}

#[tokio::test]
async fn a_good_token_opens_and_tells_the_backend_who_it_is() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let token = token(&with(&json!({"team": "red"})));
    // Twice, so that the second comes from the memory of verified tokens.
    for _ in 0..2 {
        gateway
            .get("/a")
            .header("authorization", &format!("Bearer {token}"))
            .header("x-user-id", "mallory")
            .header("x_user_id", "mallory")
            .send()
            .await
            .assert_status(200);
        let seen = upstream.last();
        assert_eq!(seen.headers("x-user-id"), ["alice"]);
        assert_eq!(seen.headers("x-team"), ["red"]);
        assert_eq!(seen.header("x_user_id"), None);
    }
    // Nobody poses as somebody where no token is asked for.
    gateway
        .get("/open")
        .header("x-user-id", "mallory")
        .send()
        .await
        .assert_status(200);
    assert_eq!(upstream.last().header("x-user-id"), None);
    for (name, value) in [
        ("x-token", token.clone()),
        ("cookie", format!("a=b; session={token}")),
    ] {
        gateway
            .get("/a")
            .header(name, &value)
            .send()
            .await
            .assert_status(200);
    }
    gateway
        .get(&format!("/a?access_token={token}"))
        .send()
        .await
        .assert_status(200);
}

#[tokio::test]
async fn every_bad_token_is_401_and_says_why() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let b64 = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = |alg: &str| format!("{}.{}.", b64(json!({"alg": alg})), b64(good()));
    let other = EncodingKey::from_secret(b"another secret of thirty-two byte");
    let forged = encode(&Header::new(Algorithm::HS256), &good(), &other).unwrap();
    let stronger = EncodingKey::from_secret(SECRET.as_bytes());
    let wrong_algorithm = encode(&Header::new(Algorithm::HS384), &good(), &stronger).unwrap();
    let whole = token(&good());
    let (head, rest) = whole.split_once('.').unwrap();
    let swapped = format!(
        "{head}.{}.{}",
        b64(with(&json!({"sub": "root"}))),
        rest.split_once('.').unwrap().1
    );
    for (case, bad) in [
        ("unsigned", unsigned("none")),
        ("unsigned, other spelling", unsigned("nOnE")),
        ("unsigned under HS256", unsigned("HS256")),
        ("forged", forged),
        ("wrong algorithm", wrong_algorithm),
        ("changed claims", swapped),
        ("expired", token(&with(&json!({"exp": now() - 60})))),
        ("not yet valid", token(&with(&json!({"nbf": now() + 600})))),
        (
            "wrong issuer",
            token(&with(&json!({"iss": "https://evil.example/"}))),
        ),
        ("wrong audience", token(&with(&json!({"aud": "bank"})))),
        (
            "without expiry",
            token(&json!({"sub": "alice", "iss": "https://id.example/", "aud": "shop"})),
        ),
        (
            "without a required claim",
            token(&with(&json!({"sub": null}))),
        ),
        ("truncated", whole[..whole.len() - 3].to_owned()),
        ("no token at all", "abc".to_owned()),
        ("empty parts", "..".to_owned()),
    ] {
        let answer = present(&gateway, "/a", &bad).await;
        assert_eq!(answer.status, 401, "{case}: {answer:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""),
            "{case}: {challenge}"
        );
        assert!(
            !answer.text().contains(&bad[..3.min(bad.len())]) || bad.len() < 5,
            "{case} is shown"
        );
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn every_malformed_credential_is_401() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let good = token(&good());
    for value in [
        "Bearer",
        "Bearer ",
        "bearer  x y",
        "Basic YTpi",
        "Token abc",
        &good,
        "Bearer \u{e9}",
    ] {
        let answer = gateway
            .get("/a")
            .header("authorization", value)
            .send()
            .await;
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
    }
    // Two credentials are none.
    let twice = gateway
        .get("/a")
        .header("authorization", &format!("Bearer {good}"))
        .header("x-token", &good)
        .send()
        .await
        .assert_status(401);
    assert!(
        twice
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_request")
    );
    let none = gateway.get("/a").send().await.assert_status(401);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"tollgate\"")
    );
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_good_token_without_the_right_is_403() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let good = token(&good());
    present(&gateway, "/write", &good).await.assert_status(200);
    let refused = present(&gateway, "/admin", &good).await.assert_status(403);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("insufficient_scope") && challenge.contains("write admin"),
        "{challenge}"
    );
    present(&gateway, "/team", &good).await.assert_status(403);
    present(
        &gateway,
        "/team",
        &token(&with(&json!({"team": ["green", "blue"]}))),
    )
    .await
    .assert_status(200);
    let log = gateway.log(4).await;
    assert_eq!(
        log.iter()
            .filter(|line| line["flags"][0] == "forbidden")
            .count(),
        2
    );
}

/// Key confusion: the public key as the secret of an HMAC.
#[tokio::test]
async fn public_keys_verify_signatures_and_nothing_else() {
    let upstream = Upstream::echo().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let public = key.public_key_pem();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("public.pem"), &public).unwrap();
    let config = format!(
        "auth_providers: {{ main: {{ jwt: {{ algorithms: [ES256], keys: {{ public_key: {{ file: public.pem }} }} }} }} }}\nservices: {{ a: {{ base_url: \"http://{}\", auth: main, routes: [/a] }} }}\n",
        upstream.address
    );
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    let claims = json!({"exp": now() + 60});
    let private = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let signed = encode(&Header::new(Algorithm::ES256), &claims, &private).unwrap();
    present(&gateway, "/a", &signed).await.assert_status(200);
    let confused = EncodingKey::from_secret(public.as_bytes());
    let confused = encode(&Header::new(Algorithm::HS256), &claims, &confused).unwrap();
    present(&gateway, "/a", &confused).await.assert_status(401);
}
