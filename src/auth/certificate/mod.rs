//! Client certificates, shown for the connection or passed on by a proxy in front that ends TLS (RFC 9440): who
//! they are, and which of them are let in.
//!
//! Only proxies that are trusted are believed: a certificate is public, and whoever knows one could name it in
//! a header. Whether a client has the key of the one that it shows is for [`crate::tls`] to find out.

mod compile;
mod connection;
mod distinguished_name;
mod field;
mod names;
mod rules;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Ref, X509StoreContext};

use self::names::Names;
use self::rules::Rules;
use super::cache::{CredentialCache, Verified};
use super::clock::Clock;
use super::credentials::{Credentials, Verdict};
use super::identity::{Identity, Likeness};
use super::place::only;
use super::refusal::Refusal;
use super::work::{Work, Workbench};
use crate::config::CertificateName;

/// The header in which a certificate is passed on; only a trusted proxy's ever passes.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// Those that vouch for it, nearest first.
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The client certificates of a provider.
pub(super) struct Certificates {
    rules: Rules,
    subject: CertificateName,
    likeness: Likeness,
    authorities: Option<Authorities>,
    cache: CredentialCache,
    clock: Clock,
    /// Where they are read and verified.
    bench: Arc<Workbench>,
}

/// Who must vouch for certificates.
struct Authorities {
    store: X509Store,
    /// What they were read from.
    pem: Box<[u8]>,
}

/// What a field's value begins with that holds a certificate, and no certificate itself does.
const OF_FIELD: u8 = b':';

/// Seconds since 1970: from the first one on, before the second one.
type Validity = (u64, u64);

impl Certificates {
    /// The headers in which backends are told who comes: what is passed on as it is, and claims.
    pub(super) fn forwarded_headers(&self) -> impl Iterator<Item = HeaderName> {
        let claims = self.likeness.forwarded.iter().map(|(_, name)| name.clone());
        claims.chain([CLIENT_CERT, CLIENT_CERT_CHAIN])
    }

    /// Whether the same authorities vouch for certificates.
    pub(super) fn has_same_authorities(&self, other: &Self) -> bool {
        self.authorities.as_ref().map(|it| &it.pem) == other.authorities.as_ref().map(|it| &it.pem)
    }

    /// Whose certificate a request carries.
    pub(super) fn authenticate(self: &Arc<Self>, credentials: Credentials<'_>) -> Verdict {
        let now = self.clock.steady(credentials.now);
        let key = match (credentials.is_from_trusted_proxy, credentials.certificates) {
            (true, _) => self.passed_on(credentials.headers),
            (false, []) => Err(Refusal::Missing),
            (false, shown) => Ok(shown.into()),
        };
        let key = match key {
            Ok(key) => key,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        if let Some(known) = self.cache.find(&key, now) {
            return known.into();
        }
        // Only to read one takes as long as a signature.
        let (this, key) = (self.clone(), key.into_owned());
        Verdict::Costly(Work::new(&self.bench, move || this.confirm(&key, now)))
    }

    /// What a trusted proxy passes on, as its fields hold it. Its own certificate is not its clients'.
    fn passed_on<'h>(&self, headers: &'h HeaderMap) -> Result<Cow<'h, [u8]>, Refusal> {
        let shown = only(headers.get_all(CLIENT_CERT).iter())?;
        let shown = shown.ok_or(Refusal::Missing)?.as_bytes();
        if shown.contains(&b',') || !shown.starts_with(&[OF_FIELD]) {
            return Err(Refusal::MalformedCredential);
        }
        let mut key = Cow::Borrowed(shown);
        if self.authorities.is_some() {
            for line in headers.get_all(CLIENT_CERT_CHAIN) {
                // There is no comma in a certificate, so that this is where the chain begins.
                let key = key.to_mut();
                key.push(b',');
                key.extend_from_slice(line.as_bytes());
            }
        }
        Ok(key)
    }

    /// Verifies what a request carries, and remembers how that ended.
    fn confirm(&self, key: &[u8], now: u64) -> Result<Arc<Identity>, Refusal> {
        let (certificate, chain) = read(key)?;
        let epoch = self.cache.epoch();
        match self.identify(&certificate, &chain, now) {
            Ok(verified) => {
                self.cache.keep(key, &verified, epoch, now);
                Ok(verified.identity)
            }
            Err(refusal) => {
                // Others are cheap to find again, or pass with time.
                if matches!(
                    refusal,
                    Refusal::UntrustedCertificate | Refusal::WrongCertificate
                ) {
                    self.cache.refuse(key, refusal, epoch, now);
                }
                Err(refusal)
            }
        }
    }

    /// Who has this certificate, however it came here, and for how long that is so. Who vouches for it is
    /// checked last, since it costs most.
    fn identify(
        &self,
        certificate: &X509Ref,
        chain: &StackRef<X509>,
        now: u64,
    ) -> Result<Verified, Refusal> {
        let mut validity = validity(certificate)?;
        check(validity, now)?;
        let names = Names::of(certificate).ok_or(Refusal::MalformedCredential)?;
        if !self.rules.admit(&names) {
            return Err(Refusal::WrongCertificate);
        }
        let subject = names.get(self.subject);
        let subject = subject.ok_or(Refusal::WrongCertificate)?.to_owned();
        if let Some(authorities) = &self.authorities {
            validity = authorities.verify(certificate, chain)?;
            check(validity, now)?;
        }
        Ok(Verified {
            identity: Arc::new(self.likeness.with(names.into_claims(subject))),
            from: validity.0,
            until: validity.1,
        })
    }
}

