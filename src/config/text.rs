//! Values that are written as one word or line of text with a form of their own.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::auth::TokenPlace;
use super::bandwidth_limit::BandwidthKey;
use super::country::Country;
use super::diagnostic::nearest;
use super::fallback::FallbackOn;
use super::quota::{LimitAmount, LimitCost, LimitWindow};
use super::rate_limit::LimitKey;
use super::resilience::{HedgeAfter, RetryOn};
use super::root::{NameServer, Network, Threads};
use super::security::SecurityPreset;
use super::service::{HashKey, HostHeader, LoadBalancing};
use super::units::{ByteRate, ByteSize, Period, Ratio, Share};

/// Where name servers listen.
const DNS_PORT: u16 = 53;

/// A number with its point.
pub(super) fn decimal(number: f64) -> String {
    let text = number.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// Reads a type from a scalar through its `parse(&str) -> Result<Self, String>`, and writes it as its `Display`.
/// What else it may be read from stands behind its schema.
macro_rules! read_from_text {
    ($type:ty, $noun:literal, $schema:tt $(, $($more:tt)+)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($noun)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        <$type>::parse(text).map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        <$type>::parse(&number.to_string()).map_err(E::custom)
                    }
                    $($($more)+)?
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                super::word::serialize(self, serializer)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

read_from_text!(Period, "a duration such as `30s`", {
    "type": "string", "pattern": r"^(.*\$\{.*|([0-9]+(ms|s|m|h|d))+)$"
});
read_from_text!(ByteSize, "a size such as `64KiB`", {
    "type": "string", "pattern": r"^(.*\$\{.*|[0-9]+ ?(B|kB|MB|GB|KiB|MiB|GiB|TiB))$"
});
read_from_text!(ByteRate, "bytes a second such as `10MiB/s`", {
    "type": "string", "pattern": r"^(.*\$\{.*|[0-9]+ ?(B|kB|MB|GB|KiB|MiB|GiB|TiB)/s)$"
});
read_from_text!(Share, "a share such as `20%`", {
    "type": "string", "pattern": r"^(.*\$\{.*|[0-9]+ ?%)$"
});
read_from_text!(Ratio, "a share such as `0.1%`", {
    "anyOf": [
        { "type": "string", "pattern": r"^(.*\$\{.*|[0-9]+(\.[0-9]{1,4})? ?%)$" },
        { "type": "number", "minimum": 0, "maximum": 1 }
    ]
}, fn visit_f64<E: de::Error>(self, number: f64) -> Result<Ratio, E> {
    Ratio::parse(&decimal(number)).map_err(E::custom)
});
read_from_text!(RetryOn, "what to repeat, such as `connect_failure` or 503", {
    "anyOf": [
        { "enum": ["connect_failure", "reset", "timeout"] },
        { "type": "integer", "minimum": 500, "maximum": 599 }
    ]
});
read_from_text!(HedgeAfter, "a time such as `50ms`, or `p95`", {
    "type": "string", "pattern": r"^(.*\$\{.*|p[5-9][0-9]|([0-9]+(ms|s|m|h|d))+)$"
});
read_from_text!(FallbackOn, "when to fall back, such as `circuit_open` or 503", {
    "anyOf": [
        { "enum": ["circuit_open", "overloaded", "no_endpoint", "connect_failure", "reset", "timeout"] },
        { "type": "integer", "minimum": 500, "maximum": 599 }
    ]
});
read_from_text!(Threads, "`auto` or a number of threads", {
    "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }]
});
read_from_text!(Network, "a network such as `10.0.0.0/8` or an address", { "type": "string" });
read_from_text!(Country, "a country such as `DE`", {
    "type": "string", "pattern": r"^(.*\$\{.*|[A-Z]{2})$"
});
read_from_text!(NameServer, "the address of a name server", { "type": "string" });
read_from_text!(LimitKey, "what to count by, such as `client_ip`", {
    "type": "string", "pattern": r"^(.*\$\{.*|client_ip|consumer|route|everyone|(header|claim):.+)$"
});
read_from_text!(BandwidthKey, "what shares it, such as `client_ip`", {
    "type": "string", "pattern": r"^(.*\$\{.*|request|client_ip|consumer|route|everyone|(header|claim):.+)$"
});
read_from_text!(LimitAmount, "a whole number, or a size such as `10MiB`", {
    "anyOf": [
        { "type": "integer", "minimum": 1 },
        { "type": "string", "pattern": r"^(.*\$\{.*|[0-9]+ ?(B|kB|MB|GB|KiB|MiB|GiB|TiB))$" }
    ]
});
read_from_text!(LimitWindow, "a duration such as `1m`, or `day` or `month`", {
    "type": "string", "pattern": r"^(.*\$\{.*|day|month|([0-9]+(ms|s|m|h|d))+)$"
});
read_from_text!(LimitCost, "a whole number, or `response_bytes` or `response_header:NAME`", {
    "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        { "type": "string", "pattern": r"^(.*\$\{.*|response_bytes|response_header:.+)$" }
    ]
});
read_from_text!(TokenPlace, "a place for a token, such as `bearer`", {
    "type": "string", "pattern": r"^(.*\$\{.*|bearer|(header|cookie|query):.+)$"
});
read_from_text!(HashKey, "what to hash, such as `client_ip`", {
    "type": "string", "pattern": r"^(.*\$\{.*|client_ip|path|(header|cookie):.+)$"
});
read_from_text!(HostHeader, "`upstream`, `client` or a host name", { "type": "string" });

impl RetryOn {
    fn parse(text: &str) -> Result<Self, String> {
        let known = ["connect_failure", "reset", "timeout"];
        Ok(match text {
            "connect_failure" => Self::ConnectFailure,
            "reset" => Self::Reset,
            "timeout" => Self::Timeout,
            _ => match text.parse() {
                Ok(status) => Self::Status(status),
                Err(_) => {
                    let hint = nearest(text, known).map_or_else(
                        || "expected `connect_failure`, `reset`, `timeout` or a status".to_owned(),
                        |known| format!("did you mean `{known}`?"),
                    );
                    return Err(format!("`{text}` is nothing to repeat on: {hint}"));
                }
            },
        })
    }
}

impl HedgeAfter {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_prefix('p') else {
            return Period::parse(text).map(|period| Self::Fixed(period.0));
        };
        match percent.parse() {
            Ok(percent @ 50..=99) => Ok(Self::Percentile(percent)),
            _ => Err(format!(
                "`{text}` is not a percentile: expected `p50` to `p99`, such as `p95`"
            )),
        }
    }
}

impl FallbackOn {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, on)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*on);
        }
        let names = Self::NAMED.map(|(name, _)| name);
        text.parse()
            .map(Self::Status)
            .map_err(|_| unknown(text, &names))
    }
}

