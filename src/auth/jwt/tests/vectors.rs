//! The examples of the JOSE specifications (RFC 7515, 7516, 7517, 7520, 8037).
//!
//! Some sign a text that is no set of claims, so that only their signatures are verified.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::jwks::read_set;
use super::super::keys::Keys;
use super::super::verify::check_signature;
use super::{Refusal, compile, present, provider, refusal};
use crate::auth::Provider;

/// What is signed with each key, as the specifications print it.
#[derive(Deserialize)]
struct Vectors {
    /// Tokens.
    tokens: Vec<Example>,
    /// Texts that are no tokens.
    texts: Vec<Example>,
    /// With algorithms that there is no support for.
    unsupported: Vec<Example>,
    /// What must not pass, whatever the key.
    refused: Vec<Example>,
    /// RFC 7517 §A.1.
    set: Value,
}

#[derive(Deserialize)]
struct Example {
    from: String,
    #[serde(default)]
    algorithm: String,
    #[serde(default)]
    key: Value,
    token: String,
}

/// When the tokens expire.
const EXPIRY: u64 = 1_300_819_380;

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

impl Example {
    fn provider(&self) -> Provider {
        provider(&self.config(&self.algorithm))
    }

    fn config(&self, algorithms: &str) -> String {
        let set = json!({"keys": [self.key]}).to_string();
        format!(
            "{{algorithms: [{algorithms}], leeway: 0s, keys: {{jwks: {}}}}}",
            json!(set)
        )
    }

    /// Whether a token, whatever it says, has a good signature.
    fn signature(&self, token: &str) -> Result<(), Refusal> {
        let algorithm = serde_json::from_value(json!(self.algorithm)).unwrap();
        let set = json!({"keys": [self.key]}).to_string();
        let keys = Keys::several(read_set(&set, &[algorithm]).unwrap().keys);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let algorithm = self.algorithm.parse().unwrap();
        let candidates = keys.candidates(algorithm, None)?;
        check_signature(message, signature, candidates, algorithm)
    }

    /// The token with another character in one of its parts.
    fn forged(&self, part: usize) -> String {
        let mut parts: Vec<String> = self.token.split('.').map(str::to_owned).collect();
        let other = if parts[part].starts_with('A') {
            "B"
        } else {
            "A"
        };
        parts[part].replace_range(..1, other);
        parts.join(".")
    }
}

#[test]
fn tokens_of_the_specifications_pass_until_they_expire() {
    for example in vectors().tokens {
        let (provider, from) = (example.provider(), &example.from);
        let identity = present(&provider, &example.token, EXPIRY - 1).unwrap();
        assert_eq!(identity.claim("iss"), Some(&json!("joe")), "{from}");
        assert_eq!(
            identity.claim("http://example.com/is_root"),
            Some(&json!(true)),
            "{from}"
        );
        let forged = |part| present(&provider, &example.forged(part), EXPIRY - 1).unwrap_err();
        assert_eq!(forged(1), Refusal::MalformedToken, "{from}");
        assert_eq!(forged(2), Refusal::BadSignature, "{from}");
        let late = present(&provider, &example.token, EXPIRY);
        assert_eq!(late.unwrap_err(), Refusal::Expired, "{from}");
    }
}

#[test]
fn signatures_of_the_specifications_are_right() {
    for example in vectors().texts {
        let from = &example.from;
        assert_eq!(example.signature(&example.token), Ok(()), "{from}");
        for part in [1, 2] {
            let forged = example.signature(&example.forged(part));
            assert_eq!(forged, Err(Refusal::BadSignature), "{from}");
        }
        let refused = refusal(&example.provider(), &example.token);
        assert_eq!(refused, Refusal::MalformedToken, "{from}");
    }
}

#[test]
fn algorithms_without_support_are_refused() {
    for example in vectors().unsupported {
        let from = &example.from;
        let (none, diagnostics) = compile(&example.config("ES256, ES384"));
        assert!(none.is_none(), "{from}");
        let said = format!("{diagnostics:?}");
        assert!(
            said.contains("its curve is not supported"),
            "{from}: {said}"
        );
        for others in vectors().tokens {
            let refused = refusal(&others.provider(), &example.token);
            assert_eq!(refused, Refusal::AlgorithmNotAllowed, "{from}");
        }
    }
}

#[test]
fn what_is_unsigned_critical_or_encrypted_is_refused() {
    let reasons = [
        Refusal::AlgorithmNotAllowed,
        Refusal::CriticalExtension,
        Refusal::MalformedToken,
    ];
    for (example, reason) in vectors().refused.iter().zip(reasons) {
        for others in vectors().tokens {
            let refused = refusal(&others.provider(), &example.token);
            assert_eq!(refused, reason, "{}", example.from);
        }
    }
}

#[test]
fn of_the_set_of_the_specification_the_key_for_signatures_is_used() {
    let set = json!(vectors().set.to_string());
    let (provider, diagnostics) = compile(&format!(
        "{{algorithms: [RS256, ES256], keys: {{jwks: {set}}}}}"
    ));
    assert!(provider.is_some());
    let said = format!("{diagnostics:?}");
    assert!(
        said.contains("key 1 of the set is not used: its `use` is not `sig`"),
        "{said}"
    );
    assert!(!said.contains("key 2"), "{said}");
}
