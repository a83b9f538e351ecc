//! What is known of an encrypted connection once it is there.

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::certificates::{Alternatives, Certificates};

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
}

impl Channel {
    pub(super) fn of(connection: &ServerConnection, certificates: &Certificates) -> Self {
        let server_name = connection.server_name();
        Self {
            is_tls13: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            is_http2: connection.alpn_protocol() == Some(HTTP2),
            server_name: server_name.map(Into::into),
            certificates: certificates.find(server_name).cloned().unwrap_or_default(),
        }
    }

    /// The name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether a request for `host`, with its port or without, may come on it: the client asked for that
    /// name or for none, or was shown a certificate that is for this host, too (RFC 9113 §9.1.1).
    pub fn is_for(&self, host: &str) -> bool {
        let Some(name) = &self.server_name else {
            return true;
        };
        let host = without_port(host);
        host.eq_ignore_ascii_case(name) || self.certificates.cover(host)
    }
}

/// The host of an authority, without the brackets of addresses and the dot that may end a name.
fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    let host = authority.split(':').next().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_for_the_name_that_was_asked_for_however_it_is_written() {
        let channel = |name: Option<&str>| Channel {
            is_tls13: true,
            is_resumed: false,
            is_http2: false,
            server_name: name.map(Into::into),
            certificates: Alternatives::of(&["a.example", "*.b.example", "::1"]),
        };
        let named = channel(Some("asked.example"));
        for host in [
            "asked.example",
            "ASKED.example:8443",
            "asked.example.",
            "a.example:443",
            "x.b.example",
            "[::1]:8443",
        ] {
            assert!(named.is_for(host), "{host}");
        }
        for host in [
            "other.example",
            "b.example",
            "",
            "[::2]",
            "asked.example.com",
        ] {
            assert!(!named.is_for(host), "{host}");
        }
        assert!(channel(None).is_for("192.0.2.1:8443"));
    }
}
