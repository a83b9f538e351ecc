//! Authentication as written: in which ways requests prove who they are, and what a route asks for.

mod api_key;
mod basic;
mod client_certificate;
mod failures;
mod forward;
mod jwt;
mod rule;
mod signature;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::api_key::{ApiKey, ApiKeyDigests, ApiKeys};
pub use self::basic::Basic;
pub use self::client_certificate::{CertificateName, ClientCertificate};
pub use self::failures::{AuthFailures, AuthFailuresSlot};
pub use self::forward::{ForwardAuth, OnFailure};
pub use self::jwt::{Jwt, JwtAlgorithm, JwtKeys};
pub use self::rule::{AuthRule, AuthRuleFields, AuthWay, AuthWayFields, Requirement};
pub use self::signature::{Replay, Signature, SignedBody};
use super::secret::{FileText, Secret};
use super::source::Spanned;

/// A way in which requests prove who they are: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthProvider {
    /// JSON Web Tokens (RFC 7519), signed (RFC 7515), verified as RFC 8725 advises.
    pub jwt: Option<Spanned<Jwt>>,
    /// Keys that clients were given, of which only digests are kept.
    pub api_key: Option<Spanned<ApiKey>>,
    /// Names and passwords (RFC 7617), of which only hashes are kept.
    pub basic: Option<Spanned<Basic>>,
    /// Requests that are signed with a shared secret.
    pub signature: Option<Spanned<Signature>>,
    /// Another service that is asked about each request.
    pub forward: Option<Spanned<ForwardAuth>>,
    /// Certificates that clients show to a proxy in front.
    pub client_certificate: Option<Spanned<ClientCertificate>>,
}

impl AuthProvider {
    /// The mechanisms, each by its key and whether it is written.
    pub fn mechanisms(&self) -> [(&'static str, bool); 6] {
        [
            ("jwt", self.jwt.is_some()),
            ("api_key", self.api_key.is_some()),
            ("basic", self.basic.is_some()),
            ("signature", self.signature.is_some()),
            ("forward", self.forward.is_some()),
            ("client_certificate", self.client_certificate.is_some()),
        ]
    }

    /// What it holds that others must not see.
    pub(super) fn secrets(&mut self) -> impl Iterator<Item = &mut Spanned<Secret>> {
        let keys = self.jwt.as_mut().and_then(|jwt| jwt.value.keys.as_mut());
        let of_tokens = keys.and_then(|keys| keys.value.secret.as_mut());
        let keys = self.signature.as_mut().map(|it| &mut it.value.keys.value);
        of_tokens
            .into_iter()
            .chain(keys.into_iter().flat_map(|keys| keys.values_mut()))
    }

    /// Other texts that may be in files.
    pub(super) fn texts(&mut self) -> Vec<&mut FileText> {
        let mut texts = Vec::new();
        if let Some(keys) = self.jwt.as_mut().and_then(|jwt| jwt.value.keys.as_mut()) {
            let given = [&mut keys.value.public_key, &mut keys.value.jwks];
            texts.extend(given.into_iter().flatten().map(|text| &mut text.value));
        }
        if let Some(ApiKeys::InFile(text)) =
            self.api_key.as_mut().map(|it| &mut it.value.keys.value)
        {
            texts.push(text);
        }
        texts.extend(self.basic.as_mut().map(|it| &mut it.value.users.value));
        texts
    }

    /// Files that are read when it is compiled.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let keys = self.jwt.as_ref().and_then(|jwt| jwt.keys.as_ref());
        let of_keys = keys.and_then(|keys| keys.ca.as_ref());
        let of_forward = self
            .forward
            .as_ref()
            .map(|it| [&it.ca, &it.client_cert, &it.client_key]);
        let of_forward = of_forward.into_iter().flatten().flatten();
        let certificates = self.client_certificate.as_ref();
        let of_certificates = certificates.and_then(|it| it.ca.as_ref());
        let files = of_keys.into_iter().chain(of_forward).chain(of_certificates);
        files.map(|ca| ca.as_str())
    }
}

/// Where a token is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer,
    /// The whole value of a header (lower-case name).
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter. It is forwarded with the request and may end up in logs behind the
    /// gateway.
    Query(String),
}
