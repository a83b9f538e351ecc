//! How clients prove by certificates of their own who they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::OneOrMany;
use super::source::Spanned;

/// Which certificates clients must show, and who vouches for them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientVerification {
    /// PEM files with the authorities that vouch for clients' certificates; no others are trusted, not even the
    /// system's. Read again when a file changes.
    pub ca: OneOrMany<Spanned<String>>,
    /// `required` (the default), or `optional`: clients without a certificate come in too, as nobody. A bad
    /// certificate is refused in either case.
    #[serde(default)]
    pub mode: Spanned<VerificationMode>,
    /// Files with lists of revoked certificates (CRL), PEM or DER. With one, each authority needs one that is still
    /// true, or the certificates below it are refused. Default: revocation is not checked. Read again when a file
    /// changes.
    #[serde(default)]
    pub crl: OneOrMany<Spanned<String>>,
    /// The names for which this holds, such as `admin.example.com`, or `*.example.com` for all below. Default: all
    /// that no other section names.
    #[serde(default)]
    pub hosts: OneOrMany<Spanned<String>>,
    /// Whether backends are shown the certificate, in `Client-Cert` (RFC 9440). Default `false`.
    #[serde(default)]
    pub forward: bool,
}

/// Whether clients without a certificate come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationMode {
    /// They are refused.
    #[default]
    Required,
    /// They come in as nobody.
    Optional,
}

impl ClientVerification {
    /// The files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.ca.iter().chain(&self.crl).map(|file| file.as_str())
    }
}
