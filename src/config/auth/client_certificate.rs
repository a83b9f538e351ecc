//! Client certificates as written: whose are let in, and what of them is an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::shape::{Dictionary, OneOrMany};
use super::super::source::Spanned;

/// Certificates that clients show to a proxy in front, which passes them on in `Client-Cert` and
/// `Client-Cert-Chain` (RFC 9440). They are read from `server.trusted_proxies` only. A certificate is let in
/// if each list that is written has one of its names.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientCertificate {
    /// A PEM file with the authorities that must vouch for certificates. Default: what the proxy in front
    /// lets in is good.
    pub ca: Option<Spanned<String>>,
    /// Distinguished names, such as `CN=device-7,O=Example` (RFC 4514).
    pub subjects: OneOrMany<Spanned<String>>,
    /// Common names.
    pub common_names: OneOrMany<Spanned<String>>,
    /// Alternative names: a DNS name, or `*.example.com` for all one level below; a URI, or
    /// `spiffe://example.com/shop/*` for all below; a mail address.
    pub sans: OneOrMany<Spanned<String>>,
    /// SHA-256 fingerprints of certificates, as 64 hexadecimal digits, with or without colons.
    pub fingerprints: OneOrMany<Spanned<String>>,
    /// What of a certificate says who it is, by which consumers are known: `subject` (the default),
    /// `common_name`, `san_dns`, `san_uri`, `san_email` (the first one of these) or `fingerprint`.
    /// Certificates without it are refused.
    pub subject_is: CertificateName,
    /// What backends are told, each in the named header: `sub`, `subject`, `issuer`, `serial`,
    /// `fingerprint`, `common_name`, `san.dns`, `san.uri`, `san.email`. What clients send in these headers
    /// is removed.
    pub forward_claims: Dictionary<Spanned<String>>,
}

/// A name that a certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// Its distinguished name.
    #[default]
    Subject,
    /// The common name in that.
    CommonName,
    /// Its first DNS name.
    SanDns,
    /// Its first URI.
    SanUri,
    /// Its first mail address.
    SanEmail,
    /// Its SHA-256 fingerprint.
    Fingerprint,
}
