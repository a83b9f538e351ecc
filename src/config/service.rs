//! A service: the backends behind the gateway and the routes that lead to them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::auth::AuthRule;
use super::bandwidth_limit::BandwidthLimit;
use super::cache::Cache;
use super::concurrency_limit::ConcurrencyLimit;
use super::fallback::Fallback;
use super::health::HealthCheck;
use super::listener::RedirectHttps;
use super::policy::{Access, Cors, HeaderEdits, Timeouts};
use super::proxy_protocol::ProxyProtocolVersion;
use super::rate_limit::RateLimit;
use super::resilience::{CircuitBreaker, OutlierDetection, Retry};
use super::root::Priority;
use super::route::Route;
use super::security::SecurityHeaders;
use super::shape::{FromMap, OneOrMany, Policy, text_or_map};
use super::source::Spanned;
use super::units::{ByteSize, Period};

/// A service: where it lives and which requests go there.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The one backend, as `http://host:port/prefix`, `https://…`, or `unix:/path` for a socket in the file
    /// system. Its path is put before the
    /// path of every forwarded request. Either this or `targets`.
    pub base_url: Option<Spanned<String>>,
    /// Several backends that share the traffic. Either this or `base_url`.
    pub targets: Option<Spanned<Vec<Spanned<Target>>>>,
    /// How the targets share the traffic: `least_requests` (the default), `round_robin`, `peak_ewma`,
    /// `random`, or `{ hash: KEY }` by `client_ip`, `path`, `header:NAME` or `cookie:NAME`.
    pub load_balancing: Option<Spanned<LoadBalancing>>,
    /// For how long a target that comes back gets less than its share, growing from a tenth. Default
    /// `10s`.
    pub slow_start: Policy<Period>,
    /// How the targets are asked whether they are well. Default: they are not.
    pub health_check: Policy<HealthCheck>,
    /// When a target gets no requests for a while because it fails. On unless `off`.
    pub outlier_detection: Policy<OutlierDetection>,
    /// When the service gets no requests for a while because it fails. On unless `off`.
    pub circuit_breaker: Policy<CircuitBreaker>,
    /// How `https` backends are verified, and what they are shown.
    pub tls: Option<Spanned<UpstreamTls>>,
    /// What backends speak: `http1` (the default), `http2` (which they have to know beforehand where they have no
    /// TLS; gRPC needs it), or `auto`: whichever an `https` backend prefers (ALPN), and HTTP/1.1 with others.
    pub protocol: Option<Spanned<Protocol>>,
    /// Whether backends are told in front of each connection which client it is for, by this version of the
    /// PROXY protocol: `v1` or `v2`. Default: they are not. A connection is then never shared by clients.
    pub proxy_protocol: Option<Spanned<ProxyProtocolVersion>>,
    /// The `Host` that backends see: `upstream` (the host of its URL, the default), `client` (what
    /// the client sent), or a fixed name.
    pub host_header: Option<Spanned<HostHeader>>,
    /// Which requests go to this service.
    pub routes: Vec<Spanned<Route>>,

    /// Limits on this service's traffic; replaces the top level's.
    pub rate_limit: Policy<OneOrMany<RateLimit>>,
    /// What one request on this service's routes costs, 1 to 1000000, in place of the fixed `cost` of limits.
    /// Default: what those say.
    pub rate_limit_cost: Option<Spanned<u64>>,
    /// How many requests of a client may be under way at once, on this service's routes.
    pub concurrency_limit: Policy<OneOrMany<ConcurrencyLimit>>,
    /// How fast bodies pass, on this service's routes.
    pub bandwidth_limit: Policy<BandwidthLimit>,
    /// Who may come in, on this service's routes.
    pub auth: Policy<AuthRule>,
    /// Whether what comes in clear to this service's routes is answered with 308 to the same URL with `https`:
    /// `true`, `false`, or the port if it is not 443, unless the listener says another. Default: as the listener
    /// does.
    pub redirect_https: Option<Spanned<RedirectHttps>>,
    /// Which answers are kept and given again.
    pub cache: Policy<Cache>,
    /// How long this service's upstreams may take.
    pub timeouts: Policy<Timeouts>,
    /// Which failed attempts are repeated, on this service's routes.
    pub retry: Policy<Retry>,
    /// What clients get when the service can't answer, on this service's routes.
    pub fallback: Policy<Fallback>,
    /// How important requests are when there is too much to do, on this service's routes: `low`, `normal` (the
    /// default) or `high`.
    pub priority: Option<Spanned<Priority>>,
    /// Whether calls of browsers (gRPC-Web) are made gRPC for the backends, which need `protocol: http2`, on this service's routes.
    /// Default `false`.
    pub grpc_web: Option<Spanned<bool>>,
    /// Header edits on this service's routes.
    pub headers: Policy<HeaderEdits>,
    /// Cross-origin rules on this service's routes.
    pub cors: Policy<Cors>,
    /// What browsers are told to beware of, on this service's routes: `api`, `web`, or more.
    pub security_headers: Policy<SecurityHeaders>,
    /// Which addresses may come in, on this service's routes.
    pub access: Policy<Access>,
    /// The largest request body on this service's routes.
    pub body_limit: Policy<ByteSize>,
}

