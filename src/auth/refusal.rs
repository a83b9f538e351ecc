//! Why a credential was refused, and what the client is told.

use bytes::Bytes;
use http::HeaderValue;

/// Why a request is not let in: the answer is 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "`reason` and `description` say what each means"
)]
pub enum Refusal {
    Missing,
    MalformedCredential,
    SeveralCredentials,
    TooLong,
    MalformedToken,
    CriticalExtension,
    AlgorithmNotAllowed,
    UnknownKey,
    BadSignature,
    DuplicateClaim,
    NoExpiry,
    Expired,
    NotYetValid,
    WrongIssuer,
    WrongAudience,
    ClaimMissing,
    UnknownCredential,
    UntrustedCertificate,
    WrongCertificate,
    KeysUnavailable,
    Busy,
    NoCreation,
    NotCovered,
    Replayed,
    MemoryFull,
    WrongContent,
    Undecided,
}

impl Refusal {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 27] = [
        Self::Missing,
        Self::MalformedCredential,
        Self::SeveralCredentials,
        Self::TooLong,
        Self::MalformedToken,
        Self::CriticalExtension,
        Self::AlgorithmNotAllowed,
        Self::UnknownKey,
        Self::BadSignature,
        Self::DuplicateClaim,
        Self::NoExpiry,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::ClaimMissing,
        Self::UnknownCredential,
        Self::UntrustedCertificate,
        Self::WrongCertificate,
        Self::KeysUnavailable,
        Self::Busy,
        Self::NoCreation,
        Self::NotCovered,
        Self::Replayed,
        Self::MemoryFull,
        Self::WrongContent,
        Self::Undecided,
    ];

    /// A stable word for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::MalformedCredential => "malformed_credential",
            Self::SeveralCredentials => "several_credentials",
            Self::TooLong => "too_long",
            Self::MalformedToken => "malformed_token",
            Self::CriticalExtension => "critical_extension",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::DuplicateClaim => "duplicate_claim",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::ClaimMissing => "claim_missing",
            Self::UnknownCredential => "unknown_credential",
            Self::UntrustedCertificate => "untrusted_certificate",
            Self::WrongCertificate => "wrong_certificate",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Busy => "busy",
            Self::NoCreation => "no_creation",
            Self::NotCovered => "not_covered",
            Self::Replayed => "replayed",
            Self::MemoryFull => "memory_full",
            Self::WrongContent => "wrong_content",
            Self::Undecided => "undecided",
        }
    }

    /// What the client's developer is told. Never holds anything of the credential.
    pub fn description(self) -> &'static str {
        match self {
            Self::Missing => "a credential is needed",
            Self::MalformedCredential => "the credential is malformed",
            Self::SeveralCredentials => "the request has more than one credential",
            Self::TooLong => "the credential is too long",
            Self::MalformedToken => "the token is malformed",
            Self::CriticalExtension => "the token uses an extension that is not supported",
            Self::AlgorithmNotAllowed => "the algorithm is not allowed",
            Self::UnknownKey => "the token was signed with an unknown key",
            Self::BadSignature => "the signature is wrong",
            Self::DuplicateClaim => "the token has a claim twice",
            Self::NoExpiry => "the token does not say when it expires",
            Self::Expired => "the credential has expired",
            Self::NotYetValid => "the credential is not valid yet",
            Self::WrongIssuer => "the token comes from another issuer",
            Self::WrongAudience => "the token is meant for another audience",
            Self::ClaimMissing => "the token lacks a required claim",
            Self::UnknownCredential => "the credential is not known",
            Self::UntrustedCertificate => "nobody who is trusted vouches for the certificate",
            Self::WrongCertificate => "the certificate is none of those that are let in",
            Self::KeysUnavailable => "the keys that the token would be verified with are not known",
            Self::Busy => "too many credentials are being verified",
            Self::NoCreation => "the signature does not say when it was created",
            Self::NotCovered => "the signature does not cover all that it must",
            Self::Replayed => "the signature was used before",
            Self::MemoryFull => "more signatures were used lately than can be remembered",
            Self::WrongContent => "the body is not the one that was signed",
            Self::Undecided => "nobody could decide about the request",
        }
    }

    /// Whether the credential may be one that another provider knows. One that a provider knows and
    /// refuses is no other's; passwords are known together with their names only.
    pub fn leaves_it_to_others(self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::WrongIssuer
                | Self::UnknownCredential
                | Self::UntrustedCertificate
                | Self::WrongCertificate
        )
    }

    /// Whether it says nothing of the credential, which may be good in a moment.
    pub fn is_unavailability(self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable | Self::Busy | Self::MemoryFull | Self::Undecided
        )
    }

    /// The value of `WWW-Authenticate` of bearer tokens (RFC 6750 §3). Without a credential there is no
    /// error to speak of.
    pub(super) fn bearer_challenge(self) -> HeaderValue {
        let error = match self {
            Self::Missing => return HeaderValue::from_static("Bearer realm=\"tollgate\""),
            Self::MalformedCredential | Self::SeveralCredentials => "invalid_request",
            _ => "invalid_token",
        };
        quoted(format!(
            "Bearer realm=\"tollgate\", error=\"{error}\", error_description=\"{}\"",
            self.description()
        ))
    }
}

/// The value of `WWW-Authenticate` for a good token without the rights (RFC 6750 §3.1); `scope` names what
/// the route needs.
pub(super) fn insufficient(scope: &str) -> HeaderValue {
    let mut text = String::from("Bearer realm=\"tollgate\", error=\"insufficient_scope\"");
    if !scope.is_empty() {
        text.push_str(", scope=\"");
        text.push_str(scope);
        text.push('"');
    }
    quoted(text)
}

fn quoted(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("Bearer realm=\"tollgate\""))
}
