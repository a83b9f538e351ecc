//! What nobody is shown of a configuration: credentials, wherever they stand.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::shape::Dictionary;
use super::source::Spanned;

/// What stands in place of what is not shown.
pub(super) const MASK: &str = "***";

/// Parts of names, of header fields and parameters, whose values let somebody in.
const CREDENTIALS: [&str; 9] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "passw",
    "secret",
    "session",
    "sig",
    "token",
];

/// Whether the value of a header field, or of a parameter, of this name may let somebody in.
pub(super) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

/// Writes fields without the values that may let somebody in.
pub(super) fn fields<S: Serializer>(
    fields: &Dictionary<Spanned<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let shown = fields.iter().map(|(name, value)| {
        let value = match is_credential(name) {
            true => MASK,
            false => value,
        };
        (name, value)
    });
    serializer.collect_map(shown)
}

/// Writes the names of those who have credentials, and nothing of these.
pub(super) fn names<V, S: Serializer>(
    credentials: &Dictionary<V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(credentials.keys().map(|name| (name, MASK)))
}

/// A text without what a URL in it says of credentials: before its host, and in its query.
pub(super) fn url(text: &str) -> Cow<'_, str> {
    let Some(host) = text.find("://").map(|at| at + 3) else {
        return Cow::Borrowed(text);
    };
    let end = text[host..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| host + at);
    let mut shown = text[..host].to_owned();
    match text[host..end].rsplit_once('@') {
        Some((_, address)) => {
            shown.push_str(MASK);
            shown.push('@');
            shown.push_str(address);
        }
        None => shown.push_str(&text[host..end]),
    }
    let (path, query) = text[end..].split_once('?').unwrap_or((&text[end..], ""));
    shown.push_str(path);
    for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        shown.push(if number == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if is_credential(name) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(MASK);
            }
            _ => shown.push_str(pair),
        }
    }
    Cow::Owned(shown)
}

/// Shown in place of a text, whatever that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masked;

impl Serialize for Masked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        for (text, shown) in [
            (
                "redis://:pass@10.0.0.1:6379/0",
                "redis://***@10.0.0.1:6379/0",
            ),
            ("https://user:p@ss@host", "https://***@host"),
            ("http://host/a@b?c=d@e", "http://host/a@b?c=d@e"),
            (
                "http://host?api_key=x&a=1&Token=y",
                "http://host?api_key=***&a=1&Token=***",
            ),
            ("http://u:p@h/a?sig=x#f", "http://***@h/a?sig=***"),
            ("user@example.com", "user@example.com"),
            ("", ""),
        ] {
            assert_eq!(url(text), shown);
        }
    }

    #[test]
    fn names_of_credentials_are_known_however_they_are_written() {
        for name in [
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "SET-COOKIE",
            "X-Api-Key",
            "apikey",
            "X-Auth-Token",
            "access_token",
            "client_secret",
            "Signature",
            "X-Amz-Credential",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["Accept", "X-From", "Content-Type", "Via"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
