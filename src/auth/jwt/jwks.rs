//! Keys from a JSON Web Key Set (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters,
};

use super::keys::{Key, Keys, Kind, SHORTEST_RSA_BITS};
use crate::config::{Diagnostics, FileText, JwtAlgorithm, Spanned};

/// Most keys of a set.
const MOST_KEYS: usize = 100;

/// What a set holds.
pub(super) struct Read {
    /// The keys that fit the algorithms.
    pub(super) keys: Vec<Key>,
    /// The others, by their place, and why they are not used.
    unused: Vec<(usize, String)>,
}

/// The keys of a set that was given, or a report of what is wrong with it.
pub(super) fn from_jwks(
    jwks: &Spanned<FileText>,
    algorithms: &[JwtAlgorithm],
    diagnostics: &mut Diagnostics,
) -> Option<Keys> {
    if jwks.text().is_empty() && jwks.file.is_some() {
        return None;
    }
    let read = match read_set(jwks.text(), algorithms) {
        Ok(read) => read,
        Err(reason) => {
            diagnostics
                .error(jwks.span, reason)
                .help("it must be `{\"keys\": [...]}` (RFC 7517 §5)");
            return None;
        }
    };
    for (place, reason) in &read.unused {
        diagnostics.warning(
            jwks.span,
            format!("key {place} of the set is not used: {reason}"),
        );
    }
    for (index, key) in read.keys.iter().enumerate() {
        let is_known = |other: &Key| key.id.is_some() && other.id == key.id;
        if read.keys[..index].iter().any(is_known) {
            diagnostics.warning(jwks.span, "two keys of the set have the same `kid`");
        }
    }
    if read.keys.is_empty() {
        diagnostics
            .error(jwks.span, "the set holds no key for these algorithms")
            .help("list the algorithms of its keys in `algorithms`");
        return None;
    }
    Some(Keys::several(read.keys))
}

/// What a set holds for these algorithms.
///
/// # Errors
/// Why it is not a set.
pub(super) fn read_set(text: &str, algorithms: &[JwtAlgorithm]) -> Result<Read, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(text)
        .map_err(|error| format!("this is not a JSON Web Key Set: {error}"))?;
    if set.keys.len() > MOST_KEYS {
        let count = set.keys.len();
        return Err(format!("{count} keys are too many: at most {MOST_KEYS}"));
    }
    let mut read = Read {
        keys: Vec::new(),
        unused: Vec::new(),
    };
    for (index, value) in set.keys.into_iter().enumerate() {
        let text = value.to_string();
        match read_jwk(value, algorithms) {
            Ok(key) => read.keys.push(Key {
                text: text.into(),
                ..key
            }),
            Err(reason) => read.unused.push((index + 1, reason)),
        }
    }
    Ok(read)
}

fn read_jwk(value: serde_json::Value, algorithms: &[JwtAlgorithm]) -> Result<Key, String> {
    if value.get("d").is_some() {
        return Err("it is a private key, and whoever can read it can make tokens".into());
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|used| *used != PublicKeyUse::Signature)
    {
        return Err("its `use` is not `sig`".into());
    }
    let operations = jwk.common.key_operations.as_deref();
    if operations.is_some_and(|it| !it.contains(&KeyOperations::Verify)) {
        return Err("its `key_ops` do not have `verify`".into());
    }
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => rsa_kind(rsa)?,
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => Kind::P256,
            EllipticCurve::P384 => Kind::P384,
            _ => return Err("its curve is not supported".into()),
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            Kind::Ed25519
        }
        AlgorithmParameters::OctetKey(key) => Kind::Secret {
            bytes: bytes(&key.value)?.len(),
        },
        _ => return Err("its kind is not supported".into()),
    };
    match kind {
        Kind::Rsa { bits } if bits < SHORTEST_RSA_BITS => {
            return Err(format!("{bits} bits of RSA are too short"));
        }
        Kind::Secret { bytes } if bytes < 32 => {
            return Err(format!("a secret of {bytes} bytes is too short"));
        }
        _ => {}
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    let mut key = Key::new(jwk.common.key_id.as_deref(), decoding, kind, algorithms);
    if let Some(stated) = jwk.common.key_algorithm {
        let stated = stated.to_string();
        key.algorithms = key
            .algorithms
            .iter()
            .filter(|known| format!("{known:?}") == stated)
            .copied()
            .collect();
    }
    if key.algorithms.is_empty() {
        return Err(format!(
            "it is {}, for none of the listed `algorithms`",
            kind.noun()
        ));
    }
    Ok(key)
}

