//! Traces as written: where spans go, of which requests, and how the context of a trace travels.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::secret::Secret;
use super::shape::{Dictionary, FromMap, OneOrMany, text_or_map};
use super::source::Spanned;
use super::units::{Period, Ratio};

/// Distributed tracing. Each request has a place in a trace, which backends and the access log are told;
/// of some, spans are exported.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// The collector that spans are sent to: a URL, or more. Default: spans are sent nowhere.
    pub otlp: Option<Spanned<Otlp>>,
    /// Of which requests spans are sent: a share such as `1%`, or more. Default `1%`, and all that fail.
    pub sample: Sample,
    /// The header fields by which the context of a trace comes in and goes on: `w3c`, `b3` (one field), or
    /// `b3_multi` (`X-B3-…`), or a list of them. Of several that come, the one that is written first
    /// counts; all that are written go on. Default `w3c`.
    pub propagate: Spanned<OneOrMany<Spanned<Propagation>>>,
    /// What the gateway is called in traces, `service.name`. Default `tollgate`.
    pub service_name: Spanned<String>,
    /// What else is said of the gateway itself, such as `deployment.environment.name: production`.
    pub resource: Dictionary<Spanned<String>>,
}

/// A collector that speaks the OpenTelemetry Protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Otlp(pub OtlpFields);

/// A collector, in full.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpFields {
    /// Its URL, such as `http://127.0.0.1:4318`. With `protocol: http`, `/v1/traces` is put behind it unless
    /// it ends so.
    pub endpoint: Spanned<String>,
    /// How it is talked to: `http` (the default), or `grpc`.
    #[serde(default)]
    pub protocol: Spanned<OtlpProtocol>,
    /// Header fields of what is sent, such as `Authorization`: `${NAME}` or `{ file: path }`.
    #[serde(default)]
    pub headers: Dictionary<Spanned<Secret>>,
    /// How long it may take to accept a batch, retries included, before that is lost. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub timeout: Spanned<Period>,
    /// How long spans wait for others to be sent with them, at most. Default `5s`.
    #[serde(default = "five_seconds")]
    pub interval: Spanned<Period>,
    /// A PEM file of the authorities to trust instead of the system's.
    #[serde(default)]
    pub ca: Option<Spanned<String>>,
}

/// How a collector is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP; collectors listen on port 4318.
    #[default]
    Http,
    /// Over gRPC; collectors listen on port 4317.
    Grpc,
}

/// Of which requests spans are sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Sample(pub SampleFields);

/// Of which requests spans are sent, in full.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleFields {
    /// The share of the requests for which nobody decided before. Default `1%`.
    pub ratio: Spanned<Ratio>,
    /// Whose decision counts if the request comes with one. Default `follow`.
    pub parent: ParentRule,
    /// Whether spans of requests that failed are sent in any case: those answered with 5xx, and those whose
    /// answer broke off. Default `true`.
    pub errors: bool,
    /// Spans of requests that take this long are sent in any case. Default: however long they take.
    pub slower_than: Option<Spanned<Period>>,
}

/// Whose decision counts about a request that comes with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentRule {
    /// That of whoever sent it.
    #[default]
    Follow,
    /// That of `server.trusted_proxies`; for all others `ratio` decides.
    Trusted,
    /// `ratio` always decides.
    Ignore,
}

/// The header fields by which the context of a trace travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    W3c,
    /// `b3`, as Zipkin has it. The many fields of `b3_multi` are understood, too.
    B3,
    /// `X-B3-TraceId` and its siblings. The one field of `b3` is understood, too.
    B3Multi,
}

impl Tracing {
    /// The secrets it names.
    pub(super) fn secrets(&mut self) -> impl Iterator<Item = &mut Spanned<Secret>> {
        let otlp = self.otlp.iter_mut();
        otlp.flat_map(|otlp| otlp.value.0.headers.values_mut())
    }

    /// The file it names, that is not read with the configuration.
    pub(super) fn file(&self) -> Option<&str> {
        let ca = self.otlp.as_ref()?.0.ca.as_ref()?;
        Some(ca.as_str())
    }
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            otlp: None,
            sample: Sample::default(),
            propagate: OneOrMany(vec![Propagation::W3c.into()]).into(),
            service_name: "tollgate".to_owned().into(),
            resource: Dictionary::new(),
        }
    }
}

impl Default for SampleFields {
    fn default() -> Self {
        Self {
            ratio: Ratio::percent(1).into(),
            parent: ParentRule::Follow,
            errors: true,
            slower_than: None,
        }
    }
}

impl From<OtlpFields> for Otlp {
    fn from(fields: OtlpFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for Otlp {
    type Fields = OtlpFields;
}

impl<'de> Deserialize<'de> for Otlp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "a URL or a map with `endpoint`", |text| {
            Ok(Self(OtlpFields {
                endpoint: text.to_owned().into(),
                protocol: Spanned::default(),
                headers: Dictionary::new(),
                timeout: ten_seconds(),
                interval: five_seconds(),
                ca: None,
            }))
        })
    }
}

impl From<SampleFields> for Sample {
    fn from(fields: SampleFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for Sample {
    type Fields = SampleFields;
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "a share such as `1%`, or a map", |text| {
            Ok(Self(SampleFields {
                ratio: Ratio::parse(text)?.into(),
                ..SampleFields::default()
            }))
        })
    }
}

impl JsonSchema for Otlp {
    fn schema_name() -> Cow<'static, str> {
        "UrlOrOtlp".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = generator.subschema_for::<OtlpFields>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, fields] })
    }
}

impl JsonSchema for Sample {
    fn schema_name() -> Cow<'static, str> {
        "RatioOrSample".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ratio = generator.subschema_for::<Ratio>();
        let fields = generator.subschema_for::<SampleFields>();
        schemars::json_schema!({ "anyOf": [ratio, fields] })
    }
}

fn ten_seconds() -> Spanned<Period> {
    Period::seconds(10).into()
}

fn five_seconds() -> Spanned<Period> {
    Period::seconds(5).into()
}
