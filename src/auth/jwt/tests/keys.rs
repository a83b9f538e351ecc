//! Which key of a set verifies a token, and keys that are refused.

use super::*;

fn jwk(key: &PKey<Private>, kid: &str) -> Value {
    let rsa = key.rsa().unwrap();
    let b64 = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
           "n": b64(rsa.n().to_vec()), "e": b64(rsa.e().to_vec())})
}

#[test]
fn keys_of_one_id_are_all_tried_but_not_many() {
    let third = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let others = vec![jwk(&RSA, "a"); 3];
    let tried = [&others[..], &[jwk(&OTHER_RSA, "a"), jwk(&third, "a")]].concat();
    let set = json!({ "keys": tried }).to_string();
    let (provider, diagnostics) = compile(&format!(
        "{{algorithms: RS256, keys: {{jwks: {}}}}}",
        json!(set)
    ));
    assert!(format!("{diagnostics:?}").contains("the same `kid`"));
    let provider = provider.unwrap();
    let signed = |key: &PKey<Private>| {
        let header = json!({"alg": "RS256", "kid": "a"}).to_string();
        let key = encoding(Algorithm::RS256, key);
        sign(&header, &good().to_string(), &key, Algorithm::RS256)
    };
    assert!(present(&provider, &signed(&RSA), NOW).is_ok());
    assert!(present(&provider, &signed(&OTHER_RSA), NOW).is_ok());
    assert_eq!(refusal(&provider, &signed(&third)), Refusal::BadSignature);
}

#[test]
fn a_set_chooses_by_key_id() {
    let set = json!({"keys": [jwk(&RSA, "a"), jwk(&OTHER_RSA, "b"),
        {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}, {"kty": "new"}]});
    let (provider, diagnostics) = compile(&format!(
        "{{algorithms: [RS256, ES256], keys: {{jwks: {}}}}}",
        json!(set.to_string())
    ));
    assert_eq!(diagnostics.as_slice().len(), 2, "{diagnostics:?}");
    let provider = provider.unwrap();
    let signed = |header: Value, key: &PKey<Private>| {
        let key = encoding(Algorithm::RS256, key);
        sign(
            &header.to_string(),
            &good().to_string(),
            &key,
            Algorithm::RS256,
        )
    };
    assert!(
        present(
            &provider,
            &signed(json!({"alg": "RS256", "kid": "a"}), &RSA),
            NOW
        )
        .is_ok()
    );
    assert!(
        present(
            &provider,
            &signed(json!({"alg": "RS256", "kid": "b"}), &OTHER_RSA),
            NOW
        )
        .is_ok()
    );
    for (header, refused) in [
        (json!({"alg": "RS256", "kid": "b"}), Refusal::BadSignature),
        (json!({"alg": "RS256", "kid": "c"}), Refusal::UnknownKey),
        (json!({"alg": "RS256"}), Refusal::UnknownKey),
    ] {
        assert_eq!(refusal(&provider, &signed(header, &RSA)), refused);
    }
}

#[test]
fn keys_that_cant_be_right_are_errors() {
    let private = String::from_utf8(RSA.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    for (jwt, message) in [
        (
            "{algorithms: HS256, keys: {secret: short}}".to_owned(),
            "the secret has 5 bytes",
        ),
        (
            format!("{{algorithms: HS512, keys: {{secret: {}}}}}", &SECRET[..32]),
            "HS512 needs 64",
        ),
        (
            format!("{{algorithms: RS256, keys: {{secret: {SECRET}}}}}"),
            "can't be used with a shared secret",
        ),
        (
            format!("{{algorithms: [], keys: {{secret: {SECRET}}}}}"),
            "`algorithms` is empty",
        ),
        ("{algorithms: HS256, keys: {}}".into(), "exactly one of"),
        (
            format!(
                "{{algorithms: RS256, keys: {{public_key: {}}}}}",
                json!(private)
            ),
            "private key",
        ),
        (
            format!(
                "{{algorithms: ES256, keys: {{public_key: {}}}}}",
                json!(public(&RSA))
            ),
            "ES256 can't be used with an RSA key",
        ),
        (
            format!(
                "{{algorithms: RS256, keys: {{public_key: {}}}}}",
                json!(public(&short))
            ),
            "1024 bits is too short",
        ),
        (
            "{algorithms: RS256, keys: {public_key: nonsense}}".into(),
            "not a public key",
        ),
        (
            "{algorithms: RS256, keys: {jwks: '{}'}}".into(),
            "not a JSON Web Key Set",
        ),
        (
            "{algorithms: RS256, keys: {jwks: '{\"keys\": []}'}}".into(),
            "no key for these algorithms",
        ),
        (
            format!("{{algorithms: HS256, keys: {{secret: {SECRET}}}, leeway: 1d}}"),
            "leeway of 1d",
        ),
        (
            format!(
                "{{algorithms: HS256, keys: {{secret: {SECRET}}}, forward_claims: {{sub: Host}}}}"
            ),
            "can't carry an identity",
        ),
    ] {
        let (_, diagnostics) = compile(&jwt);
        let messages: Vec<_> = diagnostics
            .as_slice()
            .iter()
            .map(|d| d.message.as_str())
            .collect();
        assert!(
            messages.iter().any(|m| m.contains(message)),
            "{jwt}: {messages:?}"
        );
    }
}
