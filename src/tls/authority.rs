//! Authorities that vouch for clients.

use std::path::Path;
use std::time::SystemTime;

use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::x509::{X509, X509NameRef};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::certificate::{chain, time};
use crate::config::{Diagnostics, Spanned};

/// `id-ce-basicConstraints` (RFC 5280 §4.2.1.9) as certificates hold it.
const BASIC_CONSTRAINTS: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
/// `cA TRUE` in them.
const IS_AUTHORITY: [u8; 3] = [0x01, 0x01, 0xff];

/// An authority that vouches for clients.
#[derive(Debug)]
pub struct Authority {
    /// Its file, as written.
    pub file: Box<str>,
    /// What it is called.
    pub name: Box<str>,
    /// From then on nobody should trust it.
    pub expires: SystemTime,
    /// Tells it from others (SHA-256).
    pub fingerprint: [u8; 32],
    pub(super) der: CertificateDer<'static>,
    pub(super) certificate: X509,
}

impl Authority {
    /// Reads all that are in a file; `None` if there is something wrong with it, which has been reported.
    pub(super) fn read(
        file: &Spanned<String>,
        base: &Path,
        roots: &mut RootCertStore,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Self>> {
        let mut authorities = Vec::new();
        for der in chain(file, base, diagnostics)? {
            let (Ok(certificate), Ok(())) = (X509::from_der(&der), roots.add(der.clone())) else {
                diagnostics
                    .error(
                        file.span,
                        format!("a certificate in `{file}` can't be read"),
                    )
                    .help("`openssl x509 -in FILE -noout -text` says what is wrong with it");
                return None;
            };
            let authority = Self {
                file: file.as_str().into(),
                name: name(certificate.subject_name()),
                expires: time(certificate.not_after()),
                fingerprint: sha256(&der),
                der,
                certificate,
            };
            if !authority.may_sign() {
                diagnostics
                    .error(
                        file.span,
                        format!("`{}` in `{file}` is no authority", authority.name),
                    )
                    .help(
                        "whoever has its key could make certificates: name the certificate that signed it; \
                         single certificates are let in by `fingerprints` of a `client_certificate` provider",
                    );
                return None;
            }
            if authority.expires <= SystemTime::now() {
                diagnostics
                    .warning(
                        file.span,
                        format!(
                            "the authority `{}` in `{file}` expired on {}",
                            authority.name,
                            authority.certificate.not_after()
                        ),
                    )
                    .help("it is trusted as long as it is here: put a new one in its place");
            }
            authorities.push(authority);
        }
        Some(authorities)
    }

    /// Whether it may sign certificates. Old ones without extensions can't say so.
    fn may_sign(&self) -> bool {
        let mut found = self.der.windows(BASIC_CONSTRAINTS.len());
        match found.position(|it| it == BASIC_CONSTRAINTS) {
            Some(at) => {
                let rest = &self.der[at + BASIC_CONSTRAINTS.len()..];
                // Behind it comes whether it is critical, which reads the same, and then a sequence in a string.
                let rest = rest.strip_prefix(&IS_AUTHORITY).unwrap_or(rest);
                rest.get(4..7) == Some(&IS_AUTHORITY)
            }
            None => self.certificate.version() == 0,
        }
    }
}

/// What people call somebody: the common name, or else the last name there is.
pub(super) fn name(subject: &X509NameRef) -> Box<str> {
    let mut common = subject.entries_by_nid(Nid::COMMONNAME);
    let entry = common.next().or_else(|| subject.entries().last());
    let text = entry.and_then(|entry| entry.data().to_string().ok());
    text.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    #[test]
    fn only_who_may_sign_certificates_is_an_authority() {
        for (is_ca, may_sign) in [
            (IsCa::NoCa, false),
            (IsCa::ExplicitNoCa, false),
            (IsCa::Ca(BasicConstraints::Unconstrained), true),
            (IsCa::Ca(BasicConstraints::Constrained(0)), true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.is_ca = is_ca;
            let issued = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            std::fs::write(directory.path().join("ca.pem"), issued.pem()).unwrap();
            let (mut roots, mut diagnostics) = (RootCertStore::empty(), Diagnostics::default());
            let file = "ca.pem".to_owned().into();
            let read = Authority::read(&file, directory.path(), &mut roots, &mut diagnostics);
            assert_eq!(read.is_some(), may_sign, "{is_ca:?} {diagnostics:?}");
        }
    }
}