fn rsa_kind(rsa: &RSAKeyParameters) -> Result<Kind, String> {
    let (modulus, exponent) = (bytes(&rsa.n)?, bytes(&rsa.e)?);
    // With an exponent of 1 every message is its own signature.
    if let [] | [..=2] = digits(&exponent) {
        return Err("its exponent is too small".into());
    }
    let bits = match digits(&modulus) {
        [] => 0,
        [first, rest @ ..] => u8::BITS - first.leading_zeros() + u8::BITS * rest.len() as u32,
    };
    Ok(Kind::Rsa { bits })
}

/// Without the zeros before them.
fn digits(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ALGORITHMS: [JwtAlgorithm; 3] = [
        JwtAlgorithm::RS256,
        JwtAlgorithm::ES256,
        JwtAlgorithm::EdDSA,
    ];

    fn rsa(bits: usize, exponent: &[u8]) -> Value {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus),
            "e": URL_SAFE_NO_PAD.encode(exponent)})
    }

    fn read(keys: &[Value]) -> Read {
        read_set(&json!({ "keys": keys }).to_string(), &ALGORITHMS).unwrap()
    }

    #[test]
    fn keys_that_are_no_good_are_not_used() {
        let good = || rsa(2048, &[1, 0, 1]);
        let with = |name: &str, value: Value| {
            let mut key = good();
            key[name] = value;
            key
        };
        for good in [
            good(),
            with("use", json!("sig")),
            with("alg", json!("RS256")),
            with("key_ops", json!(["verify"])),
            with("new", json!(1)),
            rsa(2048, &[3]),
            rsa(4096, &[0, 1, 0, 1]),
        ] {
            assert_eq!(read(std::slice::from_ref(&good)).keys.len(), 1, "{good}");
        }
        let ec = |curve: &str| json!({"kty": "EC", "crv": curve, "x": "AQ", "y": "AQ"});
        let secret = URL_SAFE_NO_PAD.encode([7; 64]);
        for (bad, reason) in [
            (rsa(2047, &[1, 0, 1]), "2047 bits of RSA"),
            (rsa(1024, &[1, 0, 1]), "1024 bits of RSA"),
            (rsa(2048, &[1]), "exponent"),
            (rsa(2048, &[0, 0, 1]), "exponent"),
            (rsa(2048, &[2]), "exponent"),
            (rsa(2048, &[]), "exponent"),
            (with("use", json!("enc")), "`use` is not `sig`"),
            (with("key_ops", json!(["encrypt", "sign"])), "`key_ops`"),
            (with("key_ops", json!([])), "`key_ops`"),
            (with("alg", json!("RSA-OAEP")), "for none of the listed"),
            (with("alg", json!("HS256")), "for none of the listed"),
            (with("alg", json!("ES256")), "for none of the listed"),
            (with("d", json!("AQ")), "a private key"),
            (
                json!({"kty": "oct", "k": secret}),
                "a shared secret, for none",
            ),
            (ec("P-384"), "for none of the listed"),
            (ec("P-521"), "its curve is not supported"),
            (ec("secp256k1"), "is not supported"),
            (
                json!({"kty": "OKP", "crv": "X25519", "x": "AQ"}),
                "its kind is not supported",
            ),
            (json!({"kty": "new"}), "is not supported"),
            (json!("key"), "key"),
            (json!(null), "null"),
        ] {
            let read = read(&[bad.clone(), good()]);
            assert_eq!(read.keys.len(), 1, "{bad}");
            let (place, said) = &read.unused[0];
            assert!(*place == 1 && said.contains(reason), "{bad}: {said}");
        }
    }

    #[test]
    fn a_set_has_keys_and_not_too_many() {
        for (text, reason) in [
            ("", "not a JSON Web Key Set"),
            ("[]", "not a JSON Web Key Set"),
            ("{}", "missing field `keys`"),
            (r#"{"keys": {}}"#, "not a JSON Web Key Set"),
            (r#"{"keys": []"#, "not a JSON Web Key Set"),
            (r#"{"keys": [], "keys": []}"#, "duplicate field"),
        ] {
            let problem = read_set(text, &ALGORITHMS).err().unwrap();
            assert!(problem.contains(reason), "{text}: {problem}");
        }
        let mut keys = vec![rsa(2048, &[1, 0, 1]); MOST_KEYS];
        assert_eq!(read(&keys).keys.len(), MOST_KEYS);
        keys.push(json!(null));
        let more = json!({ "keys": keys }).to_string();
        let problem = read_set(&more, &ALGORITHMS).err().unwrap();
        assert!(problem.contains("101 keys are too many"), "{problem}");
        let deep = format!("{{\"keys\": [{}", "[".repeat(100_000));
        assert!(read_set(&deep, &ALGORITHMS).is_err());
    }
}
