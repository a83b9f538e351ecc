//! The file as a whole: [`Config`] and the sections that stand only at the top.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access_log::{AccessLogSlot, LogOutput};
use super::acme::Acme;
use super::admin::AdminSlot;
use super::auth::{AuthFailuresSlot, AuthProvider, AuthRule};
use super::bandwidth_limit::BandwidthLimit;
use super::cache::{Cache, CacheStore};
use super::concurrency_limit::ConcurrencyLimit;
use super::consumer::{Consumer, ConsumerGroup};
use super::country::GeoIp;
use super::fallback::Fallback;
use super::listener::{Listener, RedirectHttps};
use super::metrics::Metrics;
use super::policy::{Access, Cors, HeaderEdits, Timeouts};
use super::rate_limit::RateLimit;
use super::redis::Redis;
use super::resilience::Retry;
use super::security::SecurityHeaders;
use super::service::Service;
use super::shape::{Dictionary, OneOrMany, Policy};
use super::source::Spanned;
use super::tracing::Tracing;
use super::units::{ByteSize, Period, Share};

/// A Tollgate configuration: one entry point in front of many services.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gateway's own listeners, threads and bounds.
    pub server: Server,
    /// The address for operators: health, status, metrics, reload; `off` for none.
    pub admin: AdminSlot,
    /// The process's log and the access log.
    pub log: Log,
    /// How many routes, services and backends have metrics of their own.
    pub metrics: Metrics,
    /// Traces: how their context travels, and which spans are sent where. Default: fields about traces pass
    /// as they come.
    pub tracing: Policy<Tracing>,
    /// Where the certificates of listeners with `tls.acme` come from.
    pub acme: Option<Spanned<Acme>>,
    /// How requests may prove who they are, by name.
    pub auth_providers: Dictionary<AuthProvider>,
    /// How many bad credentials an address may send; `off` for any number.
    pub auth_failures: AuthFailuresSlot,
    /// Who uses the services: names for whoever comes with certain credentials.
    pub consumers: Dictionary<Spanned<Consumer>>,
    /// What consumers have in common.
    pub consumer_groups: Dictionary<Spanned<ConsumerGroup>>,
    /// Where the country of an address is looked up.
    pub geoip: Option<Spanned<GeoIp>>,
    /// The server whose counts the limits with `store: redis` share with other gateways.
    pub redis: Option<Spanned<Redis>>,
    /// The service map: what stands behind the gateway, by name.
    pub services: Dictionary<Spanned<Service>>,

    /// The window of the limit on all traffic, with `rateLimitCount`: another way to write
    /// `rate_limit` with `algorithm: fixed_window` and `by: client_ip`.
    #[serde(rename = "rateLimitWindow")]
    pub rate_limit_window: Option<Spanned<Period>>,
    /// The number of requests that one address may make in `rateLimitWindow`.
    #[serde(rename = "rateLimitCount")]
    pub rate_limit_count: Option<Spanned<u64>>,

    /// Limits on all traffic; a service or route that has its own replaces them.
    pub rate_limit: Policy<OneOrMany<RateLimit>>,
    /// What one request on all routes costs, 1 to 1000000, in place of the fixed `cost` of limits. Default: what
    /// those say.
    pub rate_limit_cost: Option<Spanned<u64>>,
    /// How many requests of a client may be under way at once, on all routes.
    pub concurrency_limit: Policy<OneOrMany<ConcurrencyLimit>>,
    /// How fast bodies pass, on all routes.
    pub bandwidth_limit: Policy<BandwidthLimit>,
    /// Who may come in, on all routes.
    pub auth: Policy<AuthRule>,
    /// Whether what comes in clear to routes is answered with 308 to the same URL with `https`: `true`, `false`, or
    /// the port if it is not 443, unless the listener says another. Default: as the listener does, which does so
    /// for what no route takes, too.
    pub redirect_https: Option<Spanned<RedirectHttps>>,
    /// Which answers are kept and given again, on all routes.
    pub cache: Policy<Cache>,
    /// How long upstreams may take, on all routes.
    pub timeouts: Policy<Timeouts>,
    /// Which failed attempts are repeated, on all routes. On unless `off`.
    pub retry: Policy<Retry>,
    /// What clients get when the service can't answer, on all routes.
    pub fallback: Policy<Fallback>,
    /// How important requests are when there is too much to do, on all routes: `low`, `normal` (the
    /// default) or `high`.
    pub priority: Option<Spanned<Priority>>,
    /// Whether calls of browsers (gRPC-Web) are made gRPC for the backends, which need `protocol: http2`, on all routes.
    /// Default `false`.
    pub grpc_web: Option<Spanned<bool>>,
    /// Header edits on all routes.
    pub headers: Policy<HeaderEdits>,
    /// Cross-origin rules on all routes.
    pub cors: Policy<Cors>,
    /// What browsers are told to beware of, on all routes and in answers to what no route takes: `api`,
    /// `web`, or more.
    pub security_headers: Policy<SecurityHeaders>,
    /// Which addresses may come in, on all routes.
    pub access: Policy<Access>,
    /// The largest request body on all routes; `server.limits.body` unless written.
    pub body_limit: Policy<ByteSize>,
}

