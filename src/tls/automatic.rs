//! Certificates that the gateway gets by itself: for which names, and where they are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openssl::sha::sha256;
use openssl::x509::X509;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Names;
use super::certificate::Certificate;
use crate::config::{Diagnostics, OneOrMany, Spanned};

/// Most names that one certificate is for.
const MOST_NAMES: usize = 100;
/// The longest name of a host, and of a part of it (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A certificate that the gateway gets by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Automatic {
    /// What it is to be for, in lower case; at least one.
    pub names: Box<[Box<str>]>,
    /// Where it is kept, behind its key.
    pub file: PathBuf,
}

impl Automatic {
    /// For the names that are written, kept in `folder`, or what is wrong with them.
    pub(super) fn compile(
        written: &Spanned<OneOrMany<Spanned<String>>>,
        folder: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let names: Vec<Option<Box<str>>> = written
            .iter()
            .map(|name| checked(name, diagnostics))
            .collect();
        let mut names = names.into_iter().collect::<Option<Vec<_>>>()?;
        let count = names.len();
        names.sort();
        names.dedup();
        if count == 0 || count > MOST_NAMES || names.len() < count {
            let what = match count {
                0 => "a certificate is for no name",
                _ if names.len() < count => "a name is written twice",
                _ => "a certificate is for too many names",
            };
            diagnostics
                .error(written.span, what)
                .help(format!("1 to {MOST_NAMES} names, each once"));
            return None;
        }
        // The first one that is written is what people call it.
        let first = written.0[0].to_ascii_lowercase();
        let mut stem = first.clone();
        if names.len() > 1 {
            let [a, b, c, d, ..] = sha256(names.join(" ").as_bytes());
            let digest = u32::from_be_bytes([a, b, c, d]);
            stem = format!("{first}+{}-{digest:08x}", count - 1);
        }
        names.sort_by_key(|name| **name != *first);
        Some(Self {
            names: names.into(),
            file: folder.join(format!("{stem}.pem")),
        })
    }

    /// Whether a certificate is for exactly these names.
    pub fn is_covered_by(&self, names: &Names) -> bool {
        let mut found: Vec<&str> = names.iter().collect();
        let mut wanted: Vec<&str> = self.names.iter().map(|name| &**name).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        found == wanted
    }

    /// The certificate in its file or, until there is one, another that no client trusts, so that the listener
    /// can be there by which the authority finds out whose the names are.
    pub(super) fn read(self, provider: &CryptoProvider) -> Option<Certificate> {
        let pem = std::fs::read(&self.file).ok();
        let found = pem.and_then(|pem| certified(&pem, provider));
        let found = found.filter(|(leaf, _)| self.is_covered_by(&Names::of(leaf)));
        let is_awaited = found.is_none();
        let (leaf, key) = found.or_else(|| self.placeholder(provider))?;
        let file = self.file.display().to_string().into();
        let mut certificate = Certificate::new(file, &leaf, key);
        certificate.automatic = Some(Arc::new(self));
        certificate.is_awaited = is_awaited;
        Some(certificate)
    }

    fn placeholder(&self, provider: &CryptoProvider) -> Option<(X509, CertifiedKey)> {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().ok()?;
        let issued = CertificateParams::new(names).ok()?.self_signed(&key).ok()?;
        let pem = format!("{}{}", key.serialize_pem(), issued.pem());
        certified(pem.as_bytes(), provider)
    }
}

/// The first certificate of a PEM file, and what it is shown with.
fn certified(pem: &[u8], provider: &CryptoProvider) -> Option<(X509, CertifiedKey)> {
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()?;
    let leaf = X509::from_der(chain.first()?).ok()?;
    let key = CertifiedKey::from_der(chain, key, provider).ok()?;
    Some((leaf, key))
}

/// A name in lower case, if authorities issue certificates for such ones.
fn checked(name: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Box<str>> {
    let problem = if name.starts_with("*.") {
        "a wildcard is not proved at the gateway, but in the name's zone (DNS-01)"
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        "certificates are for names, not for addresses"
    } else if !is_host(name) {
        "this is no host name that a certificate could be for"
    } else {
        return Some(name.to_ascii_lowercase().into());
    };
    diagnostics.error(name.span, problem).help(
        "write a full name such as `shop.example.com`; other certificates go to `certificates`",
    );
    None
}

fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=LONGEST_LABEL).contains(&label.len())
            && label.chars().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= LONGEST_NAME && name.contains('.') && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    fn automatic(names: &[&str]) -> Result<Automatic, Vec<String>> {
        let names = names.iter().map(|name| name.to_string().into()).collect();
        let mut diagnostics = Diagnostics::default();
        let written = OneOrMany(names).into();
        let found = Automatic::compile(&written, Path::new("/f"), &mut diagnostics);
        let findings = diagnostics.into_sorted().into_iter().map(|it| it.message);
        found.ok_or_else(|| findings.collect())
    }

    #[test]
    fn a_certificate_has_a_file_of_its_own_whatever_the_order_of_its_names() {
        let one = automatic(&["Shop.example.com"]).unwrap();
        assert_eq!(one.file, Path::new("/f/shop.example.com.pem"));
        let two = automatic(&["shop.example.com", "api.example.com"]).unwrap();
        assert_eq!(*two.names[0], *"shop.example.com");
        let name = two.file.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("shop.example.com+1-"), "{name}");
        let other = automatic(&["shop.example.com", "www.example.com"]).unwrap();
        assert_ne!(two.file, other.file);
    }

    #[test]
    fn only_names_that_can_be_proved_here_are_taken() {
        for (names, problem) in [
            (
                &["*.example.com"][..],
                "a wildcard is not proved at the gateway",
            ),
            (&["127.0.0.1"], "certificates are for names"),
            (&["::1"], "certificates are for names"),
            (&["localhost"], "this is no host name"),
            (&["a..b"], "this is no host name"),
            (&["-a.example"], "this is no host name"),
            (&["../../etc/passwd"], "this is no host name"),
            (&["a.example", "A.example"], "a name is written twice"),
            (&[], "a certificate is for no name"),
        ] {
            let findings = automatic(names).unwrap_err();
            assert!(findings[0].starts_with(problem), "{names:?}: {findings:?}");
        }
    }

    #[test]
    fn until_it_is_there_or_if_it_is_anothers_a_placeholder_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.example.pem");
        let read = |names: &[&str]| {
            let automatic = Automatic {
                names: names.iter().map(|name| Box::from(*name)).collect(),
                file: file.clone(),
            };
            automatic.read(&default_provider()).unwrap()
        };
        assert!(read(&["a.example"]).is_awaited);
        for (text, is_awaited) in [("", true), ("-----BEGIN CERTIFICATE-----\n", true)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&["a.example"]).is_awaited, is_awaited);
        }
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let issued = params.self_signed(&key).unwrap();
        std::fs::write(&file, key.serialize_pem() + &issued.pem()).unwrap();
        let found = read(&["a.example"]);
        assert!(!found.is_awaited);
        assert_eq!(found.names.first(), Some("a.example"));
        assert!(read(&["a.example", "b.example"]).is_awaited);
        assert!(read(&["b.example"]).is_awaited);
    }
}
