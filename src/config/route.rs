//! A route: which requests it takes and what becomes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::auth::AuthRule;
use super::bandwidth_limit::BandwidthLimit;
use super::cache::Cache;
use super::concurrency_limit::ConcurrencyLimit;
use super::fallback::Fallback;
use super::listener::RedirectHttps;
use super::mask::fields;
use super::policy::{Access, Cors, HeaderEdits, Timeouts};
use super::rate_limit::RateLimit;
use super::resilience::Retry;
use super::root::Priority;
use super::security::SecurityHeaders;
use super::service::HashKey;
use super::shape::{Dictionary, FromMap, OneOrMany, Policy, text_or_map};
use super::source::Spanned;
use super::split::{Mirror, SplitPart};
use super::units::ByteSize;

/// A route. A bare string is short for `{ path: … }`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Route(pub RouteFields);

/// Which requests a route takes and what becomes of them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteFields {
    /// The path: exact (`/orders`), or with parameters: `{name}` stands for one segment and
    /// `{*name}`, at the end, for the rest (at least one segment). Either this or `prefix`.
    pub path: Option<Spanned<String>>,
    /// The path and everything below it: `/orders` takes `/orders` and `/orders/7` but not
    /// `/orders2`. Either this or `path`.
    pub prefix: Option<Spanned<String>>,
    /// Hosts, exact (`shop.example.com`) or with a wildcard for the labels in front
    /// (`*.example.com`). Default: any.
    pub hosts: Vec<Spanned<String>>,
    /// Methods. Default: any. A path that matches with the wrong method is answered with 405.
    pub methods: Vec<Spanned<String>>,
    /// Headers that must be there with exactly this value.
    #[serde(serialize_with = "fields")]
    pub headers_match: Dictionary<Spanned<String>>,
    /// Query parameters that must be there with exactly this value.
    #[serde(serialize_with = "fields")]
    pub query_match: Dictionary<Spanned<String>>,

    /// The path that is forwarded instead; may use the parameters of `path`. On a `prefix` route it
    /// replaces the prefix, and the rest of the path follows. The service's `base_url` path is put
    /// before it.
    pub rewrite: Option<Spanned<String>>,
    /// A leading part of the path that is not forwarded.
    pub strip_prefix: Option<Spanned<String>>,
    /// Answer with a redirect instead of forwarding.
    pub redirect: Option<Spanned<Redirect>>,
    /// Answer with this instead of forwarding.
    pub respond: Option<Spanned<Respond>>,

    /// The services that share this route's requests, each by its weight, instead of the service that
    /// the route stands in.
    pub split: Option<Spanned<Vec<Spanned<SplitPart>>>>,
    /// What always leads to the same service of `split`: `client_ip`, `path`, `header:NAME` or
    /// `cookie:NAME`. Default: nothing.
    pub split_by: Option<Spanned<HashKey>>,
    /// A service that gets copies of requests; nobody waits for its answers or sees them.
    pub mirror: Option<Spanned<Mirror>>,

    /// Limits on this route's traffic; replaces the outer ones.
    pub rate_limit: Policy<OneOrMany<RateLimit>>,
    /// What one request on this route costs, 1 to 1000000, in place of the fixed `cost` of limits. Default: what
    /// those say.
    pub rate_limit_cost: Option<Spanned<u64>>,
    /// How many requests of a client may be under way at once.
    pub concurrency_limit: Policy<OneOrMany<ConcurrencyLimit>>,
    /// How fast bodies pass.
    pub bandwidth_limit: Policy<BandwidthLimit>,
    /// Whether what comes in clear is answered with 308 to the same URL with `https`: `true`, `false`, or the port
    /// if it is not 443, unless the listener says another. Default: as the listener does.
    pub redirect_https: Option<Spanned<RedirectHttps>>,
    /// Who may come in.
    pub auth: Policy<AuthRule>,
    /// Which answers are kept and given again.
    pub cache: Policy<Cache>,
    /// How long the upstream may take.
    pub timeouts: Policy<Timeouts>,
    /// Which failed attempts are repeated.
    pub retry: Policy<Retry>,
    /// What clients get when the service can't answer.
    pub fallback: Policy<Fallback>,
    /// How important requests are when there is too much to do: `low`, `normal` (the
    /// default) or `high`.
    pub priority: Option<Spanned<Priority>>,
    /// Whether calls of browsers (gRPC-Web) are made gRPC for the backends, which need `protocol: http2`.
    /// Default `false`.
    pub grpc_web: Option<Spanned<bool>>,
    /// Header edits.
    pub headers: Policy<HeaderEdits>,
    /// Cross-origin rules.
    pub cors: Policy<Cors>,
    /// What browsers are told to beware of: `api`, `web`, or more.
    pub security_headers: Policy<SecurityHeaders>,
    /// Which addresses may come in.
    pub access: Policy<Access>,
    /// The largest request body.
    pub body_limit: Policy<ByteSize>,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// A path or a URL; may use the parameters of `path`. On a `prefix` route the rest of the path
    /// is appended. The query is kept.
    pub to: Spanned<String>,
    /// 301, 302, 303, 307 or 308. Default 308, which keeps method and body.
    #[serde(default = "permanent")]
    pub status: Spanned<u16>,
}

fn permanent() -> Spanned<u16> {
    308.into()
}

/// An answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// The status, 200 to 599. Default 200.
    pub status: Spanned<u16>,
    /// Header fields of the answer.
    pub headers: Dictionary<Spanned<String>>,
    /// The body; `text/plain` unless `headers` say otherwise.
    pub body: String,
}

impl Default for Respond {
    fn default() -> Self {
        Self {
            status: 200.into(),
            headers: Dictionary::new(),
            body: String::new(),
        }
    }
}

impl From<RouteFields> for Route {
    fn from(fields: RouteFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for Route {
    type Fields = RouteFields;
}

impl std::ops::Deref for Route {
    type Target = RouteFields;
    fn deref(&self) -> &RouteFields {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "a path or a map with `path` or `prefix`",
            |text| {
                Ok(Self(RouteFields {
                    path: Some(text.to_owned().into()),
                    ..RouteFields::default()
                }))
            },
        )
    }
}

impl JsonSchema for Route {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Route".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fields = generator.subschema_for::<RouteFields>();
        schemars::json_schema!({ "anyOf": [{ "type": "string", "pattern": "^(/|\\$\\{)" }, fields] })
    }
}
