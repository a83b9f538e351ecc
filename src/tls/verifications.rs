//! Which names clients are verified for, and how.

use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use ahash::AHashMap;
use rustls::crypto::CryptoProvider;

use super::certificates::Certificates;
use super::verification::Verification;
use crate::config::{ClientVerification, Diagnostics, OneOrMany, Span, Spanned};

/// How a listener verifies clients, by the name that they ask for.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    all: Box<[Arc<Verification>]>,
    exact: AHashMap<Box<str>, usize>,
    /// By what follows the `*` of a wildcard, which stands for any number of labels, as it does in routes.
    wildcards: AHashMap<Box<str>, usize>,
    /// For all other names, and for none.
    default: Option<usize>,
}

impl Verifications {
    /// Compiles all sections of a listener, or reports everything that is wrong with them.
    pub(super) fn compile(
        sections: &OneOrMany<Spanned<ClientVerification>>,
        certificates: &Certificates,
        base: &Path,
        provider: &Arc<CryptoProvider>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut this = Self::default();
        let mut known: AHashMap<Box<str>, Span> = AHashMap::new();
        let mut all = Vec::new();
        for (number, section) in sections.iter().enumerate() {
            let compiled = Verification::compile(section, base, provider, diagnostics);
            all.push(compiled.map(Arc::new));
            if section.hosts.0.is_empty() && !diagnostics.has_lost(section.span, "hosts") {
                this.default = Some(number);
                note(&mut known, "", section.span, diagnostics);
            }
            for host in &section.hosts {
                let Some(name) = read(host, certificates, diagnostics) else {
                    continue;
                };
                note(&mut known, &name, host.span, diagnostics);
                match name.strip_prefix('*') {
                    Some(rest) => this.wildcards.insert(rest.into(), number),
                    None => this.exact.insert(name.into(), number),
                };
            }
        }
        this.all = all.into_iter().collect::<Option<_>>()?;
        Some(this)
    }

    /// All of them, in the order written.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Verification>> {
        self.all.iter()
    }

    /// The number of the one for a name in lower case, or for none; `None` if such clients are not verified.
    pub(super) fn find(&self, name: Option<&str>) -> Option<usize> {
        let named = name.and_then(|name| {
            let dots = name.match_indices('.').map(|(at, _)| at);
            let mut below = dots.filter_map(|at| self.wildcards.get(&name[at..]));
            self.exact.get(name).or_else(|| below.next())
        });
        named.copied().or(self.default)
    }

    /// The one of this number.
    pub(super) fn get(&self, number: Option<usize>) -> Option<&Arc<Verification>> {
        self.all.get(number?)
    }
}

/// Notes where something is said of a name, which may be done once.
fn note(
    known: &mut AHashMap<Box<str>, Span>,
    name: &str,
    span: Span,
    diagnostics: &mut Diagnostics,
) {
    match known.entry(name.into()) {
        Entry::Vacant(free) => {
            free.insert(span);
        }
        Entry::Occupied(first) => {
            let message = match name {
                "" => "two sections are for all other hosts".to_owned(),
                name => format!("`{name}` is listed twice"),
            };
            diagnostics
                .error(span, message)
                .related(*first.get(), "this is the other one")
                .help("each host is verified in one way: write `hosts` that differ");
        }
    }
}

/// A host as it is looked for.
fn read(
    host: &Spanned<String>,
    certificates: &Certificates,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let name = host.to_ascii_lowercase();
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty() && bytes.all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    if labels.parse::<std::net::IpAddr>().is_ok() || !labels.split('.').all(is_label) {
        diagnostics
            .error(host.span, format!("`{host}` is no name that clients ask for"))
            .help("a name without port, such as `admin.example.com`, or `*.example.com`; never an address");
        return None;
    }
    if !certificates.have(&name) {
        diagnostics
            .error(host.span, format!("no certificate is for `{host}`"))
            .help("add one to `certificates`: clients would refuse the connection for this host");
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_section_is_for_a_name_and_otherwise_the_one_for_all() {
        let names =
            |names: &[(&str, usize)]| names.iter().map(|(it, at)| (Box::from(*it), *at)).collect();
        let mut verifications = Verifications {
            all: Box::default(),
            exact: names(&[("a.example", 0), ("x.b.example", 1)]),
            wildcards: names(&[(".b.example", 2), (".c.b.example", 3)]),
            default: None,
        };
        for (name, number) in [
            ("a.example", Some(0)),
            ("x.b.example", Some(1)),
            ("y.b.example", Some(2)),
            ("y.x.b.example", Some(2)),
            ("y.c.b.example", Some(3)),
            ("c.b.example", Some(2)),
            // What is no name at all is still below the host whose routes would take it.
            ("[::1]y.b.example", Some(2)),
            ("b.example", None),
            ("xb.example", None),
            ("a.example.com", None),
            ("", None),
        ] {
            assert_eq!(verifications.find(Some(name)), number, "{name}");
        }
        assert_eq!(verifications.find(None), None);
        verifications.default = Some(4);
        assert_eq!(verifications.find(None), Some(4));
        assert_eq!(verifications.find(Some("b.example")), Some(4));
        assert_eq!(verifications.find(Some("a.example")), Some(0));
    }
}
