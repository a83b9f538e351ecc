//! The small policies that may stand at the top level, in a service or in a route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::country::Country;
use super::mask::{fields, is_credential};
use super::root::Network;
use super::shape::{Dictionary, OneOrMany, Toggle};
use super::source::{Span, Spanned};
use super::units::Period;

/// How long an upstream may take. `timeouts: off` removes all of them but `connect`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To open a connection, TLS included. Default `1s`.
    pub connect: Spanned<Period>,
    /// From the whole request sent to the first byte of the response. Default `15s`.
    pub first_byte: Spanned<Toggle<Period>>,
    /// Between two reads of the response, or two writes of the request. Default `60s`.
    pub idle: Spanned<Toggle<Period>>,
    /// From the whole request received to the response's header, all attempts together. Uploads may
    /// take as long as they keep coming, and from the header on `idle` rules, so that downloads and
    /// event streams are not cut. Default `30s`.
    pub total: Spanned<Toggle<Period>>,
    /// How long a WebSocket may be open, whatever happens on it. Default `off`: for as long as `idle` allows.
    pub websocket: Spanned<Toggle<Period>>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period::seconds(1).into(),
            first_byte: Toggle::On(Period::seconds(15)).into(),
            idle: Toggle::On(Period::seconds(60)).into(),
            total: Toggle::On(Period::seconds(30)).into(),
            websocket: Toggle::Off.into(),
        }
    }
}

/// Header edits, on the request before it is forwarded and on the response before it is sent.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdits {
    /// What upstreams see.
    pub request: HeaderEdit,
    /// What clients see, on the gateway's own answers too.
    pub response: HeaderEdit,
}

/// Edits in the order `remove`, `set`, `add`. Values may use the parameters of the route's path.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdit {
    /// Fields to put in place of any of the same name.
    #[serde(serialize_with = "fields")]
    pub set: Dictionary<Spanned<String>>,
    /// Fields to put beside any of the same name.
    #[serde(serialize_with = "fields")]
    pub add: Dictionary<Spanned<String>>,
    /// Names of fields to take away.
    pub remove: Vec<Spanned<String>>,
}

impl HeaderEdits {
    /// Where values stand that may let somebody in.
    pub fn credentials(&self) -> impl Iterator<Item = Span> {
        let edits = [&self.request, &self.response].into_iter();
        let values = edits.flat_map(|edit| edit.set.iter().chain(&edit.add));
        values
            .filter(|(name, _)| is_credential(name))
            .map(|(_, value)| value.span)
    }
}

/// Cross-origin rules (Fetch Standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins that scripts may call from: `https://shop.example.com`, `https://*.example.com` for all
    /// below that name, or `"*"` for every one.
    pub origins: OneOrMany<Spanned<String>>,
    /// Methods that scripts may use. Default `GET`, `HEAD` and `POST`.
    #[serde(default = "simple_methods")]
    pub methods: Vec<Spanned<String>>,
    /// Request headers that scripts may set beyond the always allowed ones.
    #[serde(default)]
    pub headers: Vec<Spanned<String>>,
    /// Response headers that scripts may read beyond the always allowed ones.
    #[serde(default)]
    pub expose_headers: Vec<Spanned<String>>,
    /// Whether cookies and authorization may be sent. Not with `origins: "*"`.
    #[serde(default)]
    pub credentials: bool,
    /// Whether pages on the public web may call, if browsers ask because the gateway's address is a
    /// private one (Private Network Access).
    #[serde(default)]
    pub private_network: bool,
    /// How long a browser may remember the answer. Default `10m`.
    #[serde(default = "ten_minutes")]
    pub max_age: Period,
}

fn simple_methods() -> Vec<Spanned<String>> {
    ["GET", "HEAD", "POST"]
        .map(|method| method.to_owned().into())
        .into()
}

fn ten_minutes() -> Period {
    Period::seconds(600)
}

/// Which client addresses may come in. The longest matching network decides; where both lists hold
/// it, `deny` does. An address that no network holds is asked for its country. With a list of either
/// kind of what may come in, what none of them holds is denied.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Networks that may come in. Empty: all that are not denied.
    pub allow: Vec<Spanned<Network>>,
    /// Networks that may not.
    pub deny: Vec<Spanned<Network>>,
    /// Countries that may come in (ISO 3166-1, such as `DE`); an address whose country is not known
    /// may not. Needs `geoip`.
    pub allow_countries: Vec<Spanned<Country>>,
    /// Countries that may not come in; an address whose country is not known may. Needs `geoip`.
    pub deny_countries: Vec<Spanned<Country>>,
}
