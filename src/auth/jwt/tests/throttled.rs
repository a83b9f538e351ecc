//! Tokens from addresses that sent too many bad ones.

use super::*;
use crate::auth::Verdict;

/// What is made of a token while its address has to wait.
fn shown(provider: &Provider, token: &str) -> Verdict {
    let credentials = Credentials {
        method: &Method::GET,
        uri: &Uri::from_static("/"),
        headers: &bearer(token),
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: false,
        now: NOW,
    };
    provider.authenticate_unless(credentials, |_| Some(7))
}

fn signed(claims: &Value, key: &PKey<Private>) -> String {
    let header = json!({"alg": "RS256"}).to_string();
    let key = encoding(Algorithm::RS256, key);
    sign(&header, &claims.to_string(), &key, Algorithm::RS256)
}

#[test]
fn only_what_is_remembered_is_told_apart() {
    let provider = with_key("RS256", &public(&RSA));
    let (good_one, bad_one) = (signed(&good(), &RSA), signed(&good(), &OTHER_RSA));
    for token in [&good_one, &bad_one] {
        assert!(matches!(shown(&provider, token), Verdict::Throttled(7)));
    }
    assert!(present(&provider, &good_one, NOW).is_ok());
    assert_eq!(refusal(&provider, &bad_one), Refusal::BadSignature);
    assert!(matches!(shown(&provider, &good_one), Verdict::Known(_)));
    let refused = shown(&provider, &bad_one);
    assert!(matches!(refused, Verdict::Refused(Refusal::BadSignature)));
}

#[test]
fn what_is_no_token_at_first_sight_is_called_so() {
    let provider = with_key("RS256", &public(&RSA));
    for text in [
        "a.b.c",
        "aa.bb",
        "aa..cc",
        "aa.bb.",
        "aa.bb.cc.dd",
        "aa.bbbbb.cc",
    ] {
        let refused = shown(&provider, text);
        assert!(
            matches!(refused, Verdict::Refused(Refusal::MalformedToken)),
            "{text}: {refused:?}"
        );
    }
    assert!(matches!(
        shown(&provider, "aa.bbb.cccc"),
        Verdict::Throttled(_)
    ));
}

#[test]
fn what_is_soon_verified_is_not_held_up() {
    let provider = with_secret("");
    assert!(matches!(
        shown(&provider, &token(&good())),
        Verdict::Known(_)
    ));
}
