//! One token against a provider's keys and rules. Cheap checks come before expensive ones, and the
//! clock is the caller's.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::super::cache::Verified;
use super::super::identity::Likeness;
use super::super::refusal::Refusal;
use super::keys::{Key, Keys};

/// Longest token, header part and key id, in bytes.
pub(super) const LONGEST_TOKEN: usize = 8192;
const LONGEST_HEADER: usize = 1024;
const LONGEST_KEY_ID: usize = 256;

/// What a token says, in all of which it would be accepted if its signature is good.
pub(super) struct Claimed {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    from: u64,
    until: u64,
}

/// What tokens of a provider must be.
pub(super) struct Verifier {
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) issuer: Option<Box<str>>,
    pub(super) audiences: Box<[Box<str>]>,
    /// Seconds.
    pub(super) leeway: u64,
    pub(super) required_claims: Box<[Box<str>]>,
    pub(super) likeness: Likeness,
}

impl Claimed {
    /// Whether its signature takes longer to verify than the rest of the request takes.
    pub(super) fn is_costly(&self) -> bool {
        is_costly(self.algorithm)
    }
}

fn is_costly(algorithm: Algorithm) -> bool {
    !matches!(
        algorithm,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    )
}

impl Verifier {
    /// Whether there are tokens whose signature is costly to verify.
    pub(super) fn may_be_costly(&self) -> bool {
        self.algorithms.iter().any(|it| is_costly(*it))
    }

    /// Reads a token that one of these keys may have signed, at `now`, in seconds since 1970. Refuses what
    /// no signature could make good, whose token it is first of all.
    pub(super) fn read(&self, token: &str, keys: &Keys, now: u64) -> Result<Claimed, Refusal> {
        if token.len() > LONGEST_TOKEN {
            return Err(Refusal::TooLong);
        }
        let (header, claims, signature) = parts(token)?;
        let (header, claims) = (self.read_header(header), decode(claims));
        if let Ok(Unique(claims)) = &claims
            && self.is_of_another(claims)
        {
            return Err(Refusal::WrongIssuer);
        }
        let (algorithm, key_id) = header?;
        let Unique(claims) = claims?;
        if signature.is_empty() {
            return Err(Refusal::MalformedToken);
        }
        let _ = keys.candidates(algorithm, key_id.as_deref())?;
        let (from, until) = self.check_claims(&claims, now)?;
        Ok(Claimed {
            algorithm,
            key_id,
            claims,
            from,
            until,
        })
    }

    /// Why a token is refused while there are no keys.
    pub(super) fn without_keys(&self, token: &str) -> Refusal {
        match parts(token).and_then(|(_, claims, _)| decode(claims)) {
            Ok(Unique(claims)) if self.is_of_another(&claims) => Refusal::WrongIssuer,
            Ok(_) => Refusal::KeysUnavailable,
            Err(refusal) => refusal,
        }
    }

    /// Whether a token names another issuer: not a text, and exactly this one. A list is not an issuer
    /// (RFC 7519 §4.1.1).
    fn is_of_another(&self, claims: &Map<String, Value>) -> bool {
        let issuer = self.issuer.as_deref();
        issuer.is_some_and(|issuer| claims.get("iss").and_then(Value::as_str) != Some(issuer))
    }

