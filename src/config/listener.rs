//! Where clients come in, and how their connections are encrypted.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::shape::OneOrMany;
use super::source::Spanned;
use super::units::Period;

/// An address to accept clients on. A bare string is short for `{ address: … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener(pub ListenerFields);

/// An address to accept clients on.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerFields {
    /// `IP:PORT`.
    pub address: Spanned<String>,
    /// Certificates, and how connections are encrypted. Default: they are not.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Whether clients may speak HTTP/2. Default `true` with `tls`; without it there is none yet.
    pub http2: Option<Spanned<bool>>,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Which of these a client gets is decided by the name that it asks for (SNI). Read again when a file
    /// changes. The first one is for clients that ask for no name, or for an unknown one.
    pub certificates: OneOrMany<Spanned<CertificateFiles>>,
    /// The oldest version: `1.2` (the default) or `1.3`.
    #[serde(default)]
    pub min_version: Spanned<TlsVersion>,
    /// Whether clients that ask for a name that no certificate is for are refused, as are those that ask for
    /// none. Default `false`: they get the first certificate, which they may not like.
    #[serde(default)]
    pub strict_sni: bool,
    /// From the connection to the end of the handshake. Default `10s`; too little locks slow clients out.
    #[serde(default = "handshake_timeout")]
    pub handshake_timeout: Spanned<Period>,
    /// Whether clients may take up an earlier session, which saves them a round trip and the gateway a
    /// signature. Default `true`.
    #[serde(default = "yes")]
    pub session_tickets: bool,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// A PEM file with the certificate, and behind it the chain up to an authority that clients know.
    pub cert: Spanned<String>,
    /// A PEM file with its key, RSA or ECDSA, not encrypted.
    pub key: Spanned<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246, only with forward secrecy and authenticated encryption.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

fn handshake_timeout() -> Spanned<Period> {
    Period::seconds(10).into()
}

fn yes() -> bool {
    true
}

impl Listener {
    /// An unencrypted one at this address.
    pub fn at(address: impl Into<String>) -> Self {
        Self(ListenerFields {
            address: address.into().into(),
            tls: None,
            http2: None,
        })
    }

    /// The files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let certificates = self.tls.iter().flat_map(|tls| &tls.certificates);
        certificates.flat_map(|it| [it.cert.as_str(), it.key.as_str()])
    }

    /// Those that nobody else may read.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Spanned<String>> {
        let certificates = self.tls.iter().flat_map(|tls| &tls.certificates);
        certificates.map(|it| &it.key)
    }
}

impl std::ops::Deref for Listener {
    type Target = ListenerFields;
    fn deref(&self) -> &ListenerFields {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Address;
        impl<'de> Visitor<'de> for Address {
            type Value = Listener;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a map with `address`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listener, E> {
                Ok(Listener::at(text))
            }
            /// A mere port; what it lacks is said when it is looked at.
            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Listener, E> {
                Ok(Listener::at(port.to_string()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listener, A::Error> {
                ListenerFields::deserialize(MapAccessDeserializer::new(map)).map(Listener)
            }
        }
        deserializer.deserialize_any(Address)
    }
}

impl JsonSchema for Listener {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listener".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let fields = generator.subschema_for::<ListenerFields>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, fields] })
    }
}
