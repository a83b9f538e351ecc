//! Handshakes of clients, counted by what came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::{Exposed, Exposition};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const SESSIONS: [&str; 2] = ["new", "resumed"];

/// Why there was no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHandshake {
    /// It took too long.
    Slow,
    /// The client went away.
    Gone,
    /// The client does not speak TLS.
    NotTls,
    /// They had nothing in common, or the client did not like the certificate.
    Failed,
    /// The client has no certificate.
    Certificateless,
    /// Its certificate is before or after its time.
    Expired,
    /// It is revoked.
    Revoked,
    /// Nobody known vouches for it.
    UnknownIssuer,
    /// Whether it is revoked can't be told.
    UnknownStatus,
    /// It is not for clients, or badly signed.
    BadCertificate,
}

impl NoHandshake {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Slow, "timeout"),
        (Self::Gone, "client_gone"),
        (Self::NotTls, "not_tls"),
        (Self::Failed, "failed"),
        (Self::Certificateless, "certificate_missing"),
        (Self::Expired, "certificate_expired"),
        (Self::Revoked, "certificate_revoked"),
        (Self::UnknownIssuer, "certificate_unknown_issuer"),
        (Self::UnknownStatus, "certificate_unknown_status"),
        (Self::BadCertificate, "certificate_invalid"),
    ];

    /// What it is called.
    pub fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The counters.
#[derive(Debug, Clone, Default)]
pub struct Handshakes(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// By version, then by session.
    done: [[AtomicU64; 2]; 2],
    /// In the order of [`NoHandshake::ALL`].
    failed: [AtomicU64; 10],
}

impl Handshakes {
    /// Counts one.
    pub fn done(&self, is_tls13: bool, is_resumed: bool) {
        self.0.done[usize::from(is_tls13)][usize::from(is_resumed)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that failed.
    pub fn failed(&self, why: NoHandshake) {
        self.0.failed[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Exposed for Handshakes {
    fn expose(&self, page: &mut Exposition) {
        let mut done = page.counter(
            "tollgate_tls_handshakes_total",
            "TLS handshakes with clients, by version and whether an earlier session was taken up.",
        );
        for (version, counts) in std::iter::zip(VERSIONS, &self.0.done) {
            for (session, count) in std::iter::zip(SESSIONS, counts) {
                let labels = [("version", version), ("session", session)];
                done.sample(&labels, count.load(Ordering::Relaxed));
            }
        }
        let mut failed = page.counter(
            "tollgate_tls_handshake_failures_total",
            "TLS handshakes with clients that did not come to an end, by the reason.",
        );
        for ((_, reason), count) in std::iter::zip(NoHandshake::ALL, &self.0.failed) {
            failed.sample(&[("reason", reason)], count.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_are_counted_in_their_order() {
        for (index, (why, _)) in NoHandshake::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
        }
    }
}
