//! Rate limits as written: how many, in which window, counted by what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::{Dictionary, OneOrMany};
use super::source::Spanned;
use super::units::Period;
use super::{LimitAmount, LimitCost, LimitWindow};

/// A limit on how many requests a client may make, or on what they may cost.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests in one window, or units of what they cost: 1 to 1000000, and to 1000000000000 in a `day`
    /// or `month`. With `cost: response_bytes` a size, to `16TiB`.
    pub limit: Spanned<LimitAmount>,
    /// The window: `100ms` to `1d`, or the `day` or `month` of the calendar.
    pub window: Spanned<LimitWindow>,
    /// What is counted apart: `client_ip` (the default), `header:NAME`, `claim:NAME` (of the verified
    /// token), `consumer` (who comes), `route`, or `everyone`; a list counts each combination.
    #[serde(default = "by_client_ip")]
    pub by: OneOrMany<Spanned<LimitKey>>,
    /// An IPv6 client is counted as its network of this many bits, since a customer has a whole
    /// network. Default 64.
    #[serde(default = "network_of_a_customer")]
    pub ipv6_prefix: Spanned<u8>,
    /// How the window is kept, if it is not one of the calendar. Default `sliding_window`.
    #[serde(default)]
    pub algorithm: Spanned<LimitAlgorithm>,
    /// With `token_bucket`: how many requests may come at once, or what they may cost. Default: `limit`.
    pub burst: Option<Spanned<LimitAmount>>,
    /// With `window: day` or `month`: where, as the time zone database calls it, such as
    /// `Europe/Berlin`. In a limit by `consumer`, a consumer's own `time_zone` goes before it. Default
    /// `UTC`.
    pub time_zone: Option<Spanned<String>>,
    /// What a request costs: 1 to 1000000, or what its answer says once it is there: `response_bytes`,
    /// or `response_header:NAME`. Default 1.
    #[serde(default)]
    pub cost: Spanned<LimitCost>,
    /// Where it is counted: `local` (the default), in this gateway alone, or `redis`, together with all
    /// gateways that have the same limit.
    #[serde(default)]
    pub store: Spanned<LimitStore>,
    /// With `store: redis`: whether requests wait for it. Default `fast`, and `strict` if answers say what
    /// requests cost.
    pub mode: Option<Spanned<LimitMode>>,
    /// With `store: redis`: how requests are decided while it can't be asked. Default `local`.
    pub on_store_failure: Option<Spanned<OnStoreFailure>>,
    /// `false` tries the limit out: it counts, the log and the metrics say what it would refuse, and nobody
    /// else notices it. Default `true`.
    #[serde(default = "enforced")]
    pub enforce: bool,
    /// Requests above the limit wait, in the order in which they came, instead of being refused at once.
    /// Default: they do not.
    pub queue: Option<Spanned<LimitQueue>>,
    /// What is answered in place of the problem document. `Retry-After` and the `RateLimit` fields stay.
    pub refusal: Option<Spanned<LimitRefusal>>,
    /// `Retry-After` is put off by up to this much, at random, so that those who were refused together do
    /// not come back together; up to `1h`. Default `0s`.
    #[serde(default)]
    pub retry_jitter: Spanned<Period>,
    /// Whether clients are told of it in `X-RateLimit-Limit`, `X-RateLimit-Remaining` and
    /// `X-RateLimit-Reset` (seconds), too. Default `false`.
    #[serde(default)]
    pub legacy_headers: bool,
}

/// How requests wait for a limit.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitQueue {
    /// The longest that a request waits, `1ms` to `1m`, and no longer than `server.shutdown.deadline`. One
    /// that would have to wait longer is refused at once.
    pub max_wait: Spanned<Period>,
    /// How many requests wait at a time, whoever they come from, 1 to 10000; those beyond are refused at
    /// once. Each is an open connection. Default 100.
    #[serde(default = "a_hundred")]
    pub max_waiting: Spanned<u64>,
}

/// What a client is answered whom a limit refuses.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitRefusal {
    /// The status, 400 to 599. Default 429.
    pub status: Spanned<u16>,
    /// Header fields of the answer.
    pub headers: Dictionary<Spanned<String>>,
    /// The body; `text/plain` unless `headers` say otherwise.
    pub body: String,
}

/// Where a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitStore {
    /// In this gateway.
    #[default]
    Local,
    /// In the server that `redis` names.
    Redis,
}

/// How a shared limit is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// From what the gateway has taken ahead of the shared count, mostly without asking; all gateways
    /// together may admit a little more than the limit.
    #[default]
    Fast,
    /// Each request asks the store: never more than the limit is admitted, and each waits for the answer.
    Strict,
}

/// How a shared limit is decided while the store can't be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// By this gateway's share of the limit: one part for each gateway that was there.
    #[default]
    Local,
    /// Every request is admitted.
    Allow,
    /// Every request is refused.
    Deny,
}

/// How the window of a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitAlgorithm {
    /// The window starts with a key's first request and is full after `limit` of them. Up to twice
    /// `limit` can pass around the end of a window.
    FixedWindow,
    /// The count of the last window fades while the current one grows, so that the rate holds over
    /// the window's end.
    #[default]
    SlidingWindow,
    /// Tokens come back one by one at `limit` a `window`, up to `burst`.
    TokenBucket,
}

/// What a limit counts apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// The client's address.
    ClientIp,
    /// The value of a request header (lower-case name). Requests without it share one count.
    Header(String),
    /// A claim of the verified token. Requests without it share one count.
    Claim(String),
    /// Who comes: the consumer, or what the provider calls it if it is none.
    Consumer,
    /// The route, where the limit stands above several.
    Route,
    /// Nothing: one count for all.
    Everyone,
}

impl RateLimit {
    /// A limit of which only the numbers are written.
    pub fn new(limit: impl Into<Spanned<u64>>, window: impl Into<Spanned<Period>>) -> Self {
        Self {
            limit: limit.into().map(LimitAmount::Units),
            window: window.into().map(LimitWindow::Length),
            by: by_client_ip(),
            ipv6_prefix: network_of_a_customer(),
            algorithm: Spanned::default(),
            burst: None,
            time_zone: None,
            cost: Spanned::default(),
            store: Spanned::default(),
            mode: None,
            on_store_failure: None,
            enforce: enforced(),
            queue: None,
            refusal: None,
            retry_jitter: Spanned::default(),
            legacy_headers: false,
        }
    }
}

impl Default for LimitRefusal {
    fn default() -> Self {
        Self {
            status: 429.into(),
            headers: Dictionary::new(),
            body: String::new(),
        }
    }
}

pub(super) fn by_client_ip() -> OneOrMany<Spanned<LimitKey>> {
    OneOrMany(vec![LimitKey::ClientIp.into()])
}

pub(super) fn network_of_a_customer() -> Spanned<u8> {
    64.into()
}

fn enforced() -> bool {
    true
}

fn a_hundred() -> Spanned<u64> {
    100.into()
}
