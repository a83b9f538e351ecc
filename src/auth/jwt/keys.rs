//! The keys of a provider, each bound to the algorithms it may be used with.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::x509::X509;

use super::super::refusal::Refusal;
use super::jwks::from_jwks;
use crate::config::{
    Diagnostics, FileText, Jwt, JwtAlgorithm, JwtKeys, OneOrMany, Secret, Span, Spanned,
};

/// Shortest RSA modulus (RFC 7518 §3.3).
pub(super) const SHORTEST_RSA_BITS: u32 = 2048;

/// A key and what it may be used for: the algorithm is never the token's choice alone.
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) decoding: DecodingKey,
    /// As it was published; empty for keys that were not.
    pub(super) text: Box<str>,
}

/// All keys of a provider.
#[derive(Clone)]
pub(super) struct Keys {
    keys: Arc<[Key]>,
    /// The keys have ids, so tokens choose by them.
    has_ids: bool,
}

/// What a key is, as far as algorithms care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret { bytes: usize },
    Rsa { bits: u32 },
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm::{
            ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        match algorithm {
            HS256 | HS384 | HS512 => matches!(self, Self::Secret { .. }),
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => matches!(self, Self::Rsa { .. }),
            ES256 => self == Self::P256,
            ES384 => self == Self::P384,
            EdDSA => self == Self::Ed25519,
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Secret { .. } => "a shared secret",
            Self::Rsa { .. } => "an RSA key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::Ed25519 => "an Ed25519 key",
        }
    }

    fn algorithms(self) -> &'static str {
        match self {
            Self::Secret { .. } => "HS256, HS384 or HS512",
            Self::Rsa { .. } => "RS256, RS384, RS512, PS256, PS384 or PS512",
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }
}

impl Keys {
    /// Compiles the keys of a provider that are given, and the algorithms they are for, or reports every
    /// reason why they can't be used.
    pub(super) fn compile(
        jwt: &Spanned<Jwt>,
        keys: &JwtKeys,
        diagnostics: &mut Diagnostics,
    ) -> Option<(Self, Vec<JwtAlgorithm>)> {
        let Some(written) = &jwt.algorithms else {
            if !diagnostics.has_lost(jwt.span, "algorithms") {
                diagnostics
                    .error(jwt.span, "`algorithms` is missing")
                    .help("list what your tokens are signed with, such as `[RS256]`");
            }
            return None;
        };
        let algorithms: Vec<JwtAlgorithm> = written.iter().map(|a| a.value).collect();
        if algorithms.is_empty() {
            if diagnostics.has_error_within(written.span) {
                return None;
            }
            diagnostics
                .error(
                    written.span,
                    "`algorithms` is empty, so every token would be refused",
                )
                .help("list what your tokens are signed with, such as `[RS256]`");
            return None;
        }
        let keys = if let Some(secret) = &keys.secret {
            from_secret(secret, written, diagnostics)
        } else if let Some(pem) = &keys.public_key {
            from_pem(pem, &algorithms, written.span, diagnostics)
        } else {
            from_jwks(keys.jwks.as_ref()?, &algorithms, diagnostics)
        };
        Some((keys?, algorithms))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether all the other ones are among them.
    pub(super) fn include(&self, others: &Self) -> bool {
        let is_here = |other: &Key| self.keys.iter().any(|key| key.is_same_as(other));
        others.keys.iter().all(is_here)
    }

    /// The keys that a token may have been signed with.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<impl Iterator<Item = &Key>, Refusal> {
        // Without ids there is one key, and what the token calls it does not matter.
        let id = if self.has_ids { id } else { None };
        let fits = move |key: &&Key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        match self.keys.iter().filter(fits).count() {
            0 => Err(Refusal::UnknownKey),
            // A guess among several keys would verify a token several times over.
            2.. if id.is_none() => Err(Refusal::UnknownKey),
            _ => Ok(self.keys.iter().filter(fits).take(4)),
        }
    }
}

fn from_secret(
    secret: &Spanned<Secret>,
    written: &OneOrMany<Spanned<JwtAlgorithm>>,
    diagnostics: &mut Diagnostics,
) -> Option<Keys> {
    let bytes = secret.expose().as_bytes();
    let mut is_sound = true;
    for algorithm in written.iter() {
        let needed = match algorithm.value {
            JwtAlgorithm::HS256 => 32,
            JwtAlgorithm::HS384 => 48,
            JwtAlgorithm::HS512 => 64,
            other => {
                diagnostics
                    .error(
                        algorithm.span,
                        format!("{other:?} can't be used with a shared secret"),
                    )
                    .help("use HS256, HS384 or HS512, or give a `public_key` or `jwks`");
                is_sound = false;
                continue;
            }
        };
        if bytes.len() < needed {
            diagnostics
                .error(
                    secret.span,
                    format!(
                        "the secret has {} bytes, and {:?} needs {needed}",
                        bytes.len(),
                        algorithm.value
                    ),
                )
                .help(format!(
                    "make one with `openssl rand -base64 {needed}` (RFC 7518 §3.2)"
                ));
            is_sound = false;
        }
    }
    let kind = Kind::Secret { bytes: bytes.len() };
    let algorithms: Vec<JwtAlgorithm> = written.iter().map(|a| a.value).collect();
    is_sound.then(|| Keys::single(DecodingKey::from_secret(bytes), kind, &algorithms))
}

