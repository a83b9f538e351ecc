//! How clients are verified by certificates of their own: by whom, and for which names.

use std::path::Path;
use std::sync::Arc;

use openssl::sha::Sha256;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, RootCertStore};

use super::authority::Authority;
use super::revocation::RevocationList;
use crate::config::{ClientVerification, Diagnostics, Spanned, VerificationMode};

/// The digest of how clients are verified, where they are not.
pub(super) const NOBODY: [u8; 32] = [0; 32];

/// How clients are verified that ask for certain names.
#[derive(Debug)]
pub struct Verification {
    /// Who vouches for them.
    pub authorities: Box<[Authority]>,
    /// Which certificates no longer count; the newest lists first.
    pub lists: Box<[RevocationList]>,
    /// Whether who shows none comes in as nobody.
    is_optional: bool,
    /// Whether backends are shown the certificates.
    is_forwarded: bool,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// The digest of all that decides who comes in.
    pub(super) scope: [u8; 32],
}

impl Verification {
    /// Compiles a section, or reports everything that is wrong with it.
    pub(super) fn compile(
        section: &Spanned<ClientVerification>,
        base: &Path,
        provider: &Arc<CryptoProvider>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        if section.ca.0.is_empty() {
            if !diagnostics.has_error_within(section.span) {
                diagnostics
                    .error(section.span, "`ca` is an empty list, so that nobody comes in")
                    .help("name the file of the authority that signs clients' certificates: `ca: FILE`");
            }
            return None;
        }
        let mut roots = RootCertStore::empty();
        let read = section
            .ca
            .iter()
            .map(|file| Authority::read(file, base, &mut roots, diagnostics));
        // All of them are read, so that everything that is wrong is said.
        let authorities: Vec<Option<Vec<Authority>>> = read.collect();
        let authorities: Vec<Authority> = authorities
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        let roots = Arc::new(roots);
        let read = section.crl.iter().map(|file| {
            let by = (&*authorities, &roots);
            RevocationList::read(file, base, by, provider, diagnostics)
        });
        let lists: Vec<Option<Vec<RevocationList>>> = read.collect();
        let mut lists: Vec<RevocationList> = lists
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        // Of several by one authority the first one is asked.
        lists.sort_by_key(|list| std::cmp::Reverse(list.issued));
        if !lists.is_empty() {
            warn_about_unlisted(section, &authorities, &lists, diagnostics);
        }
        let is_optional = *section.mode == VerificationMode::Optional;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .with_crls(lists.iter().map(|list| list.der.clone()))
            .enforce_revocation_expiration();
        let verifier = match is_optional {
            true => verifier.allow_unauthenticated(),
            false => verifier,
        };
        let verifier = match verifier.build() {
            Ok(verifier) => verifier,
            // Each file was found to be good.
            Err(error) => {
                diagnostics.error(section.span, format!("clients can't be verified: {error}"));
                return None;
            }
        };
        Some(Self {
            scope: scope(is_optional, &authorities, &lists),
            authorities: authorities.into(),
            lists: lists.into(),
            is_optional,
            is_forwarded: section.forward,
            verifier,
        })
    }

    /// Whether backends are shown the certificates.
    pub fn is_forwarded(&self) -> bool {
        self.is_forwarded
    }

    /// Whether a client that showed these certificates, its own first, comes in now.
    pub(super) fn admit(&self, chain: &[CertificateDer<'static>]) -> Result<(), Error> {
        match chain.split_first() {
            Some((own, rest)) => {
                let verified = self.verifier.verify_client_cert(own, rest, UnixTime::now());
                verified.map(|_| ())
            }
            None if self.is_optional => Ok(()),
            None => Err(Error::NoCertificatesPresented),
        }
    }
}

fn scope(is_optional: bool, authorities: &[Authority], lists: &[RevocationList]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(&[u8::from(is_optional)]);
    let authorities = authorities.iter().map(|it| (0, it.der.as_ref()));
    let lists = lists.iter().map(|it| (1, it.der.as_ref()));
    for (kind, der) in authorities.chain(lists) {
        digest.update(&[kind]);
        digest.update(&(der.len() as u64).to_be_bytes());
        digest.update(der);
    }
    digest.finish()
}

fn warn_about_unlisted(
    section: &ClientVerification,
    authorities: &[Authority],
    lists: &[RevocationList],
    diagnostics: &mut Diagnostics,
) {
    for authority in authorities {
        if !lists.iter().any(|list| list.is_by(authority)) {
            let file = section.ca.iter().find(|it| it.as_str() == &*authority.file);
            diagnostics
                .warning(
                    file.map_or_else(Default::default, |file| file.span),
                    format!("no list in `crl` is by `{}`", authority.name),
                )
                .help("all certificates that it signed are refused: add its list, or remove it from `ca`");
        }
    }
}
