//! What a route asks of who comes: one of its providers must vouch, and the identity must have the rights.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;

use super::identity::Identity;
use super::provider::Provider;
use super::refusal::{Refusal, insufficient};
use super::requirement::{Requirement, Vocabulary};
use crate::config::{self, Diagnostics, Span, Spanned, nearest};

/// Who may come in.
#[derive(Debug)]
pub struct Rule {
    ways: Box<[Way]>,
    /// Whether requests without a credential may, too.
    pub is_open: bool,
}

/// One of the providers.
pub struct Way {
    /// Who must vouch.
    pub provider: Arc<Provider>,
    requirement: Option<Requirement>,
    /// What is said to those who lack the rights.
    challenge: Option<HeaderValue>,
}

/// What rules are compiled against.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    /// The providers by name.
    pub providers: &'k HashMap<String, Arc<Provider>>,
    /// What requirements may speak of.
    pub vocabulary: Vocabulary<'k>,
}

impl Rule {
    /// Compiles a rule, or reports everything that is wrong with it. `span` is the whole rule's.
    pub fn compile(
        rule: &config::AuthRule,
        span: Span,
        known: Known<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let ways = match (&rule.provider, &rule.any_of) {
            (Some(provider), None) => vec![Way::compile(
                provider,
                (&rule.require, &None),
                span,
                known,
                diagnostics,
            )],
            (None, Some(ways)) => {
                check_ways(ways, known, diagnostics);
                let ways = ways.iter().map(|way| {
                    let requirements = (&rule.require, &way.0.require);
                    Way::compile(&way.0.provider, requirements, way.span, known, diagnostics)
                });
                ways.collect()
            }
            _ => {
                if !diagnostics.has_lost(span, "provider") && !diagnostics.has_lost(span, "any_of")
                {
                    diagnostics
                        .error(span, "`auth` needs either `provider` or `any_of`")
                        .help("write the provider's name, or `any_of: [one, another]`");
                }
                return None;
            }
        };
        let ways: Vec<Way> = ways.into_iter().collect::<Option<_>>()?;
        let last = ways.last().map(|way| &way.provider);
        if let Some(last) = last.filter(|it| rule.anonymous && it.always_decides()) {
            diagnostics
                .warning(
                    span,
                    format!(
                        "`anonymous` has no effect: `{}` decides about every request",
                        last.name()
                    ),
                )
                .help("remove it, and let that service decide about requests without a credential");
        }
        (!ways.is_empty()).then(|| Self {
            ways: ways.into(),
            is_open: rule.anonymous,
        })
    }

    /// The providers, in the order in which they are asked.
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// What a client is told that showed no credential: how each provider would like it to.
    pub fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let providers = self.ways.iter().map(|way| &way.provider);
        providers.filter_map(|provider| provider.challenge(Refusal::Missing))
    }
}

fn check_ways(
    ways: &Spanned<Vec<Spanned<config::AuthWay>>>,
    known: Known<'_>,
    diagnostics: &mut Diagnostics,
) {
    if ways.is_empty() && !diagnostics.has_error_within(ways.span) {
        diagnostics
            .error(ways.span, "`any_of` is empty, so nobody could come in")
            .help("list providers, or write `auth: off` to let everybody in");
    }
    for (index, way) in ways.iter().enumerate() {
        let name = &way.0.provider;
        let is_same = |other: &Spanned<config::AuthWay>| other.0.provider == *name;
        if ways[..index].iter().any(is_same) {
            diagnostics
                .error(
                    name.span.or(way.span),
                    format!("`{name}` is listed twice, and only the first could decide"),
                )
                .help("write what it may ask for as `require: { any: [...] }`");
        }
        let provider = known.providers.get(name.as_str());
        if index + 1 < ways.len() && provider.is_some_and(|it| it.always_decides()) {
            let next = &ways[index + 1].0.provider;
            diagnostics
                .error(
                    next.span.or(ways[index + 1].span),
                    format!("`{next}` is never asked: `{name}` decides about every request"),
                )
                .help(format!("list `{name}` last"));
        }
    }
}

impl Way {
    fn compile(
        name: &Spanned<String>,
        requirements: (
            &Option<Spanned<config::Requirement>>,
            &Option<Spanned<config::Requirement>>,
        ),
        span: Span,
        known: Known<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let provider = known.providers.get(name.as_str());
        // A provider that has errors of its own was reported there.
        if provider.is_none() && !diagnostics.has_lost(span, name) {
            report_unknown(name, span, known.providers, diagnostics);
        }
        let mut is_sound = true;
        let mut parts = Vec::new();
        for section in [requirements.0, requirements.1].into_iter().flatten() {
            let span = section.span;
            match Requirement::compile(section, span, known.vocabulary, diagnostics) {
                Some(part) => parts.push(part),
                None => is_sound = false,
            }
        }
        let requirement = match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(Requirement::All(parts.into())),
        };
        let scopes = requirement.as_ref().map(Requirement::scopes);
        let scopes = scopes.unwrap_or_default().join(" ");
        let provider = provider?;
        is_sound.then(|| Self {
            challenge: provider.is_bearer().then(|| insufficient(&scopes)),
            provider: provider.clone(),
            requirement,
        })
    }

    /// Whether an identity that the provider vouches for has the rights. `parameter` is what the path
    /// has in place of one.
    pub fn admits<'p>(&self, identity: &Identity, parameter: &impl Fn(usize) -> &'p str) -> bool {
        let requirement = self.requirement.as_ref();
        requirement.is_none_or(|it| it.holds(identity, parameter))
    }

    /// What is asked of an identity.
    pub fn requirement(&self) -> Option<&Requirement> {
        self.requirement.as_ref()
    }

    /// The `WWW-Authenticate` for an identity without the rights (RFC 6750 §3.1).
    pub fn challenge(&self) -> Option<HeaderValue> {
        self.challenge.clone()
    }
}

fn report_unknown(
    name: &Spanned<String>,
    span: Span,
    providers: &HashMap<String, Arc<Provider>>,
    diagnostics: &mut Diagnostics,
) {
    let finding = diagnostics.error(
        name.span.or(span),
        format!("unknown auth provider `{name}`"),
    );
    let known: Vec<&str> = providers.keys().map(String::as_str).collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => finding.help("define it under `auth_providers`"),
        None => finding.help(format!("known providers: {}", known.join(", "))),
    };
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("provider", &self.provider.name())
            .finish_non_exhaustive()
    }
}
