//! What of a request is not told: values of headers and of parameters, and who exactly a client is.

use std::fmt::{self, Write};
use std::net::IpAddr;

use http::{HeaderName, header};
use ipnet::IpNet;
use percent_encoding::percent_decode;

use super::field::Value;
use crate::config::{self, Diagnostics, LoggedClient, Spanned};

/// What stands in place of what is not told.
const REDACTED: &str = "[redacted]";
/// What of a client's address is told that is truncated: as much as its provider's customers share.
const IPV4_PREFIX: u8 = 24;
const IPV6_PREFIX: u8 = 48;

/// What is told of requests.
#[derive(Debug, PartialEq)]
pub(super) struct Privacy {
    /// Headers that are logged.
    pub(super) headers: Box<[Header]>,
    pub(super) has_query: bool,
    withheld_headers: Box<[HeaderName]>,
    /// Names of parameters.
    withheld: Box<[Box<str>]>,
    client: LoggedClient,
}

/// A header that is logged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) name: HeaderName,
    is_withheld: bool,
}

/// A URL, or a part of one, in which the values of some parameters are not told.
#[derive(Debug)]
pub(super) struct Url<'a> {
    /// What stands before the `?`.
    path: Option<&'a [u8]>,
    query: Option<&'a [u8]>,
    withheld: &'a [Box<str>],
}

impl Privacy {
    pub(super) fn compile(section: &config::AccessLog, diagnostics: &mut Diagnostics) -> Self {
        let mut names = |names: &[Spanned<String>]| -> Box<[HeaderName]> {
            let names = names.iter().filter_map(|name| {
                let parsed = name.parse().ok();
                if parsed.is_none() {
                    diagnostics
                        .error(name.span, format!("`{name}` is not a header name"))
                        .help("names are letters, digits and `-`, such as `User-Agent`");
                }
                parsed
            });
            names.collect()
        };
        let (headers, withheld_headers) = (names(&section.headers), names(&section.redact));
        let mut privacy = Self {
            headers: Box::default(),
            has_query: section.query,
            withheld_headers,
            withheld: section
                .redact_query
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            client: section.client,
        };
        privacy.headers = headers.iter().map(|name| privacy.of(name)).collect();
        privacy
    }

    /// A header of this name.
    pub(super) fn of(&self, name: &HeaderName) -> Header {
        Header {
            name: name.clone(),
            is_withheld: self.withheld_headers.contains(name),
        }
    }

    pub(super) fn header<'a>(&'a self, header: &Header, value: &'a [u8]) -> Value<'a> {
        if header.is_withheld {
            Value::Text(REDACTED)
        } else if header.name == header::REFERER {
            let mut parts = value.splitn(2, |byte| *byte == b'?');
            Value::Url(Url {
                path: parts.next(),
                query: parts.next(),
                withheld: &self.withheld,
            })
        } else {
            Value::Bytes(value)
        }
    }

    pub(super) fn client<'a>(&self, client: &'a str) -> Value<'a> {
        if self.client == LoggedClient::Full {
            return Value::Text(client);
        }
        match client.parse().ok().and_then(truncated) {
            Some(network) => Value::Address(network),
            None => Value::Text(REDACTED),
        }
    }

    /// The same of an address.
    pub(super) fn address(&self, client: IpAddr) -> Option<IpAddr> {
        match self.client {
            LoggedClient::Full => Some(client),
            LoggedClient::Truncated => truncated(client),
        }
    }

    pub(super) fn query<'a>(&'a self, query: &'a str) -> Url<'a> {
        Url {
            path: None,
            query: Some(query.as_bytes()),
            withheld: &self.withheld,
        }
    }

    pub(super) fn target<'a>(&'a self, path: &'a str, query: Option<&'a str>) -> Url<'a> {
        Url {
            path: Some(path.as_bytes()),
            query: query.map(str::as_bytes),
            withheld: &self.withheld,
        }
    }
}

/// As much of a client's address as many have in common.
pub(super) fn truncated(client: IpAddr) -> Option<IpAddr> {
    let address = client.to_canonical();
    let prefix = if address.is_ipv4() {
        IPV4_PREFIX
    } else {
        IPV6_PREFIX
    };
    let network = IpNet::new(address, prefix).ok()?;
    Some(network.network())
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path {
            Lossy(path).fmt(f)?;
        }
        let Some(mut rest) = self.query else {
            return Ok(());
        };
        if self.path.is_some() {
            f.write_char('?')?;
        }
        loop {
            // Some servers take `;` for a separator, too.
            let end = rest.iter().position(|byte| matches!(byte, b'&' | b';'));
            let parameter = &rest[..end.unwrap_or(rest.len())];
            match parameter.iter().position(|byte| *byte == b'=') {
                Some(at) if self.withholds(&parameter[..at]) => {
                    Lossy(&parameter[..=at]).fmt(f)?;
                    f.write_str(REDACTED)?;
                }
                _ => Lossy(parameter).fmt(f)?,
            }
            let Some(end) = end else { return Ok(()) };
            f.write_char(rest[end].into())?;
            rest = &rest[end + 1..];
        }
    }
}

impl Url<'_> {
    /// By what the name stands for: backends decode it, too.
    fn withholds(&self, name: &[u8]) -> bool {
        self.withheld.iter().any(|withheld| {
            let mut decoded = percent_decode(name);
            let mut same = withheld.bytes().all(|byte| {
                decoded
                    .next()
                    .is_some_and(|it| it.eq_ignore_ascii_case(&byte))
            });
            same &= decoded.next().is_none();
            same
        })
    }
}

/// Bytes as a text, with U+FFFD for what is none.
pub(super) struct Lossy<'a>(pub(super) &'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privacy() -> Privacy {
        let section = config::AccessLog {
            client: LoggedClient::Truncated,
            ..config::AccessLog::default()
        };
        Privacy::compile(&section, &mut Diagnostics::default())
    }

    #[test]
    fn credentials_in_a_query_are_not_told_however_their_names_are_written() {
        let privacy = privacy();
        for (query, told) in [
            ("a=1&token=x&b=2", "a=1&token=[redacted]&b=2"),
            ("Access_Token=x", "Access_Token=[redacted]"),
            ("acc%65ss%5Ftoken=x%26y", "acc%65ss%5Ftoken=[redacted]"),
            ("a=1;code=x", "a=1;code=[redacted]"),
            ("code=a=b&code=c", "code=[redacted]&code=[redacted]"),
            ("code", "code"),
            ("tokens=x&&=y&xcode=z", "tokens=x&&=y&xcode=z"),
            ("", ""),
        ] {
            assert_eq!(privacy.query(query).to_string(), told, "{query}");
        }
        let target = privacy.target("/a", Some("sig=x"));
        assert_eq!(target.to_string(), "/a?sig=[redacted]");
        assert_eq!(privacy.target("/a", None).to_string(), "/a");
        let referer = privacy.of(&header::REFERER);
        let Value::Url(url) = privacy.header(&referer, b"https://h/cb?state=1&code=x\xff") else {
            panic!("it is a URL")
        };
        assert_eq!(url.to_string(), "https://h/cb?state=1&code=[redacted]");
    }

    #[test]
    fn a_truncated_client_is_one_of_many() {
        let privacy = privacy();
        for (client, told) in [
            ("192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2:3::4", "2001:db8:1::"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
        ] {
            let Value::Address(address) = privacy.client(client) else {
                panic!("{client}")
            };
            assert_eq!(address.to_string(), told);
        }
    }
}
