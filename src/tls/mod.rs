//! TLS with clients: certificates by the name that they ask for, those that they must show themselves,
//! handshakes, and sessions that are taken up again.
//!
//! The framework's own TLS is fixed when the process starts, and its tickets end with it (docs/tls.md); so the
//! gateway encrypts itself, and hands the framework a stream like any other. Which listener a connection came in
//! at, and what is spoken on it, is for [`crate::server`] to know.

mod authority;
mod automatic;
mod certificate;
mod certificates;
mod challenge;
mod channel;
mod compile;
mod handshake;
mod names;
mod peer;
mod preference;
mod refusal;
mod revocation;
mod staple;
mod stream;
mod tickets;
mod verification;
mod verifications;

use std::sync::Arc;
use std::time::Duration;

pub use self::authority::Authority;
pub use self::automatic::Automatic;
pub use self::certificate::Certificate;
use self::certificates::Certificates;
pub use self::challenge::{TlsChallenges, proof};
pub use self::channel::Channel;
pub use self::compile::Surroundings;
pub use self::names::Names;
pub use self::peer::PeerCertificate;
use self::preference::Preference;
pub use self::refusal::{BadCertificate, Refused};
pub use self::revocation::RevocationList;
pub use self::tickets::{SealedKeys, TicketKeys};
pub use self::verification::Verification;
use self::verifications::Verifications;

/// How the connections of a listener are encrypted.
#[derive(Debug)]
pub struct Tls {
    /// Where clients are not verified.
    config: Preference,
    /// Where they are: one for each of `verifications`.
    verifying: Box<[Preference]>,
    verifications: Arc<Verifications>,
    certificates: Arc<Certificates>,
    challenges: Arc<TlsChallenges>,
    handshake_timeout: Duration,
}

impl Tls {
    /// Its certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.iter()
    }

    /// How its clients are verified.
    pub fn verifications(&self) -> impl Iterator<Item = &Arc<Verification>> {
        self.verifications.iter()
    }
}
