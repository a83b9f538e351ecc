//! Attacks on tokens (RFC 8725 and beyond), and the tokens that must pass.

mod claims;
mod encodings;
mod keys;
mod signatures;
mod throttled;
mod vectors;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use jsonwebtoken::{Algorithm, EncodingKey};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::auth::{
    Consumers, Credentials, Identity, KeySets, Provider, Refusal, Surroundings, Workbenches,
};
use crate::config::{self, Diagnostics, Source};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static RSA: LazyLock<PKey<Private>> =
    LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
static OTHER_RSA: LazyLock<PKey<Private>> =
    LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn public(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn encoding(algorithm: Algorithm, key: &PKey<Private>) -> EncodingKey {
    let pem = key.private_key_to_pem_pkcs8().unwrap();
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(&pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem),
        _ => EncodingKey::from_rsa_pem(&pem),
    }
    .unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn hs256(header: &Value, claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    sign(
        &header.to_string(),
        &claims.to_string(),
        &key,
        Algorithm::HS256,
    )
}

fn token(claims: &Value) -> String {
    hs256(&json!({"alg": "HS256", "typ": "JWT"}), claims)
}

fn good() -> Value {
    json!({"sub": "alice", "exp": NOW + 600})
}

fn compile(jwt: &str) -> (Option<Provider>, Diagnostics) {
    let text = format!("auth_providers:\n  main:\n    jwt: {jwt}\n");
    let loaded = config::parse(Source::new("t.yaml", text), &|_| None);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    let mut diagnostics = Diagnostics::default();
    let (name, section) = loaded.config.auth_providers.first().unwrap();
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base: Path::new("."),
        deciders: 0,
    };
    let provider = Provider::compile(name, section, surroundings, &mut diagnostics);
    (provider, diagnostics)
}

fn provider(jwt: &str) -> Provider {
    let (provider, diagnostics) = compile(jwt);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    provider.unwrap()
}

fn with_secret(more: &str) -> Provider {
    provider(&format!(
        "{{algorithms: HS256, keys: {{secret: {SECRET}}}{more}}}"
    ))
}

fn with_key(algorithms: &str, pem: &str) -> Provider {
    provider(&format!(
        "{{algorithms: {algorithms}, keys: {{public_key: {}}}}}",
        json!(pem)
    ))
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn authenticate(
    provider: &Provider,
    headers: &HeaderMap,
    now: u64,
) -> Result<Arc<Identity>, Refusal> {
    let credentials = Credentials {
        method: &Method::GET,
        uri: &Uri::from_static("/"),
        headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: false,
        now,
    };
    provider.authenticate(credentials).settle()
}

fn present(
    provider: &Provider,
    token: &str,
    now: u64,
) -> Result<std::sync::Arc<Identity>, Refusal> {
    authenticate(provider, &bearer(token), now)
}

fn refusal(provider: &Provider, token: &str) -> Refusal {
    present(provider, token, NOW)
        .map(|_| "accepted")
        .unwrap_err()
}

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let keys = [
        (Algorithm::RS256, "RS256", RSA.clone()),
        (Algorithm::RS512, "RS512", RSA.clone()),
        (Algorithm::PS256, "PS256", RSA.clone()),
        (Algorithm::PS384, "PS384", RSA.clone()),
        (Algorithm::ES256, "ES256", ec(Nid::X9_62_PRIME256V1)),
        (Algorithm::ES384, "ES384", ec(Nid::SECP384R1)),
        (Algorithm::EdDSA, "EdDSA", PKey::generate_ed25519().unwrap()),
    ];
    for (algorithm, name, key) in &keys {
        let provider = with_key(name, &public(key));
        let header = json!({"alg": name}).to_string();
        let token = sign(
            &header,
            &good().to_string(),
            &encoding(*algorithm, key),
            *algorithm,
        );
        assert!(present(&provider, &token, NOW).is_ok(), "{name}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        raw[10] ^= 1;
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(raw));
        assert_eq!(refusal(&provider, &forged), Refusal::BadSignature, "{name}");
    }
    for (name, length) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let algorithm = name.parse().unwrap();
        let secret = &SECRET[..length];
        let provider = provider(&format!(
            "{{algorithms: {name}, keys: {{secret: {secret}}}}}"
        ));
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = sign(
            &json!({"alg": name}).to_string(),
            &good().to_string(),
            &key,
            algorithm,
        );
        assert!(present(&provider, &token, NOW).is_ok(), "{name}");
    }
}

