//! Signed requests as written: whose secrets there are, and what signatures must cover.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::secret::Secret;
use super::super::shape::{Dictionary, OneOrMany};
use super::super::source::Spanned;
use super::super::units::Period;

/// How signed requests are verified: HTTP Message Signatures (RFC 9421) with `hmac-sha256`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The secrets that are shared with signers, at least 32 bytes each, by the `keyid` of signatures.
    pub keys: Spanned<Dictionary<Spanned<Secret>>>,
    /// What a signature must cover at least: derived components, and fields of requests that have them.
    /// Default `["@method", "@authority", "@path", "@query"]`.
    #[serde(default = "components")]
    pub components: OneOrMany<Spanned<String>>,
    /// How old a signature may be, by its `created`. Default `60s`, at most `1d`.
    #[serde(default = "one_minute")]
    pub max_age: Spanned<Period>,
    /// How far clocks may differ when `created` and `expires` are checked. Default `5s`.
    #[serde(default = "five_seconds")]
    pub leeway: Spanned<Period>,
    /// Whether bodies are signed too, by their `Content-Digest` (RFC 9530). Default `required`.
    #[serde(default)]
    pub body: SignedBody,
    /// Whether a signature is good for more than one request. Default `refused`.
    #[serde(default)]
    pub replay: Replay,
    /// The header in which the `keyid` is forwarded. Default: none. What clients send in it is removed.
    pub forward_name: Option<Spanned<String>>,
}

/// What is asked of the bodies of signed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignedBody {
    /// A body must have a digest that the signature covers, and that it matches.
    #[default]
    Required,
    /// The same for requests whose signature covers a digest; the bodies of others may be anything.
    Optional,
    /// Digests are not looked at.
    Off,
}

/// What becomes of a signature that comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// It is refused. Each gateway remembers signatures for itself, until they are too old.
    #[default]
    Refused,
    /// It is good until it is too old.
    Allowed,
}

fn components() -> OneOrMany<Spanned<String>> {
    let names = ["@method", "@authority", "@path", "@query"];
    OneOrMany(names.map(|name| name.to_owned().into()).into())
}

fn one_minute() -> Spanned<Period> {
    Period::seconds(60).into()
}

fn five_seconds() -> Spanned<Period> {
    Period::seconds(5).into()
}
