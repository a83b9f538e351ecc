//! Certificates and their keys, from files, or every reason why not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::sha::sha256;
use openssl::x509::X509;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};

use super::automatic::Automatic;
use super::names::Names;
use super::staple::Staple;
use crate::config::{CertificateFiles, Diagnostics, Spanned};

/// A certificate that clients can be shown.
#[derive(Debug)]
pub struct Certificate {
    /// Its file, as written.
    pub file: Box<str>,
    /// If the gateway gets it by itself: what it is to be for.
    pub automatic: Option<Arc<Automatic>>,
    /// Whether this one only stands in its place until it is there.
    pub is_awaited: bool,
    /// What it is for.
    pub names: Names,
    /// From then on nobody accepts it.
    pub expires: SystemTime,
    /// Tells it from others (SHA-256).
    pub fingerprint: [u8; 32],
    pub(super) key: Arc<CertifiedKey>,
    /// The same with what its authority says of it, and until when that may be shown.
    stapled: Option<(Arc<CertifiedKey>, SystemTime)>,
}

impl Certificate {
    /// Reads a certificate and its key. Relative paths start from `base`.
    pub(super) fn read(
        section: &Spanned<CertificateFiles>,
        base: &Path,
        provider: &CryptoProvider,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let chain = chain(&section.cert, base, diagnostics);
        let key = key(&section.key, base, diagnostics);
        let (chain, key) = (chain?, key?);
        let issuer = chain.get(1).and_then(|it| X509::from_der(it).ok());
        let Ok(leaf) = X509::from_der(&chain[0]) else {
            diagnostics
                .error(
                    section.cert.span,
                    format!("the certificate in `{}` can't be read", section.cert),
                )
                .help("`openssl x509 -in FILE -noout -text` says what is wrong with it");
            return None;
        };
        let key = match CertifiedKey::from_der(chain, key, provider) {
            Ok(key) => key,
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                diagnostics
                    .error(
                        section.key.span,
                        format!("the key in `{}` is not that of the certificate", section.key),
                    )
                    .related(section.cert.span, "of this one")
                    .help("the certificate itself comes first in its file, those that vouch for it behind it");
                return None;
            }
            Err(error) => {
                log::debug!("a key can't be used: {error}");
                diagnostics
                    .error(
                        section.key.span,
                        format!("the key in `{}` can't be used", section.key),
                    )
                    .help("RSA of 2048 to 8192 bits, or ECDSA on P-256, P-384 or P-521");
                return None;
            }
        };
        let staple = match &section.ocsp {
            Some(file) => Some(Staple::read(
                file,
                base,
                (&leaf, issuer.as_ref()),
                diagnostics,
            )?),
            None => None,
        };
        let stapled = staple.map(|staple| {
            let mut key = key.clone();
            key.ocsp = Some(staple.der);
            (Arc::new(key), staple.until)
        });
        let certificate = Self {
            stapled,
            ..Self::new(section.cert.as_str().into(), &leaf, key)
        };
        certificate.warn(&leaf, section, diagnostics);
        Some(certificate)
    }

    /// One from a file, with nothing said of it.
    pub(super) fn new(file: Box<str>, leaf: &X509, key: CertifiedKey) -> Self {
        Self {
            file,
            automatic: None,
            is_awaited: false,
            names: Names::of(leaf),
            expires: time(leaf.not_after()),
            fingerprint: sha256(key.cert[0].as_ref()),
            key: Arc::new(key),
            stapled: None,
        }
    }

    /// What clients are shown.
    pub(super) fn shown(&self) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((key, until)) if *until > SystemTime::now() => key,
            _ => &self.key,
        }
    }

    /// What kind of key it has: RSA, which takes longer and which old clients need, or another.
    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.key.key.algorithm()
    }

    /// What clients will not like, and the gateway can serve anyway: it must not refuse to start with twenty
    /// certificates for the one that has expired.
    fn warn(&self, leaf: &X509, section: &CertificateFiles, diagnostics: &mut Diagnostics) {
        let now = SystemTime::now();
        let span = section.cert.span;
        if self.expires <= now {
            diagnostics
                .warning(
                    span,
                    format!(
                        "the certificate in `{}` expired on {}",
                        self.file,
                        leaf.not_after()
                    ),
                )
                .help("clients refuse it: put a new one in its place");
        } else if time(leaf.not_before()) > now {
            diagnostics
                .warning(
                    span,
                    format!(
                        "the certificate in `{}` is valid only from {} on",
                        self.file,
                        leaf.not_before()
                    ),
                )
                .help("clients refuse it until then");
        }
        if self.names.first().is_none() {
            diagnostics
                .warning(span, format!("the certificate in `{}` is for no name", self.file))
                .help("clients look for the host among its subject alternative names, not at its common name");
        }
    }
}

pub(super) fn read(
    file: &Spanned<String>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    if diagnostics.has_error_within(file.span) {
        return None;
    }
    match std::fs::read(base.join(file.as_str())) {
        Ok(pem) => Some(pem),
        Err(error) => {
            diagnostics
                .error(file.span, format!("`{file}` can't be read: {error}"))
                .help(format!("the path starts from `{}`", base.display()));
            None
        }
    }
}

/// The certificates of a file, of which there is at least one.
pub(super) fn chain(
    file: &Spanned<String>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = read(file, base, diagnostics)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => return Some(chain),
        Ok(_) => diagnostics.error(file.span, format!("`{file}` holds no certificate")),
        Err(error) => diagnostics.error(file.span, format!("`{file}` is damaged: {error}")),
    }
    .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
    None
}

fn key(
    file: &Spanned<String>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<PrivateKeyDer<'static>> {
    let pem = read(file, base, diagnostics)?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) {
        return Some(key);
    }
    let is_encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
    if is_encrypted {
        diagnostics
            .error(file.span, format!("the key in `{file}` is encrypted"))
            .help(
                "nobody is there to type its password: write it in clear with `openssl pkey -in FILE -out \
                 FILE`, in a file that only the gateway can read",
            );
    } else {
        diagnostics
            .error(file.span, format!("`{file}` holds no private key"))
            .help("it must be a PEM file with `-----BEGIN PRIVATE KEY-----`");
    }
    None
}

pub(super) fn time(written: &Asn1TimeRef) -> SystemTime {
    let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(written));
    let seconds = since.map_or(0, |it| i64::from(it.days) * 86_400 + i64::from(it.secs));
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
use openssl::{ec::EcGroup, ec::EcKey, nid::Nid, pkey::PKey};

#[cfg(test)]
impl Certificate {
    /// One that is for these names, by itself.
    pub(super) fn issued(names: &[&str], is_rsa: bool) -> Self {
        let key = match is_rsa {
            true => openssl::rsa::Rsa::generate(2048)
                .and_then(PKey::from_rsa)
                .unwrap(),
            false => {
                let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
                EcKey::generate(&curve).and_then(PKey::from_ec_key).unwrap()
            }
        };
        let key = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let issued = rcgen::CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let leaf = X509::from_der(issued.der()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(vec![issued.der().clone()], key, &provider).unwrap();
        Self::new("test.pem".into(), &leaf, key)
    }
}
