//! Bandwidth limits as written: how many bytes a second, in which direction, counted by what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rate_limit::{LimitKey, network_of_a_customer};
use super::shape::OneOrMany;
use super::source::Spanned;
use super::units::{ByteRate, ByteSize};

/// A limit on how fast bodies pass. It slows down, and refuses nobody.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BandwidthLimit {
    /// Bytes a second towards the client, `1KiB/s` to `1TiB/s`. Default: no limit.
    pub response: Option<Spanned<ByteRate>>,
    /// Bytes a second from the client, `1KiB/s` to `1TiB/s`. Default: no limit.
    pub request: Option<Spanned<ByteRate>>,
    /// What shares the rate: the requests of a `client_ip` (the default), a `header:NAME`, a `claim:NAME`
    /// (of the verified token), a `consumer`, a `route`, or of `everyone`; a list is each combination.
    /// `request`: each request has it for itself.
    #[serde(default = "by_client_ip")]
    pub by: OneOrMany<Spanned<BandwidthKey>>,
    /// An IPv6 client is its network of this many bits, since a customer has a whole network. Default 64.
    #[serde(default = "network_of_a_customer")]
    pub ipv6_prefix: Spanned<u8>,
    /// Bytes that may pass at once after a pause, up to `1TiB`. Default: what passes in a second, and at
    /// least `256KiB`: with less, the beginning of an answer waits with the first piece of its body.
    pub burst: Option<Spanned<ByteSize>>,
}

/// What shares a bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BandwidthKey {
    /// Nothing: each request has it for itself.
    Request,
    /// What limits count by.
    Of(LimitKey),
}

fn by_client_ip() -> OneOrMany<Spanned<BandwidthKey>> {
    OneOrMany(vec![BandwidthKey::Of(LimitKey::ClientIp).into()])
}
