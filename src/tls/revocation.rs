//! Lists of certificates that are revoked (CRL, RFC 5280 §5).

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use openssl::sha::sha256;
use openssl::x509::X509Crl;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;

use super::authority::{Authority, name};
use super::certificate::{read, time};
use crate::config::{Diagnostics, Spanned};

/// How such a list begins in a PEM file.
const PEM: &[u8] = b"-----BEGIN X509 CRL-----";
const FORMS: &str =
    "it must be what `openssl ca -gencrl -out FILE` writes: `-----BEGIN X509 CRL-----`, or DER";

/// A list of revoked certificates.
#[derive(Debug)]
pub struct RevocationList {
    /// Its file, as written.
    pub file: Box<str>,
    /// The authority whose certificates it is about.
    pub issuer: Box<str>,
    /// When it was made.
    pub issued: SystemTime,
    /// From then on it is no longer true.
    pub until: SystemTime,
    /// Tells it from others (SHA-256).
    pub fingerprint: [u8; 32],
    pub(super) der: CertificateRevocationListDer<'static>,
}

impl RevocationList {
    /// Reads all that are in a file, each of which must be one of these authorities'; `None` if there is
    /// something wrong with it, which has been reported.
    pub(super) fn read(
        file: &Spanned<String>,
        base: &Path,
        (authorities, roots): (&[Authority], &Arc<RootCertStore>),
        provider: &Arc<CryptoProvider>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Self>> {
        let bytes = read(file, base, diagnostics)?;
        let is_pem = bytes.windows(PEM.len()).any(|it| it == PEM);
        let ders: Result<Vec<_>, _> = match is_pem {
            true => CertificateRevocationListDer::pem_slice_iter(&bytes).collect(),
            false => Ok(vec![bytes.into()]),
        };
        let mut wrong = |message: String, help: &str| {
            diagnostics.error(file.span, message).help(help);
            None
        };
        let ders = match ders {
            Ok(ders) => ders,
            Err(error) => return wrong(format!("`{file}` is damaged: {error}"), FORMS),
        };
        let mut lists = Vec::new();
        for der in ders {
            let Ok(list) = X509Crl::from_der(&der) else {
                return wrong(
                    format!("`{file}` holds no list of revoked certificates"),
                    FORMS,
                );
            };
            let issuer = name(list.issuer_name());
            let Some(until) = list.next_update() else {
                return wrong(
                    format!("the list in `{file}` does not say until when it is true"),
                    "make it with `-crldays 30`, or how long yours are to be true",
                );
            };
            if !authorities.iter().any(|it| is_by(&list, it)) {
                return wrong(
                    format!(
                        "the list in `{file}` is by `{issuer}`, who is none of the authorities in `ca`"
                    ),
                    "add the certificate of who signed the list to `ca`, or remove the list",
                );
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
            if let Err(error) = verifier.with_crls([der.clone()]).build() {
                return wrong(
                    format!("the list in `{file}` can't be used: {error}"),
                    "it must be a whole one (no delta), version 2, with a number: `crl_extensions` with \
                     `authorityKeyIdentifier` and a `crlnumber` file in the configuration of `openssl ca`",
                );
            }
            lists.push(Self {
                file: file.as_str().into(),
                issuer,
                issued: time(list.last_update()),
                until: time(until),
                fingerprint: sha256(&der),
                der,
            });
        }
        for list in lists.iter().filter(|it| it.until <= SystemTime::now()) {
            diagnostics
                .warning(
                    file.span,
                    format!(
                        "the list of `{}` in `{file}` is no longer true",
                        list.issuer
                    ),
                )
                .help("all certificates of this authority are refused until there is a new one");
        }
        Some(lists)
    }

    /// Whether it is by this authority.
    pub(super) fn is_by(&self, authority: &Authority) -> bool {
        X509Crl::from_der(&self.der).is_ok_and(|list| is_by(&list, authority))
    }
}

fn is_by(list: &X509Crl, authority: &Authority) -> bool {
    let certificate = &authority.certificate;
    let has_name = list.issuer_name().try_cmp(certificate.subject_name());
    let key = certificate.public_key();
    has_name.is_ok_and(|order| order.is_eq())
        && key.is_ok_and(|key| list.verify(&key).unwrap_or(false))
}
