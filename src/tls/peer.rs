//! The certificate that a client has shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use openssl::sha::sha256;
use rustls::pki_types::CertificateDer;

/// The certificate that a client has shown, and that was found to be good.
#[derive(Debug)]
pub struct PeerCertificate {
    /// It and those that vouch for it, nearest first.
    chain: Box<[CertificateDer<'static>]>,
    /// The same, one behind the other.
    der: Box<[u8]>,
    fingerprint: Box<str>,
    /// What backends are told, if they are.
    forwarded: Option<HeaderValue>,
}

impl PeerCertificate {
    pub(super) fn new(chain: &[CertificateDer<'static>], is_forwarded: bool) -> Option<Self> {
        let own = chain.first()?;
        let digest = sha256(own);
        Some(Self {
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            forwarded: is_forwarded.then(|| item(own)).flatten(),
            chain: chain.into(),
            der: chain.iter().flat_map(|it| it.as_ref()).copied().collect(),
        })
    }

    /// It and those that vouch for it, nearest first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The same as DER, one behind the other.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its SHA-256 in hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The value of `Client-Cert` for backends, if they are told.
    pub fn forwarded(&self) -> Option<&HeaderValue> {
        self.forwarded.as_ref()
    }
}

/// A certificate as it stands in a header (RFC 9440 §2.1).
fn item(der: &[u8]) -> Option<HeaderValue> {
    let item = format!(":{}:", STANDARD.encode(der));
    HeaderValue::from_maybe_shared(Bytes::from(item)).ok()
}
