//! Whom fetched keys come from, and how they are kept.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

/// Where a key set is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this address.
    Url(Uri),
    /// Where its issuer says (OpenID Connect Discovery 1.0 §4). As in the `iss` of its tokens.
    Issuer(String),
}

/// Whom a key set is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is found.
    pub place: Place,
    /// PEM certificates of the authorities that are trusted; `None` for the system's.
    pub authorities: Option<Arc<str>>,
}

/// How a key set is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// How old it becomes before it is fetched again, if its provider does not say less.
    pub refresh: Duration,
    /// How old it may become if it can't be.
    pub max_stale: Duration,
    /// How long fetching it may take.
    pub timeout: Duration,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A query may hold a secret.
            Self::Url(uri) => {
                let authority = uri.authority().map_or("", |it| it.as_str());
                let scheme = uri.scheme_str().unwrap_or("https");
                write!(f, "{scheme}://{authority}{}", uri.path())
            }
            Self::Issuer(issuer) => f.write_str(issuer),
        }
    }
}

/// Whether a URL names a host, with a port that there is or none, and nobody who would have to log in.
pub(super) fn has_host(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| {
        let (text, host) = (authority.as_str(), authority.host());
        let port = text.strip_prefix(host);
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
        !host.is_empty()
            && port.is_some_and(|it| it.is_empty() || it.strip_prefix(':').is_some_and(is_port))
    })
}

/// Whether nobody on the way can change what is fetched from there: over TLS, or from this machine.
pub fn is_safe_origin(uri: &Uri) -> bool {
    let is_safe = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => uri.host().is_some_and(is_local),
        _ => false,
    };
    is_safe && has_host(uri)
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_trusted_without_tls() {
        for (url, is_safe) in [
            ("https://id.example.com/", true),
            ("HTTPS://id.example.com", true),
            ("http://127.0.0.1:9000/jwks", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]/", true),
            ("http://LocalHost:1/", true),
            ("http://id.example.com/", false),
            ("http://localhost.example.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://127.0.0.1@id.example.com/", false),
            ("https://127.0.0.1@id.example.com/", false),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("https://id.example.com:443/", true),
            ("https://id.example.com:65536/", false),
            ("https://id.example.com:0/", false),
            ("https://id.example.com:/", false),
            ("https://:443/", false),
            ("ftp://127.0.0.1/", false),
            ("file:///etc/passwd", false),
            ("/jwks", false),
        ] {
            let uri = url.parse::<Uri>();
            assert_eq!(uri.is_ok_and(|it| is_safe_origin(&it)), is_safe, "{url}");
        }
    }

    #[test]
    fn the_query_of_a_place_is_not_shown() {
        let uri = "https://id.example.com/keys?token=secret".parse().unwrap();
        assert_eq!(Place::Url(uri).to_string(), "https://id.example.com/keys");
    }
}
