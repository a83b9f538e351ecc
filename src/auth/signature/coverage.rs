//! What a signature must cover.

use http::{HeaderMap, HeaderName};
use sfv::InnerList;

use super::content::CONTENT_DIGEST;
use crate::config::{Diagnostics, OneOrMany, Span, Spanned, nearest};

/// The derived components of a request that stand for themselves.
const DERIVED: [&str; 7] = [
    "@method",
    "@target-uri",
    "@authority",
    "@scheme",
    "@request-target",
    "@path",
    "@query",
];

/// The components that must be covered.
#[derive(Debug)]
pub(super) struct Coverage(Box<[Component]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    Derived(&'static str),
    /// A field, if the request has it: who takes it away breaks the signature that covers it.
    Field(HeaderName),
}

impl Coverage {
    /// Compiles a list of components, or reports everything that is wrong with it. `span` is the whole
    /// section's.
    pub(super) fn compile(
        written: &OneOrMany<Spanned<String>>,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        if written.0.is_empty() {
            diagnostics
                .error(
                    span,
                    "`components` is empty, and a signature of nothing proves nothing",
                )
                .help("remove it to use `[\"@method\", \"@authority\", \"@path\", \"@query\"]`");
            return None;
        }
        let mut components = Vec::new();
        let mut is_sound = true;
        for name in written {
            match Component::new(name, diagnostics) {
                Some(component) if components.contains(&component) => {
                    diagnostics
                        .error(name.span, format!("`{name}` is listed twice"))
                        .help("remove one of them");
                    is_sound = false;
                }
                Some(component) => components.push(component),
                None => is_sound = false,
            }
        }
        let coverage = Self(components.into());
        if is_sound {
            coverage.warn_about_gaps(written, diagnostics);
        }
        is_sound.then_some(coverage)
    }

    /// Whether a signature covers all of them.
    pub(super) fn is_met_by(&self, covered: &InnerList, headers: &HeaderMap) -> bool {
        self.0.iter().all(|component| match component {
            Component::Derived(name) => covers_derived(covered, name),
            Component::Field(name) => !headers.contains_key(name) || covers_field(covered, name),
        })
    }

    /// A signature that does not say what it is for can be put to another use.
    fn warn_about_gaps(&self, written: &OneOrMany<Spanned<String>>, diagnostics: &mut Diagnostics) {
        let span = written.0.first().map(|name| name.span).unwrap_or_default();
        for name in ["@method", "@path"] {
            let is_asked = self.0.iter().any(|it| match it {
                Component::Derived(it) => *it == name || parts(it).contains(&name),
                Component::Field(_) => false,
            });
            if !is_asked {
                diagnostics
                    .warning(span, format!("signatures need not cover `{name}`"))
                    .label("one that is seen on its way can be used for other requests")
                    .help(format!("add `\"{name}\"`"));
            }
        }
    }
}

impl Component {
    fn new(written: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Self> {
        if written.starts_with('@') {
            if let Some(name) = DERIVED.iter().find(|name| **name == written.as_str()) {
                return Some(Self::Derived(name));
            }
            let finding = diagnostics.error(
                written.span,
                format!("`{written}` is not a component that signatures can be asked to cover"),
            );
            match nearest(written, DERIVED) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!(
                    "one of {}, or the name of a field",
                    DERIVED.join(", ")
                )),
            };
            return None;
        }
        let name = HeaderName::from_bytes(written.as_bytes()).ok();
        let name = name.filter(|name| !matches!(name.as_str(), "signature" | "signature-input"));
        if name.is_none() {
            diagnostics
                .error(
                    written.span,
                    format!("`{written}` is not a field that signatures can cover"),
                )
                .help(
                    "name a field such as `content-type`, or a derived component such as `@method`",
                );
        }
        name.map(Self::Field)
    }
}

/// The derived components that another one contains.
fn parts(name: &str) -> &'static [&'static str] {
    match name {
        "@target-uri" => &[
            "@scheme",
            "@authority",
            "@request-target",
            "@path",
            "@query",
        ],
        "@request-target" => &["@path", "@query"],
        _ => &[],
    }
}

/// Whether a derived component is covered, by itself or as a part of another.
fn covers_derived(covered: &InnerList, name: &str) -> bool {
    let whole = covered.items.iter().filter(|item| item.params.is_empty());
    let mut names = whole.filter_map(|item| item.bare_item.as_string());
    names.any(|it| it.as_str() == name || parts(it.as_str()).contains(&name))
}

/// Whether all of a field is covered, in whichever form.
fn covers_field(covered: &InnerList, name: &HeaderName) -> bool {
    covered.items.iter().any(|item| {
        let mut parameters = item.params.keys();
        let is_whole = parameters.all(|it| matches!(it.as_str(), "sf" | "bs"));
        let covered = item.bare_item.as_string();
        is_whole && covered.is_some_and(|covered| covered.as_str() == name.as_str())
    })
}

/// Whether the digest of the body is covered.
pub(super) fn covers_digest(covered: &InnerList) -> bool {
    covers_field(covered, &CONTENT_DIGEST)
}
