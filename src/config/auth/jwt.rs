//! JSON Web Tokens as written: where they are found and how they are verified.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::secret::{FileText, Secret};
use super::super::shape::{Dictionary, OneOrMany};
use super::super::source::Spanned;
use super::super::units::Period;
use super::TokenPlace;

/// How tokens are found and verified.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The `iss` that tokens must carry. Default: any.
    pub issuer: Option<Spanned<String>>,
    /// Tokens must name at least one of these in `aud`. Default: none asked for, and tokens that
    /// carry an audience are refused.
    #[serde(default)]
    pub audiences: OneOrMany<Spanned<String>>,
    /// The signature algorithms that are accepted. Never taken from the token. Default: none for keys that
    /// are given, and all but HS256, HS384 and HS512 for keys that are fetched.
    pub algorithms: Option<Spanned<OneOrMany<Spanned<JwtAlgorithm>>>>,
    /// The keys that tokens are verified with. Default: those that `issuer` publishes (OpenID Connect
    /// Discovery).
    pub keys: Option<Spanned<JwtKeys>>,
    /// How far clocks may differ when `exp` and `nbf` are checked. Default `30s`.
    #[serde(default = "thirty_seconds")]
    pub leeway: Spanned<Period>,
    /// Where tokens are looked for, in this order. Default `bearer`. A request with tokens in two of
    /// the places is refused.
    #[serde(default = "bearer")]
    pub token_from: OneOrMany<Spanned<TokenPlace>>,
    /// Claims that must be present, whatever their value. `exp` always must.
    #[serde(default)]
    pub required_claims: OneOrMany<Spanned<String>>,
    /// The claim that says who it is about, by which consumers are known. Default `sub`.
    #[serde(default = "subject")]
    pub subject_claim: Spanned<String>,
    /// Where the roles are that routes ask for: claims, or the ways to them. Default `roles`.
    #[serde(default = "roles")]
    pub roles_from: OneOrMany<Spanned<String>>,
    /// Claims to forward, each in the named header. What clients send in these headers is removed.
    #[serde(default)]
    pub forward_claims: Dictionary<Spanned<String>>,
    /// Verified tokens remembered, so that they are not verified again; 0 verifies each time.
    /// Default 16384. A full memory of long tokens takes about 1 KiB each.
    #[serde(default = "tokens_remembered")]
    pub cache_tokens: Spanned<usize>,
}

/// Signature algorithms of RFC 7518 and RFC 8037. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Where the keys of a provider come from: one of `secret`, `public_key`, `jwks` and `jwks_url`, or none
/// for those that `issuer` publishes. The rest is for keys that are fetched.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtKeys {
    /// A shared secret, for HS256, HS384 and HS512: at least as long as the hash (32, 48, 64 bytes).
    pub secret: Option<Spanned<Secret>>,
    /// A PEM public key, for the RS, PS, ES and EdDSA algorithms.
    pub public_key: Option<Spanned<FileText>>,
    /// A JSON Web Key Set (RFC 7517); a token's `kid` chooses the key.
    pub jwks: Option<Spanned<FileText>>,
    /// Where a JSON Web Key Set is fetched from, and fetched again: an `https` URL.
    pub jwks_url: Option<Spanned<String>>,
    /// How old fetched keys become before they are fetched again. Default `10m`, or less if their
    /// `Cache-Control` says so; unknown keys have them fetched at once, twice in 30 s at most.
    pub refresh: Spanned<Period>,
    /// How old they may become when they can't be fetched. Default `1d`.
    pub max_stale: Spanned<Period>,
    /// How long fetching them may take. Default `5s`.
    pub timeout: Spanned<Period>,
    /// A PEM file with the authorities that are trusted instead of the system's.
    pub ca: Option<Spanned<String>>,
}

impl Default for JwtKeys {
    fn default() -> Self {
        Self {
            secret: None,
            public_key: None,
            jwks: None,
            jwks_url: None,
            refresh: Period::seconds(600).into(),
            max_stale: Period::seconds(86_400).into(),
            timeout: Period::seconds(5).into(),
            ca: None,
        }
    }
}

fn thirty_seconds() -> Spanned<Period> {
    Period::seconds(30).into()
}

fn bearer() -> OneOrMany<Spanned<TokenPlace>> {
    OneOrMany(vec![TokenPlace::Bearer.into()])
}

fn tokens_remembered() -> Spanned<usize> {
    16_384.into()
}

fn subject() -> Spanned<String> {
    "sub".to_owned().into()
}

fn roles() -> OneOrMany<Spanned<String>> {
    OneOrMany(vec!["roles".to_owned().into()])
}
