//! Tells a backend for whom a connection is, before anything else is sent on it: the header of the PROXY
//! protocol. What reads such headers is the server's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::{connect, connect_uds};
use pingora::protocols::l4::socket::SocketAddr as Place;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use ppp::v2::{AddressFamily, Builder, Command, Protocol, Version};
use tokio::io::AsyncWriteExt;

use crate::config::ProxyProtocolVersion;

/// How long a connection is kept for the same client. It serves nobody else.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// Nobody outside can tell whose connections would be taken for the same.
static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

/// What a backend is told in front of a connection.
#[derive(Debug, Clone)]
pub struct Introduction(Bytes);

impl Introduction {
    /// The connection is the gateway's own affair.
    pub(super) fn of_ourselves(version: ProxyProtocolVersion) -> Self {
        Self(match version {
            ProxyProtocolVersion::V1 => Bytes::from_static(b"PROXY UNKNOWN\r\n"),
            ProxyProtocolVersion::V2 => {
                let command = Version::Two | Command::Local;
                let family = AddressFamily::Unspecified | Protocol::Unspecified;
                Builder::new(command, family)
                    .build()
                    .map(Bytes::from)
                    .expect("a header without addresses is short enough")
            }
        })
    }

    /// The connection is for a client at `source`, who came in at `destination`.
    pub(super) fn of_client(
        version: ProxyProtocolVersion,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let (source, destination) = alike(source, destination);
        Self(match version {
            ProxyProtocolVersion::V1 => {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                format!(
                    "PROXY {family} {} {} {} {}\r\n",
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port()
                )
                .into()
            }
            ProxyProtocolVersion::V2 => {
                let command = Version::Two | Command::Proxy;
                Builder::with_addresses(command, Protocol::Stream, (source, destination))
                    .build()
                    .map(Bytes::from)
                    .expect("a header with two addresses is short enough")
            }
        })
    }

    /// Makes connections to a peer begin with it. The pool gives them to those of the same introduction only.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        peer.group_key ^= HASHER.hash_one(&self.0);
        peer.options.idle_timeout = Some(KEPT_FOR);
        peer.options.custom_l4 = Some(Arc::new(self.clone()));
    }

    /// What is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Both of one family, since a header has one only.
fn alike(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (mapped(source), mapped(destination))
}

#[async_trait]
impl L4Connect for Introduction {
    async fn connect(&self, place: &Place) -> Result<Stream> {
        let why = || "while the client was introduced";
        match place {
            Place::Inet(address) => {
                let mut socket = connect(address, None).await?;
                let sent = socket.write_all(&self.0).await;
                sent.or_err_with(ErrorType::ConnectError, why)?;
                Ok(socket.into())
            }
            Place::Unix(address) => {
                let Some(path) = address.as_pathname() else {
                    return Err(Error::new_in(ErrorType::ConnectError));
                };
                let mut socket = connect_uds(path).await?;
                let sent = socket.write_all(&self.0).await;
                sent.or_err_with(ErrorType::ConnectError, why)?;
                Ok(socket.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;
    use ppp::v1;

    use super::ProxyProtocolVersion::{V1, V2};
    use super::*;

    fn of(version: ProxyProtocolVersion, source: &str, destination: &str) -> Introduction {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Introduction::of_client(version, source, destination)
    }

    #[test]
    fn a_client_is_introduced_in_either_version() {
        for (source, destination, line) in [
            (
                "192.0.2.7:4660",
                "10.0.0.1:80",
                "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n",
            ),
            (
                "[2001:db8::7]:1",
                "[::1]:443",
                "PROXY TCP6 2001:db8::7 ::1 1 443\r\n",
            ),
            (
                "[2001:db8::7]:1",
                "10.0.0.1:80",
                "PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 1 80\r\n",
            ),
        ] {
            let said = of(V1, source, destination);
            assert_eq!(said.bytes(), line.as_bytes());
            assert!(v1::Header::try_from(said.bytes()).is_ok());
            let said = of(V2, source, destination);
            let parsed = ppp::v2::Header::try_from(said.bytes()).unwrap();
            let (source, destination) =
                alike(source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(parsed.addresses, (source, destination).into());
            assert_eq!(parsed.command, Command::Proxy);
        }
        assert_eq!(Introduction::of_ourselves(V1).bytes(), b"PROXY UNKNOWN\r\n");
        assert_eq!(
            Introduction::of_ourselves(V2).bytes(),
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
        );
    }

    #[test]
    fn no_two_clients_share_a_connection() {
        let key = |introduction: Option<Introduction>| {
            let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
            if let Some(introduction) = introduction {
                introduction.apply(&mut peer);
            }
            peer.reuse_hash()
        };
        let one = || Some(of(V2, "192.0.2.7:1", "10.0.0.1:80"));
        let others = [
            None,
            Some(of(V2, "192.0.2.7:2", "10.0.0.1:80")),
            Some(of(V2, "192.0.2.8:1", "10.0.0.1:80")),
            Some(of(V1, "192.0.2.7:1", "10.0.0.1:80")),
            Some(Introduction::of_ourselves(V2)),
        ];
        assert_eq!(key(one()), key(one()));
        for other in others {
            assert_ne!(key(one()), key(other));
        }
    }
}
