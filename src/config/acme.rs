//! Certificates that the gateway gets by itself, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::shape::OneOrMany;
use super::source::Spanned;

/// Where the certificates of listeners with `tls.acme` come from (ACME, RFC 8555).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Acme {
    /// The authority: `letsencrypt` (the default), `letsencrypt_staging`, whose certificates nobody trusts and
    /// which does not mind mistakes, or the URL of another one's directory.
    pub directory: Spanned<String>,
    /// That you agree to the authority's terms of service: it wants to know before it issues anything.
    pub accept_terms: Spanned<bool>,
    /// Mail addresses by which the authority reaches you. Default: none.
    pub contact: OneOrMany<Spanned<String>>,
    /// The folder for the account, the certificates and their keys; the gateway must be able to write there.
    /// Gateways that share it share all of them, and only one at a time asks for a certificate. Default
    /// `/var/lib/tollgate/acme`.
    pub storage: Spanned<String>,
    /// How the authority finds out that the names are the gateway's: `tls_alpn`, at port 443 (RFC 8737), `http`,
    /// at port 80, or a list of them, the next of which is tried when one fails. Default: both in this order.
    pub challenge: Spanned<OneOrMany<Spanned<AcmeChallenge>>>,
    /// An account with the authority that the gateway's belongs to, if it asks for one.
    pub external_account: Option<Spanned<ExternalAccount>>,
    /// A PEM file of the authorities by which the authority itself is trusted instead of the system's.
    pub ca: Option<Spanned<String>>,
}

/// How an authority finds out whose a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcmeChallenge {
    /// By a handshake at port 443.
    TlsAlpn,
    /// By a request to port 80.
    Http,
}

/// An account that was made elsewhere (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// What the authority knows it by.
    pub key_id: Spanned<String>,
    /// Its key, as the authority writes it (base64url): `${NAME}` or `{ file: path }`.
    pub hmac_key: Spanned<Secret>,
}

impl Acme {
    /// The secrets it names.
    pub(super) fn secrets(&mut self) -> impl Iterator<Item = &mut Spanned<Secret>> {
        let account = self.external_account.iter_mut();
        account.map(|account| &mut account.value.hmac_key)
    }

    /// The file it names, that is not read with the configuration.
    pub(super) fn file(&self) -> Option<&str> {
        self.ca.as_ref().map(|ca| ca.as_str())
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            directory: "letsencrypt".to_owned().into(),
            accept_terms: false.into(),
            contact: OneOrMany::default(),
            storage: "/var/lib/tollgate/acme".to_owned().into(),
            challenge: OneOrMany(vec![
                AcmeChallenge::TlsAlpn.into(),
                AcmeChallenge::Http.into(),
            ])
            .into(),
            external_account: None,
            ca: None,
        }
    }
}
