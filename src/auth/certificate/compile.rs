//! Client certificates from their section, or every reason why not.

use std::path::Path;

use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId};

use super::rules::Rules;
use super::{Authorities, Certificates};
use crate::auth::cache::CredentialCache;
use crate::auth::clock::Clock;
use crate::auth::consumer::Members;
use crate::auth::header::forwarded_claims;
use crate::auth::identity::Likeness;
use crate::auth::surroundings::Surroundings;
use crate::config::{ClientCertificate, Diagnostics, Spanned};

/// Certificates remembered. With what vouches for them they take a few KiB each.
const REMEMBERED: usize = 4096;
/// Seconds after which one is looked at again although it has not expired.
const LONGEST_STAY: u64 = 300;
/// Keys of 112 bits and no SHA-1, as for connections (`SSL_CTX_set_security_level`).
const SECURITY_LEVEL: i32 = 2;
const CLAIMS: [&str; 9] = [
    "sub",
    "subject",
    "issuer",
    "serial",
    "fingerprint",
    "common_name",
    "san.dns",
    "san.uri",
    "san.email",
];

impl Certificates {
    /// Compiles a `client_certificate` section, or reports everything that is wrong with it.
    pub(in crate::auth) fn compile(
        provider: &str,
        section: &Spanned<ClientCertificate>,
        members: Members,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let rules = Rules::compile(section, diagnostics);
        let authorities = match &section.ca {
            Some(file) => authorities(file, surroundings.base, diagnostics).map(Some),
            None => Some(None),
        };
        let forwarded = forwarded_claims(&section.forward_claims, diagnostics);
        let mut is_known = true;
        for claim in section.forward_claims.keys() {
            if !CLAIMS.contains(&claim.as_str()) {
                diagnostics
                    .error(claim.span, format!("certificates have no `{claim}`"))
                    .help(format!("they have {}", CLAIMS.join(", ")));
                is_known = false;
            }
        }
        let (rules, authorities) = (rules?, authorities?);
        is_known.then(|| Self {
            rules,
            subject: section.subject_is,
            likeness: Likeness {
                forwarded,
                ..Likeness::of_names(provider, None, members, [])
            },
            authorities,
            cache: CredentialCache::new(REMEMBERED, LONGEST_STAY),
            clock: Clock::default(),
            bench: surroundings.workbenches.signatures.clone(),
        })
    }
}

fn authorities(
    file: &Spanned<String>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Authorities> {
    let pem = match std::fs::read(base.join(file.as_str())) {
        Ok(pem) => pem,
        Err(error) => {
            diagnostics.error(file.span, format!("`{file}` can't be read: {error}"));
            return None;
        }
    };
    let certificates = X509::stack_from_pem(&pem).unwrap_or_default();
    match store(certificates) {
        Some(store) => Some(Authorities {
            store,
            pem: pem.into(),
        }),
        None => {
            diagnostics
                .error(file.span, format!("`{file}` holds no certificate"))
                .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
            None
        }
    }
}

fn store(certificates: Vec<X509>) -> Option<X509Store> {
    if certificates.is_empty() {
        return None;
    }
    let mut rules = X509VerifyParam::new().ok()?;
    // Times are checked by the clock of the request, and an authority may be one below another.
    let flags = X509VerifyFlags::NO_CHECK_TIME | X509VerifyFlags::PARTIAL_CHAIN;
    rules.set_flags(flags).ok()?;
    rules.set_purpose(X509PurposeId::SSL_CLIENT).ok()?;
    rules.set_auth_level(SECURITY_LEVEL);
    let mut store = X509StoreBuilder::new().ok()?;
    store.set_param(&rules).ok()?;
    for certificate in certificates {
        store.add_cert(certificate).ok()?;
    }
    Some(store.build())
}