/// The gateway's own listeners, threads and bounds.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where clients are accepted: an address, as `IP:PORT`, or more of them, with `tls` or without. Default
    /// `0.0.0.0:8080`.
    pub listen: OneOrMany<Spanned<Listener>>,
    /// Worker threads; `auto` is one a core.
    pub threads: Spanned<Threads>,
    /// User that the process becomes once it listens, by name; only root can. Default: whoever
    /// started it.
    pub user: Option<Spanned<String>>,
    /// Networks whose `X-Forwarded-For`, `Forwarded`, `X-Request-Id` and `Client-Cert` are believed.
    /// Default: nobody's. Too wide a range lets clients choose the address they are limited by, and show
    /// certificates that are not theirs.
    pub trusted_proxies: Vec<Spanned<Network>>,
    /// The name servers that are asked for the addresses of backends, such as `127.0.0.53` or
    /// `10.0.0.2:5353`. Default: those of `/etc/resolv.conf`.
    pub nameservers: Vec<Spanned<NameServer>>,
    /// How long clients may take.
    pub timeouts: ServerTimeouts,
    /// Bounds on what clients may send.
    pub limits: ServerLimits,
    /// Where answers are kept that `cache` keeps.
    pub cache: CacheStore,
    /// When the least important requests are answered with 503, since there is too much to do. On
    /// unless `off`.
    pub overload: Policy<Overload>,
    /// How the gateway stops.
    pub shutdown: Shutdown,
    /// Whether the configuration is reloaded when it, or a file it names, has changed. Looked at
    /// twice a second. Default `true`.
    pub watch_files: bool,
    /// How long each step of `tollgate upgrade` may take before it is given up and the old process
    /// goes on. Default `30s`; too little for a configuration of a million routes.
    pub upgrade_timeout: Spanned<Period>,
    /// Idle upstream connections kept for reuse, all workers together. Default 1024; too few means
    /// a new connection for most requests.
    pub upstream_pool: Spanned<usize>,
}

/// Number of worker threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// One for each core that the process may use.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// The address of a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameServer(pub std::net::SocketAddr);

/// A network in CIDR notation, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub ipnet::IpNet);

/// How long clients may take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTimeouts {
    /// From the first to the last byte of a request's header. Default `10s`.
    pub request_header: Spanned<Period>,
    /// Between two reads of a request's body. Default `30s`.
    pub request_body: Spanned<Period>,
    /// Between two writes of a response to the client. Default `60s`.
    pub response: Spanned<Period>,
    /// How long an idle client connection is kept. Default `75s`.
    pub keepalive: Spanned<Period>,
}

/// Bounds on what clients may send.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// All header fields of a request together, answered with 431 above it. Default `32KiB`.
    pub header_size: Spanned<ByteSize>,
    /// Number of header fields of a request, answered with 431 above it. Default 100, at most 250.
    pub headers: Spanned<usize>,
    /// Length of the request target, answered with 414 above it. Default `8KiB`.
    pub uri: Spanned<ByteSize>,
    /// Request body, answered with 413 above it. Default `10MiB`. `body_limit` on a service or a
    /// route replaces it there.
    pub body: Spanned<ByteSize>,
    /// Open client connections; more are closed at once. Default 20000. Each may need two file
    /// descriptors.
    pub connections: Spanned<usize>,
    /// Requests under way at most, all services together; more are answered with 503. Default: as
    /// many as there are connections.
    pub requests: Option<Spanned<usize>>,
    /// Keys (addresses, tenants, …) that the rate limits count exactly at the same time, all
    /// limits together; 40 bytes each. Default 1048576. Above it a bounded estimate takes over that
    /// is never too generous.
    pub rate_limit_keys: Spanned<usize>,
}

/// When the gateway has more to do than it can, and answers the least important requests with 503.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// How late worker threads may be all the time; five times as much is the second level. Default
    /// `20ms`.
    pub lag: Spanned<Period>,
    /// The share of the control group's memory that may be in use. Default `85%`.
    pub memory: Spanned<Share>,
    /// The share of the file descriptors that may be in use. Default `80%`.
    pub descriptors: Spanned<Share>,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            lag: Period::millis(20).into(),
            memory: Share(85).into(),
            descriptors: Share(80).into(),
        }
    }
}

/// How important requests are when not all can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Shed first.
    Low,
    /// Shed when it gets worse.
    #[default]
    Normal,
    /// Never shed.
    High,
}

/// How the gateway stops.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long readiness fails while requests are still accepted, so that load balancers notice.
    /// Default `0s`.
    pub grace: Spanned<Period>,
    /// How long requests in flight may take to end. Default `30s`.
    pub deadline: Spanned<Period>,
}

/// The process's log and the access log.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What the process says about itself, on standard error. The environment variable `RUST_LOG`
    /// overrides it.
    pub level: LogLevel,
    /// One line a request.
    pub access: AccessLogSlot,
}

/// What the process's own log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl Log {
    /// The file that requests are logged to, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.access.0.on()?.output.value {
            LogOutput::File(path) => Some(path),
            _ => None,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: OneOrMany(vec![Listener::at("0.0.0.0:8080").into()]),
            threads: Threads::Auto.into(),
            user: None,
            trusted_proxies: Vec::new(),
            nameservers: Vec::new(),
            timeouts: ServerTimeouts::default(),
            limits: ServerLimits::default(),
            cache: CacheStore::default(),
            overload: None,
            shutdown: Shutdown::default(),
            watch_files: true,
            upgrade_timeout: Period::seconds(30).into(),
            upstream_pool: 1024.into(),
        }
    }
}

impl Default for ServerTimeouts {
    fn default() -> Self {
        Self {
            request_header: Period::seconds(10).into(),
            request_body: Period::seconds(30).into(),
            response: Period::seconds(60).into(),
            keepalive: Period::seconds(75).into(),
        }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header_size: ByteSize::kib(32).into(),
            headers: 100.into(),
            uri: ByteSize::kib(8).into(),
            body: ByteSize::mib(10).into(),
            connections: 20_000.into(),
            requests: None,
            rate_limit_keys: (1 << 20).into(),
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            grace: Period::seconds(0).into(),
            deadline: Period::seconds(30).into(),
        }
    }
}
