//! Hosts of routes, and the tiers in which a request's host is looked for.

use std::borrow::Cow;
use std::collections::HashMap;

/// A host of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum HostPattern {
    /// `shop.example.com`.
    Exact(Box<str>),
    /// `*.example.com`, kept as `.example.com`: one or more labels in front.
    Wildcard(Box<str>),
    /// Any host, or none.
    Any,
}

impl HostPattern {
    /// Reads a host as written.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if text == "*" {
            return Ok(Self::Any);
        }
        let (is_wildcard, labels) = match name.strip_prefix("*.") {
            Some(labels) => (true, labels),
            None => (false, name),
        };
        let is_address = !is_wildcard && (labels.starts_with('[') && labels.ends_with(']'));
        let is_name = !labels.is_empty()
            && labels.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            });
        if !is_name && !is_address {
            let help = if text.contains("://") {
                "write only the name, without `http://`"
            } else if text.contains(':') {
                "write the name without its port: routes are the same on all ports"
            } else if text.contains('*') {
                "a wildcard is the whole first label, such as `*.example.com`"
            } else {
                "write a name such as `shop.example.com`, or `*.example.com`"
            };
            return Err((format!("`{text}` is not a host"), help.into()));
        }
        Ok(if is_wildcard {
            Self::Wildcard(format!(".{labels}").into())
        } else {
            Self::Exact(labels.into())
        })
    }

    /// Whether a normalised host is one of these.
    pub(super) fn takes(&self, host: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => host == Some(name),
            Self::Wildcard(suffix) => {
                host.is_some_and(|host| host.len() > suffix.len() && host.ends_with(&**suffix))
            }
        }
    }

    /// Exact before wildcards, longer wildcards before shorter ones, any last.
    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Wildcard(suffix) => usize::MAX - suffix.len(),
            Self::Any => usize::MAX,
        }
    }
}

/// A request's host without port and last dot, in lower case.
pub fn normalise(host: &str) -> Cow<'_, str> {
    let name = match host.rfind(':') {
        // A colon in brackets belongs to an IPv6 address.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Host patterns by number. Number 0 is any host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, u32, ahash::RandomState>,
    wildcards: HashMap<Box<str>, u32, ahash::RandomState>,
    count: u32,
}

pub(super) const ANY_HOST: u32 = 0;

impl Hosts {
    /// The number of a pattern, given out on first use.
    pub(super) fn number(&mut self, pattern: &HostPattern) -> u32 {
        let (map, name) = match pattern {
            HostPattern::Any => return ANY_HOST,
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcards, suffix),
        };
        *map.entry(name.clone()).or_insert_with(|| {
            self.count += 1;
            self.count
        })
    }

    /// Visits the numbers of the patterns that take a host, in their order of precedence, until
    /// `visit` returns something.
    pub(super) fn find<R>(
        &self,
        host: Option<&str>,
        mut visit: impl FnMut(u32) -> Option<R>,
    ) -> Option<R> {
        if let Some(host) = host
            && self.count > 0
        {
            if let Some(number) = self.exact.get(host)
                && let Some(found) = visit(*number)
            {
                return Some(found);
            }
            if !self.wildcards.is_empty() {
                for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
                    if let Some(number) = self.wildcards.get(&host[dot..])
                        && let Some(found) = visit(*number)
                    {
                        return Some(found);
                    }
                }
            }
        }
        visit(ANY_HOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_dot_and_case() {
        for (sent, normal) in [
            ("Shop.Example.com:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(normalise(sent), normal);
        }
    }

    #[test]
    fn a_wildcard_takes_one_or_more_labels() {
        let pattern = HostPattern::parse("*.Example.com").unwrap();
        assert!(pattern.takes(Some("a.example.com")));
        assert!(pattern.takes(Some("a.b.example.com")));
        assert!(!pattern.takes(Some("example.com")));
        assert!(!pattern.takes(Some(".example.com")));
        assert!(!pattern.takes(Some("badexample.com")));
        assert!(!pattern.takes(None));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "http://a", "a:80", "a.*.b", "*a.b", "a b", "a..b", "*."] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
