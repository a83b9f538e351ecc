//! Where servers are, as URLs say it.

use http::Uri;

use crate::config::{Diagnostics, Spanned};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) has_tls: bool,
}

impl Address {
    /// Where a URL points to, and the database it names.
    pub(super) fn parse(
        url: &Spanned<String>,
        port: u16,
        diagnostics: &mut Diagnostics,
    ) -> Option<(Self, Option<u32>)> {
        let mut wrong = |message: &str, help: &str| {
            diagnostics.error(url.span, message).help(help);
            None
        };
        let usual = "such as `redis://127.0.0.1:6379`, or `rediss://…` for TLS";
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("this is no URL of a Redis server", usual);
        };
        let has_tls = match uri.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => return wrong("a Redis URL begins with `redis://` or `rediss://`", usual),
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return wrong(
                "user and password don't belong into the URL, where logs would show them",
                "write `username: …` and `password: ${NAME}` beside it",
            );
        }
        let host = authority.host();
        let has_port = authority.as_str().len() > host.len();
        let is_port_wrong = has_port && authority.port_u16().is_none_or(|it| it == 0);
        if host.is_empty() || is_port_wrong || uri.query().is_some() {
            return wrong("this is no URL of a Redis server", usual);
        }
        let database = match uri.path().trim_matches('/') {
            "" => None,
            number => match number.parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    return wrong(
                        "behind the address comes the number of a database, or nothing",
                        "such as `redis://127.0.0.1:6379/1`",
                    );
                }
            },
        };
        let address = Self {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: authority.port_u16().unwrap_or(port),
            has_tls,
        };
        Some((address, database))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where several servers are, of which none may name a database.
pub(super) fn addresses(
    urls: &[Spanned<String>],
    port: u16,
    no_database: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Address>> {
    let parsed: Vec<_> = urls
        .iter()
        .map(|url| (url, Address::parse(url, port, diagnostics)))
        .collect();
    let mut addresses = Vec::with_capacity(parsed.len());
    for (url, parsed) in &parsed {
        let (address, database) = parsed.clone()?;
        if database.is_some() {
            diagnostics
                .error(url.span, "there is no database to choose here")
                .help(no_database);
            return None;
        }
        addresses.push(address);
    }
    let odd = addresses
        .iter()
        .position(|it: &Address| it.has_tls != addresses[0].has_tls);
    if let Some(odd) = odd {
        diagnostics
            .error(urls[odd].span, "some of these use TLS and some do not")
            .help("write `rediss://` for all of them, or `redis://`");
        return None;
    }
    Some(addresses)
}
