//! Keys from a JSON Web Key Set (RFC 7517).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};

use super::keys::{Key, Keys, Kind, SHORTEST_RSA_BITS};
use crate::config::{Diagnostics, FileText, JwtAlgorithm, Spanned};

/// Most keys of a set.
const MOST_KEYS: usize = 100;

/// The keys of a set that fit the algorithms, or a report of what is wrong with it.
pub(super) fn from_jwks(
    jwks: &Spanned<FileText>,
    algorithms: &[JwtAlgorithm],
    diagnostics: &mut Diagnostics,
) -> Option<Keys> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    if jwks.text().is_empty() && jwks.file.is_some() {
        return None;
    }
    let set: Set = match serde_json::from_str(jwks.text()) {
        Ok(set) => set,
        Err(error) => {
            diagnostics
                .error(
                    jwks.span,
                    format!("this is not a JSON Web Key Set: {error}"),
                )
                .help("it must be `{\"keys\": [...]}` (RFC 7517 §5)");
            return None;
        }
    };
    if set.keys.len() > MOST_KEYS {
        diagnostics.error(
            jwks.span,
            format!("{} keys are too many: at most {MOST_KEYS}", set.keys.len()),
        );
        return None;
    }
    let mut keys: Vec<Key> = Vec::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        match read_jwk(value, algorithms) {
            Ok(key) if key.id.is_some() && keys.iter().any(|known| known.id == key.id) => {
                diagnostics.warning(
                    jwks.span,
                    format!("key {} has the `kid` of another", index + 1),
                );
                keys.push(key);
            }
            Ok(key) => keys.push(key),
            Err(reason) => {
                diagnostics.warning(
                    jwks.span,
                    format!("key {} of the set is not used: {reason}", index + 1),
                );
            }
        }
    }
    if keys.is_empty() {
        diagnostics
            .error(jwks.span, "the set holds no key for these algorithms")
            .help("list the algorithms of its keys in `algorithms`");
        return None;
    }
    Some(Keys::several(keys))
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