#[test]
fn unsigned_and_relabelled_tokens_are_refused() {
    let provider = with_secret("");
    for alg in ["none", "None", "nOnE", "hs256", "HS512", "RS256", ""] {
        let token = hs256(&json!({"alg": alg}), &good());
        assert_eq!(
            refusal(&provider, &token),
            Refusal::AlgorithmNotAllowed,
            "{alg}"
        );
    }
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&good()));
    assert_eq!(refusal(&provider, &unsigned), Refusal::AlgorithmNotAllowed);
    let emptied = format!("{}.{}.", part(&json!({"alg": "HS256"})), part(&good()));
    assert_eq!(refusal(&provider, &emptied), Refusal::MalformedToken);
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let pem = public(&RSA);
    let key = EncodingKey::from_secret(pem.as_bytes());
    let token = sign(
        r#"{"alg":"HS256"}"#,
        &good().to_string(),
        &key,
        Algorithm::HS256,
    );
    assert_eq!(
        refusal(&with_key("RS256", &pem), &token),
        Refusal::AlgorithmNotAllowed
    );
}

#[test]
fn keys_and_addresses_in_a_token_are_not_looked_at() {
    let provider = with_key("RS256", &public(&RSA));
    let header =
        json!({"alg": "RS256", "jku": "https://evil.example", "x5u": "x", "jwk": {"kty": "RSA"}});
    let theirs = encoding(Algorithm::RS256, &OTHER_RSA);
    let token = sign(
        &header.to_string(),
        &good().to_string(),
        &theirs,
        Algorithm::RS256,
    );
    assert_eq!(refusal(&provider, &token), Refusal::BadSignature);
}

#[test]
fn malformed_tokens_are_refused() {
    let provider = with_secret("");
    let whole = token(&good());
    let (message, signature) = whole.rsplit_once('.').unwrap();
    for broken in [
        "a".to_owned(),
        "a.b".into(),
        "a.b.c".into(),
        "..".into(),
        "...".into(),
        format!("{whole}."),
        format!(".{whole}"),
        format!("{whole}.x.y"),
        format!("{message}="),
        format!("{whole}="),
    ] {
        assert!(present(&provider, &broken, NOW).is_err(), "{broken}");
    }
    // The last character of a signature has bits to spare; only one spelling is canonical.
    let mut spelled = signature.to_owned();
    let last = spelled.pop().unwrap();
    let next = if last == 'A' {
        'B'
    } else {
        char::from(last as u8 + 1)
    };
    assert!(present(&provider, &format!("{message}.{spelled}{next}"), NOW).is_err());
    assert_eq!(refusal(&provider, &"x".repeat(9000)), Refusal::TooLong);
}

#[test]
fn extensions_and_odd_key_ids_are_refused() {
    let provider = with_secret("");
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A")),
    ] {
        let token = hs256(&json!({"alg": "HS256", name: value}), &good());
        assert_eq!(
            refusal(&provider, &token),
            Refusal::CriticalExtension,
            "{name}"
        );
    }
    for kid in [
        json!([1]),
        json!({"a": 1}),
        json!(5),
        json!("k".repeat(257)),
    ] {
        let token = hs256(&json!({"alg": "HS256", "kid": kid}), &good());
        assert_eq!(refusal(&provider, &token), Refusal::MalformedToken, "{kid}");
    }
    for kid in ["../../etc/passwd", "' OR 1=1 --", ""] {
        let token = hs256(&json!({"alg": "HS256", "kid": kid}), &good());
        assert!(
            present(&provider, &token, NOW).is_ok(),
            "one key without an id ignores {kid:?}"
        );
    }
}

#[test]
fn a_cached_token_expires_and_does_not_come_back() {
    let provider = with_secret(", leeway: 0s");
    let token = token(&json!({"exp": NOW + 100}));
    assert!(present(&provider, &token, NOW).is_ok());
    assert!(present(&provider, &token, NOW + 99).is_ok());
    assert_eq!(
        present(&provider, &token, NOW + 100).unwrap_err(),
        Refusal::Expired
    );
    // A clock that is set back by an hour does not revive it.
    assert_eq!(
        present(&provider, &token, NOW - 3600).unwrap_err(),
        Refusal::Expired
    );
}

#[test]
fn more_tokens_than_places_are_all_verified() {
    let provider = with_secret(", cache_tokens: 8");
    let tokens: Vec<_> = (0..100)
        .map(|n| token(&json!({"exp": NOW + 60, "sub": n.to_string()})))
        .collect();
    for _ in 0..3 {
        for (n, token) in tokens.iter().enumerate() {
            let verified = present(&provider, token, NOW).unwrap();
            assert_eq!(verified.claim("sub"), Some(&json!(n.to_string())));
        }
    }
}

proptest! {
    #[test]
    fn nothing_but_a_good_signature_is_accepted(
        header in ".{0,30}",
        claims in ".{0,60}",
        signature in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let provider = with_secret("");
        let token = format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims),
            URL_SAFE_NO_PAD.encode(signature)
        );
        prop_assert!(present(&provider, &token, NOW).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(position in 0..200usize, flip in 1..=255u8) {
        let provider = with_secret("");
        let whole = token(&good());
        let mut bytes = whole.into_bytes();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {text}"))
        {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value);
            prop_assert!(authenticate(&provider, &headers, NOW).is_err());
        }
    }
}
