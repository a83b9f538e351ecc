//! Concurrency limits as written: how many requests under way, counted by what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rate_limit::{LimitKey, by_client_ip, network_of_a_customer};
use super::shape::OneOrMany;
use super::source::Spanned;

/// A limit on how many requests of a client may be under way at once.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyLimit {
    /// Requests under way, 1 to 1000000. A WebSocket is under way as long as it is open.
    pub limit: Spanned<u64>,
    /// What is counted apart: `client_ip` (the default), `header:NAME`, `claim:NAME` (of the verified
    /// token), `consumer` (who comes), `route`, or `everyone`; a list counts each combination.
    #[serde(default = "by_client_ip")]
    pub by: OneOrMany<Spanned<LimitKey>>,
    /// An IPv6 client is counted as its network of this many bits, since a customer has a whole
    /// network. Default 64.
    #[serde(default = "network_of_a_customer")]
    pub ipv6_prefix: Spanned<u8>,
    /// Whether requests above it are refused. With `false` they pass, and the access log says that they
    /// would have been. Default `true`.
    #[serde(default = "enforced")]
    pub enforce: bool,
}

fn enforced() -> bool {
    true
}