impl Threads {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(count @ 1..=1024) => Ok(Self::Count(count)),
            _ => Err(format!(
                "`{text}` is not a number of threads: expected `auto` or 1 to 1024"
            )),
        }
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse::<ipnet::IpNet>() {
            if net.trunc() != net {
                return Err(format!(
                    "`{text}` has bits set after its prefix: did you mean `{}`?",
                    net.trunc()
                ));
            }
            return Ok(Self(net));
        }
        text.parse::<std::net::IpAddr>()
            .map(|address| Self(address.into()))
            .map_err(|_| {
                format!("`{text}` is not a network: expected an address such as `192.0.2.7` or a range such as `10.0.0.0/8`")
            })
    }
}

impl NameServer {
    fn parse(text: &str) -> Result<Self, String> {
        let address = text.parse::<std::net::IpAddr>();
        let with_port = address.map(|address| (address, DNS_PORT).into());
        with_port
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| {
                format!("`{text}` is not the address of a name server: expected one such as `127.0.0.53` or `10.0.0.2:5353`")
            })
    }
}

/// A name after `header:`, as a lower-case field name.
fn field_name(name: &str) -> Result<String, String> {
    http::HeaderName::from_bytes(name.as_bytes())
        .map(|name| name.as_str().to_owned())
        .map_err(|_| format!("`{name}` is not a header name"))
}

