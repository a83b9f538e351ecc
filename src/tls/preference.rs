//! Whose preference decides about the cipher: the gateway's, but for clients that would rather have ChaCha20.
//!
//! Most of those are phones without instructions for AES, on which ChaCha20 is a few times as fast; the gateway
//! doesn't mind. Everybody else gets the strongest cipher that both know, whatever the client has in front.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ServerConfig};

/// What connections are encrypted by, in the order that suits a client.
#[derive(Debug)]
pub(super) struct Preference {
    usual: Arc<ServerConfig>,
    /// The same with ChaCha20 in front, if clients have a say.
    chacha: Option<Arc<ServerConfig>>,
}

impl Preference {
    /// What is assembled with the ciphers of `provider` in their order, which clients that prefer ChaCha20 may
    /// change if that is negotiable; `None` if nothing can be.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        is_negotiable: bool,
        assemble: impl Fn(&Arc<CryptoProvider>) -> Option<Arc<ServerConfig>>,
    ) -> Option<Self> {
        let chacha = if is_negotiable {
            let mut provider = (**provider).clone();
            let suites = &mut provider.cipher_suites;
            suites.sort_by_key(|it| !is_chacha(it.suite()));
            Some(assemble(&Arc::new(provider))?)
        } else {
            None
        };
        Some(Self {
            usual: assemble(provider)?,
            chacha,
        })
    }

    /// That for a client that offers these ciphers. What it has in front may be none at all (RFC 8701), and
    /// counts for nothing unless it is spoken here.
    pub(super) fn of(&self, offered: &[CipherSuite]) -> &Arc<ServerConfig> {
        let Some(chacha) = &self.chacha else {
            return &self.usual;
        };
        let known = &self.usual.crypto_provider().cipher_suites;
        let is_known = |offered: &&CipherSuite| known.iter().any(|it| it.suite() == **offered);
        match offered.iter().find(is_known) {
            Some(first) if is_chacha(*first) => chacha,
            _ => &self.usual,
        }
    }
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}
