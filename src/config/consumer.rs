//! Consumers as written: named identities, their groups and their limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bandwidth_limit::BandwidthLimit;
use super::concurrency_limit::ConcurrencyLimit;
use super::rate_limit::RateLimit;
use super::shape::{Dictionary, OneOrMany};
use super::source::Spanned;

/// Somebody who uses the services, by whichever credentials.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Consumer {
    /// What providers call this consumer, by the provider's name: the subject of tokens, the name of an
    /// API key, a user's name.
    pub credentials: Dictionary<OneOrMany<Spanned<String>>>,
    /// Groups that it is in.
    pub groups: OneOrMany<Spanned<String>>,
    /// Where its days and months begin, as the time zone database calls it, such as `Europe/Berlin`, for
    /// limits by `consumer` with `window: day` or `month`. Default: what those limits say.
    pub time_zone: Option<Spanned<String>>,
    /// Limits on its traffic, in place of those limits of routes that count by who comes
    /// (`consumer`, `claim:NAME`). Default: those of the first of its groups that has some.
    pub rate_limit: Option<Spanned<OneOrMany<RateLimit>>>,
    /// How many of its requests may be under way at once, in place of those limits of routes that count
    /// by who comes. Default: as the first of its groups says that says something.
    pub concurrency_limit: Option<Spanned<OneOrMany<ConcurrencyLimit>>>,
    /// How fast the bodies of its requests and their answers pass, in place of what routes say. Default:
    /// as the first of its groups says that says something.
    pub bandwidth_limit: Option<Spanned<BandwidthLimit>>,
}

/// What consumers of a group have in common.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerGroup {
    /// Limits on the traffic of each consumer in it that has none of its own.
    pub rate_limit: Option<Spanned<OneOrMany<RateLimit>>>,
    /// How many requests of each consumer in it may be under way at once, unless that says so itself.
    pub concurrency_limit: Option<Spanned<OneOrMany<ConcurrencyLimit>>>,
    /// How fast the bodies of each consumer in it pass, unless that says so itself.
    pub bandwidth_limit: Option<Spanned<BandwidthLimit>>,
}
