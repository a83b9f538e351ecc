//! Certificates as header fields hold them: byte sequences (RFC 9440 §2, RFC 8941 §3.3.5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::x509::X509;

/// Most certificates of a request.
const MOST: usize = 10;

/// The certificates in a list of byte sequences, all of which must be certificates and nothing else.
pub(super) fn certificates(list: &[u8]) -> Option<Vec<X509>> {
    let members = list.split(|byte| *byte == b',');
    let members = members.take(MOST + 1).map(certificate);
    let certificates: Vec<X509> = members.collect::<Option<_>>()?;
    (certificates.len() <= MOST).then_some(certificates)
}

/// `:base64:`, with nothing before, between or behind it.
fn certificate(member: &[u8]) -> Option<X509> {
    let member = member.trim_ascii();
    let encoded = member.strip_prefix(b":")?.strip_suffix(b":")?;
    let der = STANDARD.decode(encoded).ok()?;
    let certificate = X509::from_der(&der).ok()?;
    // What was read is what was sent, in the one way in which it can be written.
    let is_whole = certificate.to_der().is_ok_and(|written| written == der);
    is_whole.then_some(certificate)
}
