//! Why a credential was refused, and what the client is told (RFC 6750 §3).

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
    KeysUnavailable,
}

/// A good credential without the right that the route asks for: the answer is 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// A scope is missing.
    Scope,
    /// A claim is missing or has another value.
    Claim,
}

impl Refusal {
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
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// What the client's developer is told. Never holds anything of the token.
    pub fn description(self) -> &'static str {
        match self {
            Self::Missing => "a token is needed",
            Self::MalformedCredential => "the credential is not a bearer token",
            Self::SeveralCredentials => "the request has more than one credential",
            Self::TooLong => "the token is too long",
            Self::MalformedToken => "the token is malformed",
            Self::CriticalExtension => "the token uses an extension that is not supported",
            Self::AlgorithmNotAllowed => "the token's algorithm is not allowed",
            Self::UnknownKey => "the token was signed with an unknown key",
            Self::BadSignature => "the token's signature is wrong",
            Self::DuplicateClaim => "the token has a claim twice",
            Self::NoExpiry => "the token does not say when it expires",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::WrongIssuer => "the token comes from another issuer",
            Self::WrongAudience => "the token is meant for another audience",
            Self::ClaimMissing => "the token lacks a required claim",
            Self::KeysUnavailable => "the keys that the token would be verified with are not known",
        }
    }

    /// The value of `WWW-Authenticate`. Without a credential there is no error to speak of.
    pub fn challenge(self) -> HeaderValue {
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

impl Forbidden {
    /// What the client's developer is told.
    pub fn description(self) -> &'static str {
        match self {
            Self::Scope => "the token lacks a scope that this route needs",
            Self::Claim => "the token lacks a claim that this route needs",
        }
    }

    /// The value of `WWW-Authenticate`; `scope` names what the route needs.
    pub(super) fn challenge(scope: &str) -> HeaderValue {
        let mut text = String::from("Bearer realm=\"tollgate\", error=\"insufficient_scope\"");
        if !scope.is_empty() {
            text.push_str(", scope=\"");
            text.push_str(scope);
            text.push('"');
        }
        quoted(text)
    }
}

fn quoted(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("Bearer realm=\"tollgate\""))
}
