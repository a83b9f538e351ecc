//! Consumers as written: named identities, their groups and their limits.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rate_limit::RateLimit;
use super::shape::{Dictionary, OneOrMany};
use super::source::Spanned;

/// Somebody who uses the services, by whichever credentials.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    /// What providers call this consumer, by the provider's name: the subject of tokens, the name of an
    /// API key, a user's name.
    pub credentials: Dictionary<OneOrMany<Spanned<String>>>,
    /// Groups that it is in.
    pub groups: OneOrMany<Spanned<String>>,
    /// Limits on its traffic, in place of those limits of routes that count by who comes
    /// (`consumer`, `claim:NAME`). Default: those of the first of its groups that has some.
    pub rate_limit: Option<Spanned<OneOrMany<RateLimit>>>,
}

/// What consumers of a group have in common.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerGroup {
    /// Limits on the traffic of each consumer in it that has none of its own.
    pub rate_limit: Option<Spanned<OneOrMany<RateLimit>>>,
}
