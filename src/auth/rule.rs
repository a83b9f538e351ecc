//! What a route asks of a verified token.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use serde_json::Value;

use super::identity::Identity;
use super::provider::Provider;
use super::refusal::Forbidden;
use crate::config::{self, Diagnostics, Span, nearest};

/// A claim and the values that are accepted.
type ClaimRule = (Box<str>, Box<[Box<str>]>);

/// Who must vouch for a request, and what it must say.
pub struct Rule {
    /// Who must vouch.
    pub provider: Arc<Provider>,
    scopes: Box<[Box<str>]>,
    claims: Box<[ClaimRule]>,
    challenge: HeaderValue,
}

impl Rule {
    /// Compiles a rule, or reports what is wrong with it. `span` is the whole rule's.
    pub fn compile(
        rule: &config::AuthRule,
        span: Span,
        providers: &HashMap<String, Arc<Provider>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let name = &rule.provider;
        let Some(provider) = providers.get(name.as_str()) else {
            // A provider that has errors of its own was reported there.
            if !diagnostics.has_lost(span, name) {
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
            return None;
        };
        let mut is_sound = true;
        for scope in &rule.require.scope {
            let is_scope = !scope.is_empty()
                && scope
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
            if !is_scope {
                diagnostics
                    .error(scope.span, format!("`{}` is not a scope", scope.value))
                    .help("a scope is one word; write several as a list (RFC 6749 §3.3)");
                is_sound = false;
            }
        }
        for (claim, values) in &rule.require.claims {
            if values.0.is_empty() {
                diagnostics
                    .error(
                        claim.span,
                        format!("no value of `{claim}` would be accepted"),
                    )
                    .help("list at least one value");
                is_sound = false;
            }
        }
        let scopes: Box<[Box<str>]> = rule
            .require
            .scope
            .iter()
            .map(|scope| scope.as_str().into())
            .collect();
        is_sound.then(|| Self {
            provider: provider.clone(),
            challenge: Forbidden::challenge(&scopes.join(" ")),
            scopes,
            claims: rule
                .require
                .claims
                .iter()
                .map(|(claim, values)| {
                    let values = values.iter().map(|value| value.as_str().into()).collect();
                    (claim.as_str().into(), values)
                })
                .collect(),
        })
    }

    /// Whether a verified token may do what the route does.
    ///
    /// # Errors
    /// What it lacks.
    pub fn authorise(&self, identity: &Identity) -> Result<(), Forbidden> {
        if !self.scopes.iter().all(|scope| identity.has_scope(scope)) {
            return Err(Forbidden::Scope);
        }
        let holds = |(claim, accepted): &ClaimRule| {
            identity.claim(claim).is_some_and(|value| match value {
                Value::Array(list) => list.iter().any(|member| is_one_of(member, accepted)),
                value => is_one_of(value, accepted),
            })
        };
        if self.claims.iter().all(holds) {
            Ok(())
        } else {
            Err(Forbidden::Claim)
        }
    }

    /// The `WWW-Authenticate` of a token that may not.
    pub fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }
}

/// Texts are compared as they are, numbers and booleans by their JSON text.
fn is_one_of(value: &Value, accepted: &[Box<str>]) -> bool {
    match value {
        Value::String(text) => accepted.iter().any(|accepted| **accepted == **text),
        Value::Number(_) | Value::Bool(_) => {
            let text = value.to_string();
            accepted.iter().any(|accepted| **accepted == *text)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("provider", &self.provider.name())
            .finish_non_exhaustive()
    }
}
