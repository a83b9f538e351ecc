//! The body that was signed, by its digests (RFC 9530).

use std::fmt;

use http::{HeaderMap, HeaderName, header};
use openssl::sha::{Sha256, Sha512};
use sfv::{Item, ListEntry};

use super::super::refusal::Refusal;
use super::fields::dictionary;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What the body of a request must be for its credential to be good.
#[derive(Debug, Default)]
pub enum Content {
    /// Anything.
    #[default]
    Any,
    /// Nothing.
    Nothing,
    /// What has these digests.
    Digested(Box<Digests>),
}

/// Digests, and as much of a body as has come. Those of other algorithms are not looked at.
#[derive(Default)]
pub struct Digests {
    sha256: Option<(Sha256, [u8; 32])>,
    sha512: Option<(Sha512, [u8; 64])>,
}

impl Content {
    /// What `Content-Digest` says.
    pub(super) fn announced(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut digests = Digests::default();
        for (algorithm, value) in dictionary(headers, CONTENT_DIGEST)?.unwrap_or_default() {
            let ListEntry::Item(Item { bare_item, .. }) = value else {
                return Err(Refusal::MalformedCredential);
            };
            let digest = bare_item.as_byte_sequence();
            let digest = digest.ok_or(Refusal::MalformedCredential)?;
            let is_length_wrong = |_| Refusal::MalformedCredential;
            match algorithm.as_str() {
                "sha-256" => {
                    let digest = digest.try_into().map_err(is_length_wrong)?;
                    digests.sha256 = Some((Sha256::new(), digest));
                }
                "sha-512" => {
                    let digest = digest.try_into().map_err(is_length_wrong)?;
                    digests.sha512 = Some((Sha512::new(), digest));
                }
                _ => {}
            }
        }
        if digests.sha256.is_none() && digests.sha512.is_none() {
            return Err(Refusal::AlgorithmNotAllowed);
        }
        Ok(Self::Digested(digests.into()))
    }

    /// Whether it may be anything.
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// The body comes from its beginning, for the first time or again.
    pub fn restart(&mut self) {
        if let Self::Digested(digests) = self {
            if let Some((hasher, _)) = &mut digests.sha256 {
                *hasher = Sha256::new();
            }
            if let Some((hasher, _)) = &mut digests.sha512 {
                *hasher = Sha512::new();
            }
        }
    }

    /// A part of the body came.
    ///
    /// # Errors
    /// If there should be none.
    pub fn add(&mut self, part: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Any => {}
            Self::Nothing if part.is_empty() => {}
            Self::Nothing => return Err(Refusal::WrongContent),
            Self::Digested(digests) => {
                if let Some((hasher, _)) = &mut digests.sha256 {
                    hasher.update(part);
                }
                if let Some((hasher, _)) = &mut digests.sha512 {
                    hasher.update(part);
                }
            }
        }
        Ok(())
    }

    /// The body has come to its end.
    ///
    /// # Errors
    /// If it is not the one that was signed.
    pub fn end(&self) -> Result<(), Refusal> {
        let Self::Digested(digests) = self else {
            return Ok(());
        };
        let is_sha256_met = digests
            .sha256
            .as_ref()
            .is_none_or(|(it, expected)| it.clone().finish() == *expected);
        let is_sha512_met = digests
            .sha512
            .as_ref()
            .is_none_or(|(it, expected)| it.clone().finish() == *expected);
        match is_sha256_met && is_sha512_met {
            true => Ok(()),
            false => Err(Refusal::WrongContent),
        }
    }
}

/// Whether a request says that it has a body.
pub(super) fn is_announced(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes() != b"0")
        || headers.contains_key(header::TRANSFER_ENCODING)
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digests").finish_non_exhaustive()
    }
}
