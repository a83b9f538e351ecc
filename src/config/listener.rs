//! Where clients come in, and how their connections are encrypted.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::client_verification::ClientVerification;
use super::proxy_protocol::{FileMode, ProxyProtocol};
use super::shape::OneOrMany;
use super::source::Spanned;
use super::units::Period;

/// An address to accept clients on. A bare string is short for `{ address: … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Listener(pub ListenerFields);

/// An address to accept clients on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerFields {
    /// `IP:PORT`, or `unix:/path` for a socket in the file system.
    pub address: Spanned<String>,
    /// Who may open a socket in the file system, as `chmod` has it. Default `"0660"`. It belongs to
    /// `server.user`, and clients of it count as this machine.
    pub mode: Option<Spanned<FileMode>>,
    /// The load balancers that say in front of a connection where it comes from (PROXY protocol). Default:
    /// nobody does.
    pub proxy_protocol: Option<Spanned<ProxyProtocol>>,
    /// Certificates, and how connections are encrypted. Default: they are not.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Whether clients may speak HTTP/2. Default `true` with `tls`, where they choose (ALPN), and `false` without
    /// it, where they have to know beforehand (h2c with prior knowledge, RFC 9113 §3.3).
    pub http2: Option<Spanned<bool>>,
    /// Whether every request is answered with 308 to the same URL with `https`: `true`, or the port if it is
    /// not 443. Requests below `/.well-known/acme-challenge/` and those that a trusted proxy took by TLS go
    /// their usual way. Default `false`.
    #[serde(default)]
    pub redirect_https: Spanned<RedirectHttps>,
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Which of these a client gets is decided by the name that it asks for (SNI). Read again when a file
    /// changes. The first one is for clients that ask for no name, or for an unknown one.
    #[serde(default)]
    pub certificates: OneOrMany<Spanned<CertificateFiles>>,
    /// Names for which the gateway gets certificates by itself, as the section `acme` says: one for each name
    /// or, where names stand in a list of their own, one for all of these.
    #[serde(default)]
    pub acme: OneOrMany<Spanned<OneOrMany<Spanned<String>>>>,
    /// Which certificates clients must show themselves, and who vouches for them; several sections for several
    /// `hosts`. Default: they are asked for none.
    #[serde(default)]
    pub client_certificates: OneOrMany<Spanned<ClientVerification>>,
    /// The oldest version: `1.2` (the default) or `1.3`.
    #[serde(default)]
    pub min_version: Spanned<TlsVersion>,
    /// The ciphers, by their IANA names; those in front are preferred. Default: all that are known.
    #[serde(default)]
    pub cipher_suites: Vec<Spanned<CipherSuite>>,
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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// A PEM file with the certificate, and behind it the chain up to an authority that clients know.
    pub cert: Spanned<String>,
    /// A PEM file with its key, RSA or ECDSA, not encrypted.
    pub key: Spanned<String>,
    /// A file with what the authority says about the certificate (OCSP, DER), to be shown with it. Default:
    /// none; clients that want to know ask the authority.
    pub ocsp: Option<Spanned<String>>,
}

/// The port that requests are redirected to, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedirectHttps(pub Option<u16>);

/// What connections are encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CipherSuite {
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256,
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128,
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    ChaCha20,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdsaAes256,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdsaAes128,
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdsaChaCha20,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    RsaAes256,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    RsaAes128,
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    RsaChaCha20,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
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
            mode: None,
            proxy_protocol: None,
            tls: None,
            http2: None,
            redirect_https: RedirectHttps(None).into(),
        })
    }

    /// The files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let certificates = self.tls.iter().flat_map(|tls| &tls.certificates);
        let of_certificates = certificates.flat_map(|it| {
            let files = [Some(&it.cert), Some(&it.key), it.ocsp.as_ref()];
            files.into_iter().flatten().map(|file| file.as_str())
        });
        let clients = self.tls.iter().flat_map(|tls| &tls.client_certificates);
        of_certificates.chain(clients.flat_map(|it| it.files()))
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

impl<'de> Deserialize<'de> for RedirectHttps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Port;
        impl Visitor<'_> for Port {
            type Value = RedirectHttps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or a port")
            }
            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<RedirectHttps, E> {
                Ok(RedirectHttps(is_on.then_some(443)))
            }
            fn visit_u64<E: de::Error>(self, port: u64) -> Result<RedirectHttps, E> {
                match u16::try_from(port) {
                    Ok(port @ 1..) => Ok(RedirectHttps(Some(port))),
                    _ => Err(E::custom(format!("{port} is no port: expected 1 to 65535"))),
                }
            }
        }
        deserializer.deserialize_any(Port)
    }
}

impl Serialize for RedirectHttps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(port) => serializer.serialize_u16(port),
            None => serializer.serialize_bool(false),
        }
    }
}

impl JsonSchema for RedirectHttps {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RedirectHttps".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1, "maximum": 65_535 }]
        })
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
