//! Which certificates are let in, by their names.

use super::names::Names;
use crate::config::{ClientCertificate, Diagnostics, OneOrMany, Spanned};

/// Which certificates are let in: each list that is not empty must have one of the names.
#[derive(Debug)]
pub(super) struct Rules {
    subjects: Box<[Box<str>]>,
    common_names: Box<[Box<str>]>,
    alternatives: Box<[Alternative]>,
    /// In lower case.
    fingerprints: Box<[Box<str>]>,
}

/// An alternative name, or several at once.
#[derive(Debug, PartialEq, Eq)]
enum Alternative {
    Dns(Box<str>),
    /// All one level below, with the dot: `.example.com`.
    DnsBelow(Box<str>),
    Uri(Box<str>),
    /// All below, with the slash.
    UriBelow(Box<str>),
    Email(Box<str>),
}

/// What URIs begin with whose paths mean just what they say.
const SPIFFE: &str = "spiffe://";
const FINGERPRINT_DIGITS: usize = 64;

impl Rules {
    /// Compiles what is written, or reports everything that is wrong with it.
    pub(super) fn compile(
        section: &ClientCertificate,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let subjects = list(&section.subjects, diagnostics, subject);
        let common_names = list(&section.common_names, diagnostics, common_name);
        let alternatives = list(&section.sans, diagnostics, Alternative::read);
        let fingerprints = list(&section.fingerprints, diagnostics, fingerprint);
        Some(Self {
            subjects: subjects?,
            common_names: common_names?,
            alternatives: alternatives?,
            fingerprints: fingerprints?,
        })
    }

    /// Whether a certificate with these names is let in.
    pub(super) fn admit(&self, names: &Names) -> bool {
        let is_one = |list: &[Box<str>], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|it| **it == *name))
        };
        is_one(&self.subjects, Some(&names.subject.text))
            && is_one(&self.common_names, names.subject.common_name.as_deref())
            && is_one(&self.fingerprints, Some(&names.fingerprint))
            && (self.alternatives.is_empty()
                || self.alternatives.iter().any(|it| it.is_among(names)))
    }
}

impl Alternative {
    fn read(text: &str) -> Result<Self, &'static str> {
        if let Some((scheme, rest)) = text.split_once("://") {
            if scheme.is_empty() || rest.is_empty() {
                return Err("a URI is written as `spiffe://example.com/shop`");
            }
            return match text.strip_suffix('*') {
                None => Ok(Self::Uri(text.into())),
                Some(above)
                    if text.starts_with(SPIFFE) && above.ends_with('/') && above != SPIFFE =>
                {
                    Ok(Self::UriBelow(above.into()))
                }
                Some(_) => Err(
                    "only all below a path of `spiffe://` can be written: `spiffe://example.com/shop/*`",
                ),
            };
        }
        if text.contains('@') {
            return Ok(Self::Email(text.into()));
        }
        let (above, is_below) = match text.strip_prefix('*') {
            Some(above) => (above.strip_prefix('.').unwrap_or_default(), true),
            None => (text, false),
        };
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if !above.split('.').all(is_label) || text.parse::<std::net::IpAddr>().is_ok() {
            return Err(
                "it is neither a DNS name (`a.example.com`, `*.example.com`), nor a URI, nor a mail address",
            );
        }
        let above = above.to_ascii_lowercase();
        Ok(match is_below {
            true => Self::DnsBelow(format!(".{above}").into()),
            false => Self::Dns(above.into()),
        })
    }

    fn is_among(&self, names: &Names) -> bool {
        match self {
            Self::Dns(ours) => names.dns.iter().any(|name| name.eq_ignore_ascii_case(ours)),
            Self::DnsBelow(above) => names.dns.iter().any(|name| is_one_below(name, above)),
            Self::Uri(ours) => names.uris.iter().any(|name| **name == **ours),
            Self::UriBelow(above) => names.uris.iter().any(|name| is_path_below(name, above)),
            Self::Email(ours) => names.emails.iter().any(|name| **name == **ours),
        }
    }
}

fn is_one_below(name: &str, above: &str) -> bool {
    let Some(split) = name.len().checked_sub(above.len()) else {
        return false;
    };
    name.is_char_boundary(split) && {
        let (label, rest) = name.split_at(split);
        // A wildcard is a name of its own, and nobody's.
        rest.eq_ignore_ascii_case(above) && !label.is_empty() && !label.contains(['.', '*'])
    }
}

/// Whether a URI is below a path, with only what such paths are made of (SPIFFE-ID §2.2), so that nothing
/// leads out of it.
fn is_path_below(name: &str, above: &str) -> bool {
    let Some(rest) = name.strip_prefix(above) else {
        return false;
    };
    rest.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    })
}

fn subject(text: &str) -> Result<Box<str>, &'static str> {
    // Otherwise it would never be found.
    match text.contains('=') {
        true => Ok(text.into()),
        false => Err(
            "a distinguished name is written as `CN=device-7,O=Example`, the most specific part first",
        ),
    }
}

fn common_name(text: &str) -> Result<Box<str>, &'static str> {
    match text.is_empty() {
        true => Err("a common name is a text, such as `device-7`"),
        false => Ok(text.into()),
    }
}

fn fingerprint(text: &str) -> Result<Box<str>, &'static str> {
    let digits: String = text.chars().filter(|it| *it != ':').collect();
    let is_sound =
        digits.len() == FINGERPRINT_DIGITS && digits.bytes().all(|it| it.is_ascii_hexdigit());
    match is_sound {
        true => Ok(digits.to_ascii_lowercase().into()),
        false => Err(
            "it is the SHA-256 of a certificate, as `openssl x509 -noout -fingerprint -sha256` prints it",
        ),
    }
}

fn list<T>(
    written: &OneOrMany<Spanned<String>>,
    diagnostics: &mut Diagnostics,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Option<Box<[T]>> {
    let mut names = Vec::with_capacity(written.0.len());
    for text in written {
        match read(text) {
            Ok(name) => names.push(name),
            Err(help) => {
                diagnostics
                    .error(
                        text.span,
                        format!("no certificate can have the name `{text}`"),
                    )
                    .help(help);
            }
        }
    }
    (names.len() == written.0.len()).then(|| names.into())
}
