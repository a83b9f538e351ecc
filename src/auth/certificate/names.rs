//! What a certificate says of who has it.

use openssl::hash::MessageDigest;
use openssl::x509::{GeneralNameRef, X509Ref};
use serde_json::{Map, Value, json};

use super::distinguished_name::DistinguishedName;
use crate::auth::identity::SUBJECT;
use crate::config::CertificateName;

/// What a certificate says of who has it.
pub(super) struct Names {
    pub(super) subject: DistinguishedName,
    pub(super) issuer: DistinguishedName,
    pub(super) dns: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) emails: Vec<String>,
    /// SHA-256, in hexadecimal digits.
    pub(super) fingerprint: String,
    serial: String,
}

impl Names {
    /// `None` if one of them is no text.
    pub(super) fn of(certificate: &X509Ref) -> Option<Self> {
        let digest = certificate.digest(MessageDigest::sha256()).ok()?;
        let alternatives = certificate.subject_alt_names();
        let list = |read: fn(&GeneralNameRef) -> Option<&str>| {
            let names = alternatives.iter().flatten();
            let names = names.filter_map(|name| read(name).map(str::to_owned));
            names.collect::<Vec<_>>()
        };
        let serial = certificate.serial_number().to_bn().ok()?;
        Some(Self {
            subject: DistinguishedName::of(certificate.subject_name())?,
            issuer: DistinguishedName::of(certificate.issuer_name())?,
            dns: list(|name| name.dnsname()),
            uris: list(|name| name.uri()),
            emails: list(|name| name.email()),
            fingerprint: hexadecimal(&digest),
            serial: serial.to_hex_str().ok()?.to_ascii_lowercase(),
        })
    }

    /// The one that says who it is. A name that is empty says nothing.
    pub(super) fn get(&self, name: CertificateName) -> Option<&str> {
        let name = match name {
            CertificateName::Subject => Some(self.subject.text.as_str()),
            CertificateName::CommonName => self.subject.common_name.as_deref(),
            CertificateName::SanDns => self.dns.first().map(String::as_str),
            CertificateName::SanUri => self.uris.first().map(String::as_str),
            CertificateName::SanEmail => self.emails.first().map(String::as_str),
            CertificateName::Fingerprint => Some(self.fingerprint.as_str()),
        };
        name.filter(|name| !name.is_empty())
    }

    /// All of them as claims of `subject`.
    pub(super) fn into_claims(self, subject: String) -> Map<String, Value> {
        let mut claims = Map::from_iter([
            (SUBJECT.to_owned(), subject.into()),
            ("subject".to_owned(), self.subject.text.into()),
            ("issuer".to_owned(), self.issuer.text.into()),
            ("serial".to_owned(), self.serial.into()),
            ("fingerprint".to_owned(), self.fingerprint.into()),
        ]);
        if let Some(name) = self.subject.common_name {
            claims.insert("common_name".to_owned(), name.into());
        }
        let alternatives = [
            ("dns", self.dns),
            ("uri", self.uris),
            ("email", self.emails),
        ];
        let alternatives = alternatives
            .into_iter()
            .filter(|(_, names)| !names.is_empty());
        let alternatives: Map<_, _> = alternatives
            .map(|(kind, names)| (kind.to_owned(), json!(names)))
            .collect();
        claims.insert("san".to_owned(), alternatives.into());
        claims
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