impl Keys {
    /// The keys of a set.
    pub(super) fn several(keys: Vec<Key>) -> Self {
        Self {
            has_ids: keys.len() > 1 || keys.iter().any(|key| key.id.is_some()),
            keys: keys.into(),
        }
    }

    fn single(decoding: DecodingKey, kind: Kind, algorithms: &[JwtAlgorithm]) -> Self {
        Self {
            keys: Arc::new([Key::new(None, decoding, kind, algorithms)]),
            has_ids: false,
        }
    }
}

impl Key {
    pub(super) fn new(
        id: Option<&str>,
        decoding: DecodingKey,
        kind: Kind,
        algorithms: &[JwtAlgorithm],
    ) -> Self {
        let fitting = algorithms.iter().filter(|algorithm| kind.fits(**algorithm));
        Self {
            id: id.map(Into::into),
            algorithms: fitting.map(|algorithm| to_library(*algorithm)).collect(),
            decoding,
            text: Box::default(),
        }
    }

    fn is_same_as(&self, other: &Self) -> bool {
        self.text == other.text && self.algorithms == other.algorithms
    }
}

pub(super) fn to_library(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

fn from_pem(
    pem: &Spanned<FileText>,
    algorithms: &[JwtAlgorithm],
    algorithms_span: Span,
    diagnostics: &mut Diagnostics,
) -> Option<Keys> {
    let text = pem.text();
    if text.contains("PRIVATE KEY") {
        diagnostics
            .error(
                pem.span,
                "this is a private key, and the gateway must not have it",
            )
            .help("give the public key: `openssl pkey -in key.pem -pubout`");
        return None;
    }
    if text.is_empty() && pem.file.is_some() {
        // That the file can't be read has been reported.
        return None;
    }
    let key = if text.contains("BEGIN CERTIFICATE") {
        X509::from_pem(text.as_bytes()).and_then(|certificate| certificate.public_key())
    } else {
        PKey::public_key_from_pem(text.as_bytes())
    };
    let Ok(key) = key else {
        diagnostics
            .error(pem.span, "this is not a public key")
            .help("give PEM text with `-----BEGIN PUBLIC KEY-----`, or `{ file: path }`");
        return None;
    };
    match public_key(&key) {
        Some((decoding, kind)) => {
            check_fit(kind, algorithms, pem.span, algorithms_span, diagnostics)
                .then(|| Keys::single(decoding, kind, algorithms))
        }
        None => {
            diagnostics
                .error(pem.span, "keys of this kind are not supported")
                .help("use RSA, EC P-256 or P-384, or Ed25519");
            None
        }
    }
}

fn check_fit(
    kind: Kind,
    algorithms: &[JwtAlgorithm],
    span: Span,
    algorithms_span: Span,
    diagnostics: &mut Diagnostics,
) -> bool {
    let misfits: Vec<String> = algorithms
        .iter()
        .filter(|algorithm| !kind.fits(**algorithm))
        .map(|algorithm| format!("{algorithm:?}"))
        .collect();
    if !misfits.is_empty() {
        diagnostics
            .error(
                algorithms_span,
                format!("{} can't be used with {}", misfits.join(", "), kind.noun()),
            )
            .related(span, "the key")
            .help(format!("this key is for {}", kind.algorithms()));
    }
    let is_long_enough = !matches!(kind, Kind::Rsa { bits } if bits < SHORTEST_RSA_BITS);
    if let Kind::Rsa { bits } = kind
        && !is_long_enough
    {
        diagnostics
            .error(span, format!("an RSA key of {bits} bits is too short"))
            .help(format!(
                "use at least {SHORTEST_RSA_BITS} bits (RFC 7518 §3.3)"
            ));
    }
    misfits.is_empty() && is_long_enough
}

fn public_key(key: &PKey<Public>) -> Option<(DecodingKey, Kind)> {
    match key.id() {
        Id::RSA => {
            let rsa = key.rsa().ok()?;
            let decoding =
                DecodingKey::from_rsa_raw_components(&rsa.n().to_vec(), &rsa.e().to_vec());
            Some((decoding, Kind::Rsa { bits: key.bits() }))
        }
        Id::EC => {
            let ec = key.ec_key().ok()?;
            let kind = match ec.group().curve_name()? {
                Nid::X9_62_PRIME256V1 => Kind::P256,
                Nid::SECP384R1 => Kind::P384,
                _ => return None,
            };
            let mut context = openssl::bn::BigNumContext::new().ok()?;
            let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
            let point = ec
                .public_key()
                .to_bytes(ec.group(), form, &mut context)
                .ok()?;
            Some((DecodingKey::from_ec_der(&point), kind))
        }
        Id::ED25519 => Some((
            DecodingKey::from_ed_der(&key.raw_public_key().ok()?),
            Kind::Ed25519,
        )),
        _ => None,
    }
}
