//! What an authority says about a certificate (OCSP, RFC 6960), shown to clients with it, so that they need not
//! ask the authority themselves.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspCertId, OcspCertStatus, OcspResponse, OcspResponseStatus};
use openssl::x509::{X509, X509Ref};

use super::certificate::read;
use crate::config::{Diagnostics, Spanned};

/// A response that may be shown.
#[derive(Debug)]
pub(super) struct Staple {
    pub(super) der: Vec<u8>,
    /// Clients must not be shown an older one; they refuse the connection.
    pub(super) until: SystemTime,
}

impl Staple {
    /// Reads the response about `leaf`, which `issuer` has signed.
    pub(super) fn read(
        file: &Spanned<String>,
        base: &Path,
        (leaf, issuer): (&X509Ref, Option<&X509>),
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let der = read(file, base, diagnostics)?;
        let mut wrong = |message: &str, help: &str| {
            diagnostics
                .error(file.span, format!("`{file}` {message}"))
                .help(help);
            None
        };
        let Some(issuer) = issuer else {
            return wrong(
                "can't be told to be about this certificate",
                "put the certificate of who signed it behind it in its file",
            );
        };
        let response = OcspResponse::from_der(&der).ok();
        let response = response.filter(|it| it.status() == OcspResponseStatus::SUCCESSFUL);
        let Some(basic) = response.and_then(|it| it.basic().ok()) else {
            return wrong(
                "is no response of an authority",
                "it is what `openssl ocsp -respout FILE` writes (DER), and says that it succeeded",
            );
        };
        let ids = [MessageDigest::sha1(), MessageDigest::sha256()]
            .map(|digest| OcspCertId::from_cert(digest, leaf, issuer));
        let status = ids.iter().flatten().find_map(|id| basic.find_status(id));
        let Some(status) = status else {
            return wrong(
                "is about another certificate",
                "ask for one about this certificate",
            );
        };
        if status.status == OcspCertStatus::REVOKED {
            return wrong(
                "says that the certificate is revoked",
                "clients refuse it: put a new certificate in its place",
            );
        }
        let until = status.next_update().and_then(|it| time(&it.to_string()));
        // Without a time it is as old as it can be (RFC 6960 §4.2.2.1).
        let until = until.unwrap_or(SystemTime::UNIX_EPOCH);
        if until <= SystemTime::now() {
            diagnostics
                .warning(
                    file.span,
                    format!("`{file}` is no longer true, and is not shown"),
                )
                .help("ask the authority again, regularly");
        }
        Some(Self { der, until })
    }
}

/// A time as the library writes it, such as `Nov  5 22:13:20 2026 GMT`.
fn time(written: &str) -> Option<SystemTime> {
    let words: Vec<&str> = written.split_whitespace().collect();
    let time = DateTime::strptime("%b %d %H:%M:%S %Y GMT", words.join(" ")).ok()?;
    let seconds = TimeZone::UTC.to_timestamp(time).ok()?.as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let seconds = |text: &str| {
            let since = time(text)?.duration_since(SystemTime::UNIX_EPOCH);
            Some(since.unwrap().as_secs())
        };
        assert_eq!(seconds("Nov 14 22:13:20 2023 GMT"), Some(1_700_000_000));
        assert_eq!(seconds("Jan  1 00:00:00 1970 GMT"), Some(0));
        assert_eq!(seconds("Bad time value"), None);
    }
}