impl LimitKey {
    const WORDS: [&str; 6] = [
        "client_ip",
        "consumer",
        "route",
        "everyone",
        "header:NAME",
        "claim:NAME",
    ];

    fn parse(text: &str) -> Result<Self, String> {
        Self::find(text).unwrap_or_else(|| Err(unknown(text, &Self::WORDS)))
    }

    /// `None` if it is no key at all.
    fn find(text: &str) -> Option<Result<Self, String>> {
        Some(match text.split_once(':') {
            Some(("header", name)) => field_name(name).map(Self::Header),
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            _ => match text {
                "client_ip" => Ok(Self::ClientIp),
                "consumer" => Ok(Self::Consumer),
                "route" => Ok(Self::Route),
                "everyone" => Ok(Self::Everyone),
                _ => return None,
            },
        })
    }
}

impl BandwidthKey {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "request" {
            return Ok(Self::Request);
        }
        match LimitKey::find(text) {
            Some(key) => key.map(Self::Of),
            None => Err(unknown(
                text,
                &[&["request"], &LimitKey::WORDS[..]].concat(),
            )),
        }
    }
}

impl LimitCost {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(units) = text.parse() {
            return Ok(Self::Fixed(units));
        }
        match text.split_once(':') {
            Some(("response_header", name)) => field_name(name).map(Self::ResponseHeader),
            _ if text == "response_bytes" => Ok(Self::ResponseBytes),
            _ => Err(unknown(
                text,
                &["NUMBER", "response_bytes", "response_header:NAME"],
            )),
        }
    }
}

impl LoadBalancing {
    /// Reads the short forms.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "round_robin" => Self::RoundRobin,
            "least_requests" => Self::LeastRequests,
            "peak_ewma" => Self::PeakEwma,
            "random" => Self::Random,
            _ => {
                return Err(unknown(
                    text,
                    &[
                        "least_requests",
                        "round_robin",
                        "peak_ewma",
                        "random",
                        "{ hash: KEY }",
                    ],
                ));
            }
        })
    }
}

impl SecurityPreset {
    /// Reads the short form.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = [Self::Api, Self::Web];
        known
            .into_iter()
            .find(|preset| preset.word() == text)
            .ok_or_else(|| unknown(text, &known.map(Self::word)))
    }
}

impl HashKey {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) => field_name(name).map(Self::Header),
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            _ => match text {
                "client_ip" => Ok(Self::ClientIp),
                "path" => Ok(Self::Path),
                _ => Err(unknown(
                    text,
                    &["client_ip", "path", "header:NAME", "cookie:NAME"],
                )),
            },
        }
    }
}

impl TokenPlace {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) => field_name(name).map(Self::Header),
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            _ if text == "bearer" => Ok(Self::Bearer),
            _ => Err(unknown(
                text,
                &["bearer", "header:NAME", "cookie:NAME", "query:NAME"],
            )),
        }
    }
}

impl HostHeader {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "upstream" => Ok(Self::Upstream),
            "client" => Ok(Self::Client),
            _ => text
                .parse::<http::uri::Authority>()
                .ok()
                .filter(|authority| !authority.as_str().contains('@'))
                .map(|authority| Self::Fixed(authority.to_string()))
                .ok_or_else(|| format!("`{text}` is not a host: expected `upstream`, `client` or a name such as `orders.internal`")),
        }
    }
}

fn unknown(word: &str, valid: &[&str]) -> String {
    let list = valid
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest(word, valid.iter().copied()) {
        Some(near) => format!("unknown value `{word}`: did you mean `{near}`? (valid: {list})"),
        None => format!("unknown value `{word}`: expected one of {list}"),
    }
}