/// One of several backends: a URL, or `{ url, weight }`, `{ dns, … }`, `{ srv, … }`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "built once, at load")]
pub enum Target {
    /// `http://10.0.0.1:9001`, with weight 1.
    Url(Spanned<String>),
    /// With its share of the traffic, or found by a name.
    Detailed(TargetFields),
}

/// A backend, or the backends behind a name. Exactly one of `url`, `dns` and `srv`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetFields {
    /// `http://10.0.0.1:9001`.
    pub url: Option<Spanned<String>>,
    /// `orders.internal:9001` or `https://orders.internal`: every address of the name is a backend.
    pub dns: Option<Spanned<String>>,
    /// `_http._tcp.orders.internal` or `https://_orders._tcp.internal`: every place that is listed
    /// under the name is a backend (SRV records, RFC 2782).
    pub srv: Option<Spanned<String>>,
    /// Share of the traffic against the other targets' weights, 1 to 1000; of each backend behind a
    /// name. Default 1.
    pub weight: Option<Spanned<u32>>,
    /// With `dns` and `srv`: how often the name is looked up. Default: when its answer expires, at
    /// least each minute and at most each second.
    pub refresh: Option<Spanned<Period>>,
}

impl From<TargetFields> for Target {
    fn from(target: TargetFields) -> Self {
        Self::Detailed(target)
    }
}

impl FromMap<'_> for Target {
    type Fields = TargetFields;
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "a URL or a map with `url`, `dns` or `srv`",
            |text| Ok(Self::Url(text.to_owned().into())),
        )
    }
}

/// How targets share the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// In turn, each as often as its weight says, evenly spread.
    RoundRobin,
    /// In turn, unless another one has fewer requests under way for its weight.
    LeastRequests,
    /// The one of two that answers sooner, by how long its answers took lately.
    PeakEwma,
    /// At random, each as often as its weight says.
    Random,
    /// The same one for the same key, as long as it is there and well.
    Hash(HashKey),
}

/// What of a request always leads to the same target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The path.
    Path,
    /// The value of a header (lower-case name).
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

/// The long form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashBalancing {
    hash: HashKey,
}

impl From<HashBalancing> for LoadBalancing {
    fn from(written: HashBalancing) -> Self {
        Self::Hash(written.hash)
    }
}

impl FromMap<'_> for LoadBalancing {
    type Fields = HashBalancing;
}

impl<'de> Deserialize<'de> for LoadBalancing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "a way to share the traffic", Self::parse)
    }
}

/// What backends speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 and nothing else.
    Http2,
    /// What an `https` backend prefers.
    Auto,
}

/// How `https` backends are verified, and what they are shown.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// A PEM file of the authorities to trust instead of the system's.
    pub ca: Option<Spanned<String>>,
    /// The name that the certificate must carry; the URL's host unless written.
    pub server_name: Option<Spanned<String>>,
    /// Whether the certificate is verified. `false` lets anyone on the way pose as the backend.
    pub verify: Spanned<bool>,
    /// A PEM file with the certificate that backends are shown which ask for one, and behind it those that vouch
    /// for it. Default: none. Read again when it changes.
    pub client_cert: Option<Spanned<String>>,
    /// A PEM file with its key, not encrypted.
    pub client_key: Option<Spanned<String>>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            ca: None,
            server_name: None,
            verify: true.into(),
            client_cert: None,
            client_key: None,
        }
    }
}

impl UpstreamTls {
    /// The files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let files = [&self.ca, &self.client_cert, &self.client_key];
        files.into_iter().flatten().map(|file| file.as_str())
    }
}

/// The `Host` that backends see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostHeader {
    /// The host of the backend's URL.
    #[default]
    Upstream,
    /// What the client sent.
    Client,
    /// This name.
    Fixed(String),
}