impl Authorities {
    /// The validity of a certificate and of all that vouch for it.
    fn verify(&self, certificate: &X509Ref, chain: &StackRef<X509>) -> Result<Validity, Refusal> {
        let verified = X509StoreContext::new().and_then(|mut context| {
            context.init(&self.store, certificate, chain, |context| {
                if !context.verify_cert()? {
                    log::debug!("a client certificate is not trusted: {}", context.error());
                    return Ok(Err(Refusal::UntrustedCertificate));
                }
                let path = context.chain().into_iter().flatten();
                Ok(path.map(validity).try_fold((0, u64::MAX), |whole, part| {
                    let (from, until) = part?;
                    Ok((from.max(whole.0), until.min(whole.1)))
                }))
            })
        });
        verified.unwrap_or(Err(Refusal::UntrustedCertificate))
    }
}

/// The certificate in the headers' values or of the connection, and those behind it.
fn read(key: &[u8]) -> Result<(X509, Stack<X509>), Refusal> {
    let read = || {
        let certificates = match key.starts_with(&[OF_FIELD]) {
            true => field::certificates(key)?,
            false => connection::certificates(key)?,
        };
        let mut certificates = certificates.into_iter();
        let certificate = certificates.next()?;
        let mut chain = Stack::new().ok()?;
        for certificate in certificates {
            chain.push(certificate).ok()?;
        }
        Some((certificate, chain))
    };
    read().ok_or(Refusal::MalformedCredential)
}

fn validity(certificate: &X509Ref) -> Result<Validity, Refusal> {
    let seconds = |time: &Asn1TimeRef| {
        let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(time));
        let since = since.map_err(|_| Refusal::MalformedCredential)?;
        let seconds = i64::from(since.days) * 86_400 + i64::from(since.secs);
        Ok(u64::try_from(seconds).unwrap_or(0))
    };
    // The last second is a good one (RFC 5280 §4.1.2.5).
    let until = seconds(certificate.not_after())? + 1;
    Ok((seconds(certificate.not_before())?, until))
}

fn check((from, until): Validity, now: u64) -> Result<(), Refusal> {
    match now {
        now if now < from => Err(Refusal::NotYetValid),
        now if now >= until => Err(Refusal::Expired),
        _ => Ok(()),
    }
}

/// No challenge is registered for certificates; this one says what is missing (RFC 9110 §11.6.1 wants one).
pub(super) const CHALLENGE: HeaderValue =
    HeaderValue::from_static("ClientCertificate realm=\"tollgate\"");

#[cfg(test)]
mod tests;
