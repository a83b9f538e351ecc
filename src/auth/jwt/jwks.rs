//! Keys from a JSON Web Key Set (RFC 7517).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};

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
    let jwk: Jwk = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|used| *used != PublicKeyUse::Signature)
    {
        return Err("its `use` is not `sig`".into());
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    let bytes = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| error.to_string())
    };
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = bytes(&rsa.n)?;
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count() as u32 * 8;
            let exponent = bytes(&rsa.e)?;
            if exponent
                .iter()
                .fold(0u64, |e, byte| e << 8 | u64::from(*byte))
                < 3
            {
                return Err("its exponent is too small".into());
            }
            Kind::Rsa { bits }
        }
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
