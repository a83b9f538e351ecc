//! Which of several mechanisms decides, and what an identity may do, driven from outside.

use crate::support::{Answer, Gateway, Upstream};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const FIRST: &str = "first-secret-0123456789-0123456789";
const SECOND: &str = "second-secret-0123456789-0123456789";
/// SHA-256 of `open sesame`, in hexadecimal.
const DIGEST: &str = "sha256:41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

fn token(secret: &str, issuer: &str, more: &Value) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut claims = json!({"exp": since.unwrap().as_secs() + 600, "iss": issuer, "sub": "alice"});
    let members = claims.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let jwt = |name: &str, secret: &str, more: &str| {
        format!(
            "{name}: {{ jwt: {{ issuer: \"https://{name}/\", algorithms: [HS256], keys: {{ secret: \"{secret}\" }}{more} }} }}"
        )
    };
    Gateway::start(&format!(
        r#"
auth_providers:
  {}
  {}
  keys: {{ api_key: {{ from: ["header:X-Api-Key", "query:key"], forward_name: X-Partner, keys: {{ acme: "{DIGEST}" }} }} }}
services:
  a:
    base_url: http://{}
    routes:
      - {{ path: /any, auth: {{ any_of: [first, second, keys] }} }}
      - {{ path: /open, auth: {{ any_of: [first, keys], anonymous: true }} }}
      - {{ path: /keys, auth: keys }}
      - path: /each
        auth: {{ any_of: [{{ provider: first, require: {{ roles: admin }} }}, keys], require: {{ present: sub }} }}
      - path: /tenants/{{tenant}}/orders
        auth: {{ provider: first, require: {{ claims: {{ tenants: "{{tenant}}" }} }} }}
      - path: /tree
        auth:
          provider: first
          require:
            any:
              - scope: [orders:read, orders:write]
              - {{ roles: [admin, owner], claims: {{ mfa: "true" }} }}
            not: {{ claims: {{ suspended: "true" }} }}
            audience: shop
"#,
        jwt("first", FIRST, ", audiences: [shop, bank], roles_from: realm.roles"),
        jwt("second", SECOND, ""),
        upstream.address
    ))
    .await
}

async fn bearer(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let request = gateway.get(path);
    request
        .header("authorization", &format!("Bearer {token}"))
        .send()
        .await
}

fn first(more: &Value) -> String {
    let mut claims = json!({"aud": "shop"});
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    token(FIRST, "https://first/", &claims)
}

#[tokio::test]
async fn the_first_that_knows_the_credential_decides() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let second = token(SECOND, "https://second/", &json!({}));
    bearer(&gateway, "/any", &first(&json!({})))
        .await
        .assert_status(200);
    bearer(&gateway, "/any", &second).await.assert_status(200);
    let key = gateway.get("/any").header("x-api-key", "open sesame");
    let answer = key.send().await.assert_status(401);
    assert!(
        answer.text().contains("malformed"),
        "a key is one word: {answer:?}"
    );
    // Signed by one, in the name of the other: never passed on to who would take it.
    for forged in [
        token(SECOND, "https://first/", &json!({"aud": "shop"})),
        token(FIRST, "https://second/", &json!({})),
    ] {
        let answer = bearer(&gateway, "/any", &forged).await.assert_status(401);
        assert!(answer.text().contains("signature"), "{answer:?}");
    }
    let nobodys = token(FIRST, "https://third/", &json!({}));
    let answer = bearer(&gateway, "/any", &nobodys).await.assert_status(401);
    assert!(answer.text().contains("issuer"), "{answer:?}");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_provider_that_is_down_is_no_outage_for_the_tokens_of_another() {
    let upstream = Upstream::echo().await;
    let dead = crate::support::free_port();
    let gateway = Gateway::start(&format!(
        r#"
auth_providers:
  dead: {{ jwt: {{ issuer: "https://dead/", keys: {{ jwks_url: "http://{dead}/jwks" }} }} }}
  second: {{ jwt: {{ issuer: "https://second/", algorithms: [HS256], keys: {{ secret: "{SECOND}" }} }} }}
services: {{ a: {{ base_url: "http://{}", auth: {{ any_of: [dead, second] }}, routes: [/a] }} }}
"#,
        upstream.address
    ))
    .await;
    let second = token(SECOND, "https://second/", &json!({}));
    bearer(&gateway, "/a", &second).await.assert_status(200);
    let dead = token(SECOND, "https://dead/", &json!({}));
    bearer(&gateway, "/a", &dead).await.assert_status(503);
    bearer(&gateway, "/a", "nonsense").await.assert_status(401);
}