    /// Verifies the signature of a token that was read.
    pub(super) fn confirm(
        &self,
        token: &str,
        claimed: Claimed,
        keys: &Keys,
    ) -> Result<Verified, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::MalformedToken)?;
        let candidates = keys.candidates(claimed.algorithm, claimed.key_id.as_deref())?;
        check_signature(message, signature, candidates, claimed.algorithm)?;
        Ok(Verified {
            identity: Arc::new(self.likeness.with(claimed.claims)),
            from: claimed.from,
            until: claimed.until,
        })
    }

    /// The algorithm and key that a token names. It is asked for neither keys nor addresses of keys.
    fn read_header(&self, encoded: &str) -> Result<(Algorithm, Option<String>), Refusal> {
        let Unique(mut header) = decode(encoded)?;
        if ["crit", "b64", "zip", "enc"]
            .iter()
            .any(|name| header.contains_key(*name))
        {
            return Err(Refusal::CriticalExtension);
        }
        let named = header
            .get("alg")
            .and_then(Value::as_str)
            .ok_or(Refusal::MalformedToken)?;
        let algorithm = *self
            .algorithms
            .iter()
            .find(|known| format!("{known:?}") == named)
            .ok_or(Refusal::AlgorithmNotAllowed)?;
        match header.remove("kid") {
            None => Ok((algorithm, None)),
            Some(Value::String(id)) if id.len() <= LONGEST_KEY_ID => Ok((algorithm, Some(id))),
            Some(_) => Err(Refusal::MalformedToken),
        }
    }

    /// From when until when the token is valid, leeway included.
    fn check_claims(&self, claims: &Map<String, Value>, now: u64) -> Result<(u64, u64), Refusal> {
        let expiry = match claims.get("exp") {
            None => return Err(Refusal::NoExpiry),
            Some(value) => seconds(value)?,
        };
        let until = expiry.saturating_add(self.leeway);
        if now >= until {
            return Err(Refusal::Expired);
        }
        let from = match claims.get("nbf") {
            None => 0,
            Some(value) => seconds(value)?.saturating_sub(self.leeway),
        };
        if now < from {
            return Err(Refusal::NotYetValid);
        }
        self.check_audience(claims.get("aud"))?;
        if self
            .required_claims
            .iter()
            .any(|name| claims.get(&**name).is_none_or(Value::is_null))
        {
            return Err(Refusal::ClaimMissing);
        }
        Ok((from, until))
    }

    /// A token that says whom it is for is for nobody else (RFC 7519 §4.1.3).
    fn check_audience(&self, claim: Option<&Value>) -> Result<(), Refusal> {
        let is_ours = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| self.audiences.iter().any(|ours| **ours == *text))
        };
        let is_right = match claim {
            None => self.audiences.is_empty(),
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().any(is_ours)
            }
            Some(value) => is_ours(value),
        };
        if is_right {
            Ok(())
        } else {
            Err(Refusal::WrongAudience)
        }
    }
}

/// Header, claims and signature, whatever they hold.
fn parts(token: &str) -> Result<(&str, &str, &str), Refusal> {
    let parts = token.split_once('.').and_then(|(header, rest)| {
        let (claims, signature) = rest.split_once('.')?;
        let is_whole = header.len() <= LONGEST_HEADER && !signature.contains('.');
        is_whole.then_some((header, claims, signature))
    });
    parts.ok_or(Refusal::MalformedToken)
}

/// Whether a text may be a token, as far as that can be seen without decoding it.
pub(super) fn has_shape(token: &str) -> bool {
    // No number of bytes is one digit more than some whole groups of four.
    let is_base64 = |part: &str| !part.is_empty() && part.len() % 4 != 1;
    token.len() <= LONGEST_TOKEN
        && parts(token).is_ok_and(|(header, claims, signature)| {
            [header, claims, signature].into_iter().all(is_base64)
        })
}

pub(super) fn check_signature<'k>(
    message: &str,
    signature: &str,
    keys: impl Iterator<Item = &'k Key>,
    algorithm: Algorithm,
) -> Result<(), Refusal> {
    for key in keys {
        let verdict =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm);
        if verdict.unwrap_or(false) {
            return Ok(());
        }
    }
    Err(Refusal::BadSignature)
}

/// A `NumericDate` (RFC 7519 §2): seconds, perhaps with a fraction, never negative.
fn seconds(value: &Value) -> Result<u64, Refusal> {
    if let Some(seconds) = value.as_u64() {
        return Ok(seconds);
    }
    match value.as_f64() {
        Some(seconds) if (0.0..1e15).contains(&seconds) => Ok(seconds as u64),
        _ => Err(Refusal::MalformedToken),
    }
}

fn decode(encoded: &str) -> Result<Unique, Refusal> {
    let json = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| Refusal::MalformedToken)?;
    serde_json::from_slice(&json).map_err(|error| {
        if error.to_string().starts_with(DUPLICATE) {
            Refusal::DuplicateClaim
        } else {
            Refusal::MalformedToken
        }
    })
}

const DUPLICATE: &str = "duplicate name";

/// A JSON object whose names are unique (RFC 7519 §4): two readers must not see two tokens in one.
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Unique;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(de::Error::custom(DUPLICATE));
                    }
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
