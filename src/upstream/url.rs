//! The URL of a backend, taken apart.

use std::net::IpAddr;
use std::path::Path;

use http::Uri;
use http::uri::Scheme;

use crate::config::socket_path;

/// `scheme://host[:port][/prefix]`, or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether the backend speaks TLS.
    pub is_tls: bool,
    /// Its name or address, without brackets.
    pub host: Box<str>,
    /// Its port; 80 or 443 unless written.
    pub port: u16,
    /// Host and port as they stand in a `Host` field: without the scheme's own port.
    pub authority: Box<str>,
    /// The path put before every forwarded path: empty, or `/…` without a slash at its end.
    pub prefix: Box<str>,
    /// The socket in the file system that leads to it, in place of host and port.
    pub socket: Option<Box<Path>>,
}

impl BaseUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong and what would be right, as one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = socket_path(text) {
            return path.map(Self::at_socket);
        }
        if !text.contains("://") {
            return Err(format!(
                "`{text}` has no scheme: did you mean `http://{text}`?"
            ));
        }
        if text.contains('#') {
            return Err(format!(
                "`{text}` has a fragment (`#…`), which is never sent: leave it out"
            ));
        }
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) => {
                return Err(format!(
                    "unknown scheme `{scheme}`: expected `http` or `https`"
                ));
            }
            None => {
                return Err(format!(
                    "`{text}` has no scheme: expected `http://` or `https://`"
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("`{text}` has no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user or password is not supported: use `headers.request.set` with `Authorization`".into());
        }
        if uri.query().is_some() {
            return Err(format!(
                "`{text}` has a query (`?…`), which can't be put before a path: leave it out"
            ));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("`{text}` has no host"));
        }
        let standard_port = if is_tls { 443 } else { 80 };
        let written_port = authority.as_str()[authority.host().len()..].strip_prefix(':');
        let port = match written_port {
            None => standard_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("`{port}` is not a port: expected 1 to 65535"))?,
        };
        let name = authority.host();
        Ok(Self {
            is_tls,
            host: host.to_ascii_lowercase().into(),
            port,
            authority: if port == standard_port {
                name.into()
            } else {
                format!("{name}:{port}").into()
            },
            prefix: uri.path().trim_end_matches('/').into(),
            socket: None,
        })
    }

    /// A backend behind a socket in the file system. It has no name but that of every machine.
    fn at_socket(path: &Path) -> Self {
        Self {
            is_tls: false,
            host: "localhost".into(),
            port: 80,
            authority: "localhost".into(),
            prefix: "".into(),
            socket: Some(path.into()),
        }
    }

    /// Whether it has a port other than its scheme's own.
    pub(super) fn has_port(&self) -> bool {
        self.port != if self.is_tls { 443 } else { 80 }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// The same at another host and port.
    pub(super) fn at_host(&self, host: &str, port: u16) -> Self {
        let standard_port = if self.is_tls { 443 } else { 80 };
        Self {
            host: host.into(),
            port,
            authority: match port == standard_port {
                true => host.into(),
                false => format!("{host}:{port}").into(),
            },
            ..self.clone()
        }
    }

    /// The address, if the host is one and needs no resolving.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = BaseUrl::parse("https://API.example.com/v1/").unwrap();
        assert_eq!(
            (url.is_tls, &*url.host, url.port),
            (true, "api.example.com", 443)
        );
        assert_eq!((&*url.authority, &*url.prefix), ("API.example.com", "/v1"));
        let url = BaseUrl::parse("http://[::1]:9001").unwrap();
        assert_eq!(
            (&*url.host, url.port, &*url.authority),
            ("::1", 9001, "[::1]:9001")
        );
        assert_eq!(url.address(), Some("::1".parse().unwrap()));
        assert_eq!(&*url.prefix, "");
    }

    #[test]
    fn a_socket_is_a_path() {
        let url = BaseUrl::parse("unix:/run/app.sock").unwrap();
        assert_eq!(url.socket.as_deref(), Some(Path::new("/run/app.sock")));
        assert_eq!(
            (&*url.authority, &*url.prefix, url.is_tls),
            ("localhost", "", false)
        );
    }

    #[test]
    fn what_cant_be_a_backend_is_refused() {
        for (text, reason) in [
            ("localhost:9001", "did you mean `http://localhost:9001`"),
            ("ftp://host", "unknown scheme"),
            ("http://user:pass@host", "user or password"),
            ("http://host/?a=b", "query"),
            ("http://host/#top", "fragment"),
            ("http://host:0", "not a port"),
            ("http://host:99999", "not a port"),
            ("http://", "not a URL"),
            ("unix:app.sock", "no absolute path"),
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", tail in "[a-z0-9:@/?#\\[\\].-]*") {
            let _ = BaseUrl::parse(&text);
            let _ = BaseUrl::parse(&format!("http://{tail}"));
        }
    }
}
