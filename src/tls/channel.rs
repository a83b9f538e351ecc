//! What is known of an encrypted connection once it is there.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};

use super::Tls;
use super::certificates::Alternatives;
use super::peer::PeerCertificate;
use super::verification::NOBODY;
use super::verifications::Verifications;

/// What HTTP/2 is called in a handshake (RFC 9113 §3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// What is known of an encrypted connection.
#[derive(Debug)]
pub struct Channel {
    /// Whether its version is TLS 1.3, and not 1.2.
    pub is_tls13: bool,
    /// Whether the client takes up an earlier session.
    pub is_resumed: bool,
    /// Whether it speaks HTTP/2 on it.
    pub is_http2: bool,
    server_name: Option<Box<str>>,
    certificates: Alternatives,
    /// How clients were verified when it was made, for all names…
    verifications: Arc<Verifications>,
    /// …and how this one was.
    number: Option<usize>,
    /// What the client was verified by last: a digest.
    scope: ArcSwap<[u8; 32]>,
    shown: Option<PeerCertificate>,
}

impl Channel {
    /// A connection on which the client was verified in the way of this number.
    pub(super) fn of(connection: &ServerConnection, (tls, number): (&Tls, Option<usize>)) -> Self {
        let server_name = connection.server_name();
        let verification = tls.verifications.get(number);
        let chain = connection.peer_certificates().unwrap_or_default();
        let shown = verification.and_then(|it| PeerCertificate::new(chain, it.is_forwarded()));
        Self {
            is_tls13: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            is_http2: connection.alpn_protocol() == Some(HTTP2),
            server_name: server_name.map(Into::into),
            certificates: tls
                .certificates
                .find(server_name)
                .cloned()
                .unwrap_or_default(),
            verifications: tls.verifications.clone(),
            number,
            scope: ArcSwap::from_pointee(verification.map_or(NOBODY, |it| it.scope)),
            shown,
        }
    }

    /// The certificate that the client has shown, if it has.
    pub fn shown(&self) -> Option<&PeerCertificate> {
        self.shown.as_ref()
    }

    /// Whether the client would be let in now, by what it was verified by when the connection was made.
    pub(super) fn verify_again(&self) -> Result<(), Error> {
        match self.verifications.get(self.number) {
            Some(verification) => verification.admit(self.chain()),
            None => Ok(()),
        }
    }

    /// Whether the client would come in under `tls` as well, which is in force by now: with what it has shown,
    /// or without anything if it was asked.
    pub fn stands_under(&self, tls: &Tls) -> bool {
        let number = tls.verifications.find(self.server_name());
        let verification = tls.verifications.get(number);
        let scope = verification.map_or(NOBODY, |it| it.scope);
        let known = **self.scope.load();
        if known == scope {
            return true;
        }
        let stands =
            known != NOBODY && verification.is_some_and(|it| it.admit(self.chain()).is_ok());
        if stands {
            self.scope.store(Arc::new(scope));
        }
        stands
    }

    fn chain(&self) -> &[CertificateDer<'static>] {
        self.shown.as_ref().map_or(&[], PeerCertificate::chain)
    }

    /// The name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether a request for `host` may come on it, in lower case and without port: the client asked for that
    /// name or for none, or was shown a certificate that is for this host, too (RFC 9113 §9.1.1); and clients are
    /// verified for both in the same way, says `tls`, if it is known what is in force by now.
    pub fn is_for(&self, host: &str, tls: Option<&Tls>) -> bool {
        let verifications = tls.map_or(&self.verifications, |tls| &tls.verifications);
        if verifications.find(Some(host)) != verifications.find(self.server_name()) {
            return false;
        }
        let Some(name) = &self.server_name else {
            return true;
        };
        let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        *host == **name || self.certificates.cover(address.unwrap_or(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_for_the_name_that_was_asked_for_and_those_of_its_certificate() {
        let channel = |name: Option<&str>| Channel {
            is_tls13: true,
            is_resumed: false,
            is_http2: false,
            server_name: name.map(Into::into),
            certificates: Alternatives::of(&["a.example", "*.b.example", "::1"]),
            verifications: Arc::default(),
            number: None,
            scope: ArcSwap::from_pointee(NOBODY),
            shown: None,
        };
        let named = channel(Some("asked.example"));
        for host in ["asked.example", "a.example", "x.b.example", "[::1]"] {
            assert!(named.is_for(host, None), "{host}");
        }
        for host in [
            "other.example",
            "b.example",
            "",
            "[::2]",
            "[asked.example",
            "asked.example.com",
        ] {
            assert!(!named.is_for(host, None), "{host}");
        }
        assert!(channel(None).is_for("192.0.2.1", None));
    }
}
