//! Authentication providers, and what a route asks of them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::secret::{FileText, Secret};
use super::shape::{Dictionary, FromMap, OneOrMany, text_or_map};
use super::source::Spanned;
use super::units::Period;

/// A way in which requests prove who they are.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthProvider {
    /// JSON Web Tokens (RFC 7519), signed (RFC 7515), verified as RFC 8725 advises.
    pub jwt: Spanned<Jwt>,
}

/// How tokens are found and verified.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
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
    /// Claims to forward, each in the named header. What clients send in these headers is removed.
    #[serde(default)]
    pub forward_claims: Dictionary<Spanned<String>>,
    /// Verified tokens remembered, so that they are not verified again; 0 verifies each time.
    /// Default 16384. A full memory of long tokens takes about 1 KiB each.
    #[serde(default = "tokens_remembered")]
    pub cache_tokens: Spanned<usize>,
}

/// Signature algorithms of RFC 7518 and RFC 8037. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
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

/// Where a token is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer,
    /// The whole value of a header (lower-case name).
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter. It is forwarded with the request and may end up in logs behind the
    /// gateway.
    Query(String),
}

/// What a route asks for. A bare string is short for `{ provider: … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthRule(pub AuthRuleFields);

/// The provider that must vouch for a request, and what it must say.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthRuleFields {
    /// A name under `auth_providers`.
    pub provider: Spanned<String>,
    /// What the token must carry beyond being valid; else the answer is 403.
    #[serde(default)]
    pub require: Requirements,
}

/// What a token must carry.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requirements {
    /// Scopes (RFC 6749 §3.3) that must all be in the token's `scope` or `scp`.
    pub scope: OneOrMany<Spanned<String>>,
    /// Claims that must be equal to, or hold, one of the values.
    pub claims: Dictionary<OneOrMany<Spanned<String>>>,
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

impl From<AuthRuleFields> for AuthRule {
    fn from(fields: AuthRuleFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for AuthRule {
    type Fields = AuthRuleFields;
}

impl std::ops::Deref for AuthRule {
    type Target = AuthRuleFields;
    fn deref(&self) -> &AuthRuleFields {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AuthRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "a provider's name or a map with `provider`",
            |text| {
                Ok(Self(AuthRuleFields {
                    provider: text.to_owned().into(),
                    require: Requirements::default(),
                }))
            },
        )
    }
}

impl JsonSchema for AuthRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthRule".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fields = generator.subschema_for::<AuthRuleFields>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, fields] })
    }
}
