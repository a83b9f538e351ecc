//! What tokens say: times, issuers, audiences, and names that come twice.

use super::*;

#[test]
fn times_are_checked_to_the_second() {
    let provider = with_secret(", leeway: 30s, cache_tokens: 0");
    let expiring = token(&json!({"exp": NOW}));
    assert!(present(&provider, &expiring, NOW + 29).is_ok());
    assert_eq!(
        present(&provider, &expiring, NOW + 30).unwrap_err(),
        Refusal::Expired
    );
    let early = token(&json!({"exp": NOW + 600, "nbf": NOW + 40}));
    let provider = with_secret(", leeway: 30s, cache_tokens: 0");
    assert_eq!(
        present(&provider, &early, NOW + 9).unwrap_err(),
        Refusal::NotYetValid
    );
    assert!(present(&provider, &early, NOW + 10).is_ok());
    for exp in [
        json!("1900000000"),
        json!(-1),
        json!(null),
        json!([1]),
        json!(true),
    ] {
        assert_eq!(
            refusal(&provider, &token(&json!({"exp": exp}))),
            Refusal::MalformedToken,
            "{exp}"
        );
    }
    assert_eq!(
        refusal(&provider, &token(&json!({"sub": "a"}))),
        Refusal::NoExpiry
    );
    let huge = sign(
        r#"{"alg":"HS256"}"#,
        r#"{"exp":1e400}"#,
        &EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::HS256,
    );
    assert_eq!(refusal(&provider, &huge), Refusal::MalformedToken);
    assert_eq!(
        refusal(&provider, &token(&json!({"exp": NOW + 9, "nbf": "soon"}))),
        Refusal::MalformedToken
    );
    assert!(present(&provider, &token(&json!({"exp": NOW as f64 + 60.5})), NOW).is_ok());
}

#[test]
fn issuer_audience_and_required_claims_are_checked() {
    let provider =
        with_secret(", issuer: https://id.example/, audiences: [shop, pay], required_claims: sub");
    let claims = |more: Value| {
        let mut claims =
            json!({"exp": NOW + 60, "iss": "https://id.example/", "aud": "shop", "sub": "a"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        token(&claims)
    };
    assert!(present(&provider, &claims(json!({})), NOW).is_ok());
    assert!(present(&provider, &claims(json!({"aud": ["x", "pay"]})), NOW).is_ok());
    for (more, expected) in [
        (json!({"iss": "https://id.example"}), Refusal::WrongIssuer),
        (
            json!({"iss": ["https://id.example/"]}),
            Refusal::WrongIssuer,
        ),
        (json!({"iss": null}), Refusal::WrongIssuer),
        (json!({"aud": "other"}), Refusal::WrongAudience),
        (json!({"aud": []}), Refusal::WrongAudience),
        (json!({"aud": 123}), Refusal::WrongAudience),
        (json!({"aud": null}), Refusal::WrongAudience),
        (json!({"aud": ["shop", 5]}), Refusal::WrongAudience),
        (json!({"sub": null}), Refusal::ClaimMissing),
    ] {
        assert_eq!(
            refusal(&provider, &claims(more.clone())),
            expected,
            "{more}"
        );
    }
    let without = token(&json!({"exp": NOW + 60, "iss": "https://id.example/", "sub": "a"}));
    assert_eq!(refusal(&provider, &without), Refusal::WrongAudience);
    let anyones = with_secret("");
    assert_eq!(
        refusal(&anyones, &token(&json!({"exp": NOW + 60, "aud": "x"}))),
        Refusal::WrongAudience
    );
}

#[test]
fn a_name_twice_is_refused() {
    let provider = with_secret("");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for claims in [
        r#"{"exp":1900000000,"exp":1}"#,
        r#"{"exp":1900000000,"sub":"a","sub":"b"}"#,
    ] {
        let token = sign(r#"{"alg":"HS256"}"#, claims, &key, Algorithm::HS256);
        assert_eq!(refusal(&provider, &token), Refusal::DuplicateClaim);
    }
    let token = sign(
        r#"{"alg":"none","alg":"HS256"}"#,
        &good().to_string(),
        &key,
        Algorithm::HS256,
    );
    assert_eq!(refusal(&provider, &token), Refusal::DuplicateClaim);
}
