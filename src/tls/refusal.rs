//! Why there is no encrypted connection.

use std::io;

use rustls::{CertificateError, Error};

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The client took too long.
    #[error("it took too long")]
    Slow,
    /// It went away.
    #[error("the client went away: {0}")]
    Gone(io::Error),
    /// What it sent was no beginning of a handshake.
    #[error("the client does not speak TLS")]
    NotTls,
    /// It was an authority's look for a proof that a name is the gateway's, which it got.
    #[error("it was a look for a proof")]
    Proved,
    /// Its certificate is not good, or missing.
    #[error("{1}")]
    Certificate(BadCertificate, Error),
    /// They have no version, cipher or name in common, or what the client sent was wrong.
    #[error("{0}")]
    Failed(io::Error),
}

/// What is wrong with a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCertificate {
    /// There is none.
    Missing,
    /// It is before or after its time, or one that vouches for it is.
    Expired,
    /// Its authority says that it no longer counts.
    Revoked,
    /// Nobody known vouches for it.
    UnknownIssuer,
    /// Whether it is revoked can't be told: there is no list that is still true.
    UnknownStatus,
    /// It is not for clients, badly signed, or no certificate.
    Invalid,
}

impl BadCertificate {
    /// What is wrong, if that is why a handshake failed.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let error = match error {
            Error::NoCertificatesPresented => return Some(Self::Missing),
            Error::InvalidCertificate(error) => error,
            _ => return None,
        };
        Some(match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::UnknownStatus,
            _ => Self::Invalid,
        })
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match BadCertificate::of(&error) {
            Some(bad) => Self::Certificate(bad, error),
            None => Self::Failed(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        if error.kind() != io::ErrorKind::InvalidData {
            return Self::Gone(error);
        }
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Failed(error),
        }
    }
}
