//! Which certificate a client gets: by the name that it asks for and the signatures that it understands.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use crate::config::{Diagnostics, Span};

/// The certificates of a listener.
#[derive(Debug)]
pub(super) struct Certificates {
    all: Box<[Arc<Certificate>]>,
    exact: AHashMap<Box<str>, Alternatives>,
    /// By what follows the `*` of a wildcard.
    wildcards: AHashMap<Box<str>, Alternatives>,
    /// For whoever asks for no name or an unknown one; `None` refuses them.
    default: Option<Alternatives>,
}

/// Certificates for the same name, each with a key of another kind. Those that are cheaper to sign with
/// come first.
#[derive(Debug, Clone, Default)]
pub(super) struct Alternatives(Vec<Arc<Certificate>>);

impl Certificates {
    /// Sorts certificates by their names. The first one is the default, unless there `is_strict` none.
    pub(super) fn new(
        certificates: Vec<(Certificate, Span)>,
        is_strict: bool,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut all = Vec::new();
        let mut known: AHashMap<(Box<str>, u8), Span> = AHashMap::new();
        let mut exact = AHashMap::new();
        let mut wildcards = AHashMap::new();
        for (certificate, span) in certificates {
            let certificate = Arc::new(certificate);
            for name in certificate.names.iter().collect::<AHashSet<_>>() {
                match known.entry((name.into(), certificate.algorithm().into())) {
                    Entry::Occupied(first) => {
                        diagnostics
                            .error(
                                span,
                                format!("two certificates are for `{name}`, with keys of one kind"),
                            )
                            .related(*first.get(), "this is the other one")
                            .help("keep one, or one with an RSA and one with an ECDSA key");
                    }
                    Entry::Vacant(free) => {
                        free.insert(span);
                    }
                }
                let (names, name) = match name.strip_prefix('*') {
                    Some(rest) => (&mut wildcards, rest),
                    None => (&mut exact, name),
                };
                let found: &mut Alternatives = names.entry(Box::from(name)).or_default();
                found.add(&certificate);
            }
            all.push(certificate);
        }
        let mut default = all.first().map(|first: &Arc<Certificate>| {
            let name = first.names.first();
            let known = name.and_then(|name| find(&exact, &wildcards, name));
            known
                .cloned()
                .unwrap_or_else(|| Alternatives(vec![first.clone()]))
        });
        if is_strict {
            default = None;
        }
        Self {
            all: all.into(),
            exact,
            wildcards,
            default,
        }
    }

    /// All of them, in the order written.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.all.iter()
    }

    /// Those for a client that asks for this name, in lower case.
    pub(super) fn find(&self, name: Option<&str>) -> Option<&Alternatives> {
        let known = name.and_then(|name| find(&self.exact, &self.wildcards, name));
        known.or(self.default.as_ref())
    }

    /// Whether one is for this name or, if it is a wildcard, for some name below it.
    pub(super) fn have(&self, name: &str) -> bool {
        let below = name.strip_prefix('*');
        find(&self.exact, &self.wildcards, name).is_some()
            || below.is_some_and(|below| {
                let mut names = self.exact.keys().chain(self.wildcards.keys());
                names.any(|it| it.ends_with(below))
            })
    }
}

fn find<'m>(
    exact: &'m AHashMap<Box<str>, Alternatives>,
    wildcards: &'m AHashMap<Box<str>, Alternatives>,
    name: &str,
) -> Option<&'m Alternatives> {
    let (exact, name) = match name.strip_prefix('*') {
        Some(rest) => (wildcards, rest),
        None => (exact, name),
    };
    let found = exact.get(name);
    found.or_else(|| wildcards.get(&name[name.find('.').filter(|dot| *dot > 0)?..]))
}

impl Alternatives {
    fn add(&mut self, certificate: &Arc<Certificate>) {
        match certificate.algorithm() {
            SignatureAlgorithm::RSA => self.0.push(certificate.clone()),
            _ => self.0.insert(0, certificate.clone()),
        }
    }

    /// Whether each of them is for this host.
    pub(super) fn cover(&self, host: &str) -> bool {
        self.0.iter().all(|it| it.names.cover(host))
    }
}

#[cfg(test)]
impl Alternatives {
    /// One certificate that is for these names.
    pub(super) fn of(names: &[&str]) -> Self {
        Self(vec![Arc::new(Certificate::issued(names, false))])
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let alternatives = &self.find(hello.server_name())?.0;
        let schemes = hello.signature_schemes();
        let understood = alternatives
            .iter()
            .find(|it| it.key.key.choose_scheme(schemes).is_some());
        // If none is, the handshake fails for that reason.
        understood
            .or(alternatives.first())
            .map(|it| it.shown().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificates, by their names and whether their key is an RSA one, and what is wrong with them.
    fn certificates(all: &[(&[&str], bool)], is_strict: bool) -> (Certificates, Vec<String>) {
        let mut diagnostics = Diagnostics::default();
        let issue = |(names, is_rsa): &(&[&str], bool)| {
            (Certificate::issued(names, *is_rsa), Span::default())
        };
        let all = all.iter().map(issue).collect();
        let certificates = Certificates::new(all, is_strict, &mut diagnostics);
        let found = diagnostics.into_sorted().into_iter().map(|it| it.message);
        (certificates, found.collect())
    }

    /// The first name of the first certificate for a name.
    fn found<'c>(certificates: &'c Certificates, name: Option<&str>) -> Option<&'c str> {
        certificates.find(name)?.0[0].names.first()
    }

    #[test]
    fn the_most_particular_certificate_is_found_and_otherwise_the_first() {
        let all: [(&[&str], bool); 3] = [
            (&["first.example"], false),
            (&["*.b.example"], false),
            (&["x.b.example", "y.example"], false),
        ];
        let (certificates, findings) = self::certificates(&all, false);
        assert_eq!(findings, [""; 0]);
        for (name, expected) in [
            ("first.example", "first.example"),
            ("a.b.example", "*.b.example"),
            ("x.b.example", "x.b.example"),
            ("y.example", "x.b.example"),
            ("b.example", "first.example"),
            ("a.a.b.example", "first.example"),
            ("nobody.example", "first.example"),
        ] {
            assert_eq!(found(&certificates, Some(name)), Some(expected), "{name}");
        }
        assert_eq!(found(&certificates, None), Some("first.example"));
        let (strict, _) = self::certificates(&all, true);
        assert_eq!(found(&strict, Some("y.example")), Some("x.b.example"));
        assert_eq!(found(&strict, Some("nobody.example")), None);
        assert_eq!(found(&strict, None), None);
    }

    #[test]
    fn a_name_may_have_one_certificate_of_each_kind_and_the_cheap_one_comes_first() {
        let all: [(&[&str], bool); 2] = [(&["a.example"], true), (&["a.example"], false)];
        let (certificates, findings) = self::certificates(&all, false);
        assert_eq!(findings, [""; 0]);
        for name in [Some("a.example"), None] {
            let kinds: Vec<_> = certificates
                .find(name)
                .unwrap()
                .0
                .iter()
                .map(|it| it.algorithm())
                .collect();
            assert_eq!(kinds, [SignatureAlgorithm::ECDSA, SignatureAlgorithm::RSA]);
        }
        let twice: [(&[&str], bool); 2] = [
            (&["a.example"], false),
            (&["b.example", "a.example"], false),
        ];
        let (_, findings) = self::certificates(&twice, false);
        assert_eq!(
            findings,
            ["two certificates are for `a.example`, with keys of one kind"]
        );
    }
}
