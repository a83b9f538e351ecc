//! TLS with clients: certificates by the name that they ask for, handshakes, and sessions that are taken up
//! again.
//!
//! The framework's own TLS is fixed when the process starts, and its tickets end with it (docs/tls.md); so the
//! gateway encrypts itself, and hands the framework a stream like any other. Which listener a connection came in
//! at, and what is spoken on it, is for [`crate::server`] to know.

mod automatic;
mod certificate;
mod certificates;
mod challenge;
mod channel;
mod compile;
mod handshake;
mod names;
mod staple;
mod stream;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

pub use self::automatic::Automatic;
pub use self::certificate::Certificate;
use self::certificates::Certificates;
pub use self::challenge::{TlsChallenges, proof};
pub use self::channel::Channel;
pub use self::compile::Surroundings;
pub use self::handshake::Refused;
pub use self::names::Names;
pub use self::tickets::{SealedKeys, TicketKeys};

/// How the connections of a listener are encrypted.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    challenges: Arc<TlsChallenges>,
    handshake_timeout: Duration,
}

impl Tls {
    /// Its certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.iter()
    }
}
