//! A certificate that the gateway has got.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::CertificateIdentifier;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::sha::sha256;
use openssl::x509::X509;

use crate::tls::{Automatic, Names};

/// What its renewal depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Issued {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
    /// What its authority knows it by (RFC 9773 §4.1), if it says so.
    pub(super) id: Option<(String, String)>,
    /// Always the same for it, and as good as random: 0 to 1.
    pub(super) lot: f64,
}

impl Issued {
    /// The one in a file, if it is what is wanted.
    pub(super) fn read(wanted: &Automatic) -> Option<Self> {
        let pem = std::fs::read(&wanted.file).ok()?;
        let leaf = X509::stack_from_pem(&pem).ok()?.into_iter().next()?;
        wanted.is_covered_by(&Names::of(&leaf)).then_some(())?;
        Self::of(&leaf)
    }

    fn of(leaf: &X509) -> Option<Self> {
        let mut serial = leaf.serial_number().to_bn().ok()?.to_vec();
        // As DER has it: a first bit that is set would make it negative.
        if serial.first().is_none_or(|first| first & 0x80 != 0) {
            serial.insert(0, 0);
        }
        let authority = leaf.authority_key_id();
        let id = authority.map(|authority| {
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            (text(authority.as_slice()), text(&serial))
        });
        let digest = sha256(&leaf.to_der().ok()?);
        let [a, b, c, d, ..] = digest;
        Some(Self {
            from: time(leaf.not_before()),
            until: time(leaf.not_after()),
            id,
            lot: f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX),
        })
    }

    /// What its authority knows it by.
    pub(super) fn id(&self) -> Option<CertificateIdentifier<'_>> {
        let (authority, serial) = self.id.as_ref()?;
        Some(CertificateIdentifier {
            authority_key_identifier: Cow::Borrowed(authority),
            serial: Cow::Borrowed(serial),
        })
    }
}

fn time(written: &Asn1TimeRef) -> SystemTime {
    let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(written));
    let seconds = since.map_or(0, |it| i64::from(it.days) * 86_400 + i64::from(it.secs));
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber};

    use super::*;

    #[test]
    fn authorities_know_it_as_the_rfc_says() {
        // The example of RFC 9773 §4.1.
        let authority = [
            0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0,
            0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
        ];
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_identifier_method = KeyIdMethod::PreSpecified(authority.to_vec());
        let issuer = Issuer::new(params, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(vec![0x00, 0x87, 0x65, 0x43, 0x21]));
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let issued = Issued::of(&X509::from_der(leaf.der()).unwrap()).unwrap();
        let id = issued.id().unwrap();
        assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    }
}
