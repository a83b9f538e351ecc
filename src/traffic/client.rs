//! Who the client is when the connection comes from a proxy that may be believed.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use crate::config::{Network, Spanned};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Most hops that are followed back; a longer chain is cut there.
const MOST_HOPS: usize = 32;

/// The networks whose word about the client is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Box<[IpNet]>,
}

impl TrustedProxies {
    /// The networks of `server.trusted_proxies`.
    pub fn new(networks: &[Spanned<Network>]) -> Self {
        Self {
            networks: networks.iter().map(|network| network.0).collect(),
        }
    }

    /// Whether forwarding fields from this address are believed.
    pub fn contains(&self, address: IpAddr) -> bool {
        !self.networks.is_empty() && {
            let address = address.to_canonical();
            self.networks
                .iter()
                .any(|network| network.contains(&address))
        }
    }

    /// The client of a connection from `peer`: the last address in `X-Forwarded-For` (or, without
    /// it, in the `for` of `Forwarded`, RFC 7239) that is no trusted proxy. From an untrusted peer,
    /// or where the chain can't be read, the nearest address that is known.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        if headers.contains_key(X_FORWARDED_FOR) {
            let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
            self.walk(
                peer,
                lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')),
                address,
            )
        } else {
            let lines = headers.get_all(header::FORWARDED).iter().rev();
            self.walk(
                peer,
                lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')),
                forwarded_for,
            )
        }
    }

    fn walk<'a>(
        &self,
        peer: IpAddr,
        hops: impl Iterator<Item = &'a [u8]>,
        read: fn(&str) -> Option<IpAddr>,
    ) -> IpAddr {
        let mut nearest = peer;
        for hop in hops.take(MOST_HOPS) {
            let Some(address) = std::str::from_utf8(hop).ok().and_then(read) else {
                return nearest;
            };
            nearest = address;
            if !self.contains(address) {
                return address;
            }
        }
        nearest
    }
}

/// Whether a request came by TLS, as the proxy says that forwarded it: in `X-Forwarded-Proto` or, without
/// it, in the `proto` of `Forwarded` (RFC 7239). Of several proxies the client's counts, which is first.
/// `None` if it does not say.
pub fn came_by_tls(headers: &HeaderMap) -> Option<bool> {
    let first = |name| headers.get(name)?.to_str().ok()?.split(',').next();
    let scheme = if headers.contains_key(X_FORWARDED_PROTO) {
        first(X_FORWARDED_PROTO).map(str::trim)
    } else {
        first(header::FORWARDED).and_then(|element| parameter(element, "proto"))
    };
    scheme.map(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(socket) => socket.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    parameter(element, "for").and_then(address)
}

/// A parameter of one element of `Forwarded`.
fn parameter<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, field: &'static str, lines: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "::1/128"].map(|n| Network(n.parse().unwrap()).into());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                field,
                http::HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        TrustedProxies::new(&networks)
            .client(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(
            client("192.0.2.1", "x-forwarded-for", &["1.1.1.1"]),
            "192.0.2.1"
        );
        assert_eq!(
            client("192.0.2.1", "forwarded", &["for=1.1.1.1"]),
            "192.0.2.1"
        );
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let chain = ["6.6.6.6, 192.0.2.7", "10.1.1.1"];
        assert_eq!(client("10.0.0.1", "x-forwarded-for", &chain), "192.0.2.7");
        assert_eq!(
            client("10.0.0.1", "x-forwarded-for", &["192.0.2.7:4711"]),
            "192.0.2.7"
        );
        assert_eq!(
            client("::1", "x-forwarded-for", &["[2001:db8::1]:80"]),
            "2001:db8::1"
        );
        assert_eq!(
            client("10.0.0.1", "x-forwarded-for", &["::ffff:192.0.2.7"]),
            "192.0.2.7"
        );
    }

    #[test]
    fn forwarded_is_read_when_there_is_no_x_forwarded_for() {
        let line = "for=6.6.6.6, proto=https;For=\"[2001:db8::1]:80\";by=_x, for=10.2.2.2";
        assert_eq!(client("10.0.0.1", "forwarded", &[line]), "2001:db8::1");
    }

    #[test]
    fn an_unreadable_chain_ends_at_the_nearest_known_address() {
        assert_eq!(
            client(
                "10.0.0.1",
                "x-forwarded-for",
                &["1.1.1.1, unknown, 10.3.3.3"]
            ),
            "10.3.3.3"
        );
        assert_eq!(client("10.0.0.1", "x-forwarded-for", &[""]), "10.0.0.1");
        assert_eq!(
            client("10.0.0.1", "forwarded", &["for=_hidden"]),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_first_proxy_says_whether_the_client_speaks_tls() {
        let came = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| {
                let value = http::HeaderValue::from_static(value);
                (HeaderName::from_static(name), value)
            });
            came_by_tls(&fields.collect()) == Some(true)
        };
        let (proto, forwarded) = ("x-forwarded-proto", "forwarded");
        assert!(came(&[(proto, "https")]));
        assert!(came(&[(proto, " HTTPS , http")]));
        assert!(came(&[(
            forwarded,
            "for=192.0.2.1;Proto=\"https\", proto=http"
        )]));
        assert!(!came(&[]));
        assert!(!came(&[(proto, "http, https")]));
        assert!(!came(&[(proto, "http"), (forwarded, "proto=https")]));
        assert!(!came(&[(forwarded, "for=192.0.2.1, proto=https")]));
    }

    proptest! {
        #[test]
        fn no_chain_panics_or_makes_a_trusted_proxy_of_a_stranger(
            line in "[0-9a-fx.:,\\[\\]\" ;=for]{0,80}",
        ) {
            let shown = client("192.0.2.1", "x-forwarded-for", &[&line]);
            prop_assert_eq!(shown, "192.0.2.1");
            client("10.0.0.1", "x-forwarded-for", &[&line]);
            client("10.0.0.1", "forwarded", &[&line]);
        }
    }
}
