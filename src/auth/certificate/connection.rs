//! Certificates as a handshake has them: DER, one behind the other.

use openssl::x509::X509;

/// Most certificates of a connection.
const MOST: usize = 10;

/// The certificates, all of which must be certificates and nothing else.
pub(super) fn certificates(mut rest: &[u8]) -> Option<Vec<X509>> {
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let certificate = X509::from_der(rest).ok()?;
        // What was read is what was shown, in the one way in which it can be written.
        rest = rest.strip_prefix(&*certificate.to_der().ok()?)?;
        certificates.push(certificate);
    }
    (1..=MOST)
        .contains(&certificates.len())
        .then_some(certificates)
}