#[tokio::test]
async fn who_shows_nothing_is_told_every_way() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let answer = gateway.get("/any").send().await.assert_status(401);
    let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(
        challenges,
        [
            "Bearer realm=\"tollgate\"",
            "Bearer realm=\"tollgate\"",
            "ApiKey realm=\"tollgate\""
        ]
    );
}

#[tokio::test]
async fn nobody_may_come_in_where_that_is_written_but_no_bad_credential() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    gateway
        .get("/open")
        .header("x-partner", "acme")
        .send()
        .await
        .assert_status(200);
    assert_eq!(upstream.last().header("x-partner"), None);
    bearer(&gateway, "/open", &first(&json!({})))
        .await
        .assert_status(200);
    let forged = token(SECOND, "https://first/", &json!({"aud": "shop"}));
    bearer(&gateway, "/open", &forged).await.assert_status(401);
    bearer(&gateway, "/open", "x").await.assert_status(401);
    gateway
        .get("/open?key=guess")
        .send()
        .await
        .assert_status(401);
    // Of another issuer: nobody's, and no reason to go on without.
    let nobodys = token(FIRST, "https://third/", &json!({}));
    bearer(&gateway, "/open", &nobodys).await.assert_status(401);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn each_way_may_ask_for_more() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    bearer(&gateway, "/each", &first(&json!({})))
        .await
        .assert_status(403);
    let admin = first(&json!({"realm": {"roles": ["user", "admin"]}}));
    bearer(&gateway, "/each", &admin).await.assert_status(200);
    // The rule's own requirement holds for all.
    let nobody = first(&json!({"realm": {"roles": ["admin"]}, "sub": null}));
    bearer(&gateway, "/each", &nobody).await.assert_status(403);
}

#[tokio::test]
async fn a_claim_may_have_to_be_what_the_path_says() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let ours = first(&json!({"tenants": ["acme", "b c"]}));
    for (path, status) in [
        ("/tenants/acme/orders", 200),
        ("/tenants/b%20c/orders", 200),
        ("/tenants/other/orders", 403),
        ("/tenants/acme%2Fother/orders", 400),
        ("/tenants/Acme/orders", 403),
        ("/tenants/x/../acme/orders", 200),
    ] {
        let answer = bearer(&gateway, path, &ours).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let without = first(&json!({}));
    bearer(&gateway, "/tenants/acme/orders", &without)
        .await
        .assert_status(403);
}

#[tokio::test]
async fn conditions_are_combined() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    for (claims, status) in [
        (json!({"scope": "orders:read orders:write"}), 200),
        (json!({"scope": "orders:read"}), 403),
        (
            json!({"scp": ["orders:read", "orders:write"], "suspended": true}),
            403,
        ),
        (json!({"realm": {"roles": ["owner"]}, "mfa": true}), 200),
        (json!({"realm": {"roles": ["owner"]}}), 403),
        (
            json!({"realm": {"roles": ["owner"]}, "mfa": "true", "aud": "bank"}),
            403,
        ),
        (
            json!({"realm": {"roles": ["owner"]}, "mfa": "true", "aud": ["bank", "shop"]}),
            200,
        ),
        (json!({"roles": ["owner"], "mfa": true}), 403),
        (json!({}), 403),
    ] {
        let answer = bearer(&gateway, "/tree", &first(&claims)).await;
        assert_eq!(answer.status, status, "{claims}: {answer:?}");
    }
}

#[tokio::test]
async fn explain_shows_which_conditions_hold() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let explain = async |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        let (code, said, error) = gateway.command(&["explain", "-H", &field, "/tree"]).await;
        assert_eq!(code, 0, "{said}{error}");
        said
    };
    let said = explain(&first(&json!({"realm": {"roles": ["owner"]}}))).await;
    for line in [
        "  first       alice",
        "    ✗ all of",
        "    ✗   any of",
        "    ✗     all of",
        "    ✓       role admin or owner",
        "    ✗       claim mfa: true",
        "    ✓   not",
        "    ✓   audience shop",
        "403 Forbidden",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let said = explain(&first(&json!({"exp": 5}))).await;
    assert!(
        said.contains("first       401 Unauthorized: the credential has expired"),
        "{said}"
    );
    let (_, said, _) = gateway.command(&["explain", "/open"]).await;
    assert!(
        said.contains("none        which this route admits"),
        "{said}"
    );
    let (_, said, _) = gateway.command(&["explain", "/tree"]).await;
    assert!(
        said.contains("none        401 Unauthorized: a credential is needed"),
        "{said}"
    );
}
