//! What is asked of an identity: a tree of conditions, declared and never computed.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::consumer::Consumers;
use super::identity::Identity;
use crate::config::{self, Diagnostics, OneOrMany, Span, Spanned, nearest};

/// What is asked of an identity.
#[derive(Debug)]
pub enum Requirement {
    /// It has this scope.
    Scope(Box<str>),
    /// It has one of these roles.
    Role(Box<[Box<str>]>),
    /// It is meant for one of these audiences.
    Audience(Box<[Box<str>]>),
    /// It is one of these consumers.
    Consumer(Box<[Box<str>]>),
    /// Its consumer is in one of these groups.
    Group(Box<[Box<str>]>),
    /// A claim is, or holds, one of these.
    Claim(Box<str>, Box<[Accepted]>),
    /// A claim is there.
    Present(Box<str>),
    /// All of these hold.
    All(Box<[Requirement]>),
    /// One of these holds.
    Any(Box<[Requirement]>),
    /// This does not hold.
    Not(Box<Requirement>),
}

/// A value that a claim may have.
#[derive(Debug)]
pub enum Accepted {
    /// This one.
    Value(Box<str>),
    /// What the path has in place of a parameter: its number and its name.
    Parameter(usize, Box<str>),
}

/// A condition, and whether it holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// How many conditions it is a part of.
    pub depth: usize,
    /// What it asks.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
}

/// What requirements may speak of.
#[derive(Clone, Copy)]
pub struct Vocabulary<'v> {
    /// The consumers and their groups.
    pub consumers: &'v Consumers,
    /// The parameters of the path.
    pub parameters: &'v [&'v str],
}

impl Requirement {
    /// Compiles a requirement, or reports everything that is wrong with it.
    pub(super) fn compile(
        section: &config::Requirement,
        span: Span,
        vocabulary: Vocabulary<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut compiler = Compiler {
            vocabulary,
            diagnostics,
            is_sound: true,
        };
        let requirement = compiler.all_of(section, span);
        compiler.is_sound.then_some(requirement)
    }

    /// Whether an identity meets it. `parameter` is what the path has in place of one.
    pub fn holds<'p>(&self, identity: &Identity, parameter: &impl Fn(usize) -> &'p str) -> bool {
        match self {
            Self::Scope(scope) => identity.has_scope(scope),
            Self::Role(roles) => roles.iter().any(|role| identity.has_role(role)),
            Self::Audience(ours) => identity
                .claim("aud")
                .is_some_and(|it| has(it, |text| ours.iter().any(|ours| **ours == *text))),
            Self::Consumer(names) => identity
                .consumer()
                .is_some_and(|consumer| names.contains(&consumer.name)),
            Self::Group(groups) => identity
                .consumer()
                .is_some_and(|consumer| groups.iter().any(|group| consumer.is_in(group))),
            Self::Claim(claim, accepted) => identity.claim(claim).is_some_and(|value| {
                has(value, |text| {
                    accepted.iter().any(|it| it.is(text, parameter))
                })
            }),
            Self::Present(claim) => identity.claim(claim).is_some_and(|it| !it.is_null()),
            Self::All(parts) => parts.iter().all(|part| part.holds(identity, parameter)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(identity, parameter)),
            Self::Not(part) => !part.holds(identity, parameter),
        }
    }

    /// Every condition and whether it holds, for people.
    pub fn explain<'p>(
        &self,
        identity: &Identity,
        parameter: &impl Fn(usize) -> &'p str,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.add_findings(identity, parameter, 0, &mut findings);
        findings
    }

    fn add_findings<'p>(
        &self,
        identity: &Identity,
        parameter: &impl Fn(usize) -> &'p str,
        depth: usize,
        findings: &mut Vec<Finding>,
    ) {
        findings.push(Finding {
            depth,
            text: self.to_string(),
            holds: self.holds(identity, parameter),
        });
        let parts = match self {
            Self::All(parts) | Self::Any(parts) => &parts[..],
            Self::Not(part) => std::slice::from_ref(&**part),
            _ => &[],
        };
        for part in parts {
            part.add_findings(identity, parameter, depth + 1, findings);
        }
    }

    /// The scopes that it asks for whatever else holds.
    pub(super) fn scopes(&self) -> Vec<&str> {
        match self {
            Self::Scope(scope) => vec![scope],
            Self::All(parts) => parts.iter().flat_map(Self::scopes).collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "scope {scope}"),
            Self::Role(roles) => write!(f, "role {}", roles.join(" or ")),
            Self::Audience(ours) => write!(f, "audience {}", ours.join(" or ")),
            Self::Consumer(names) => write!(f, "consumer {}", names.join(" or ")),
            Self::Group(groups) => write!(f, "group {}", groups.join(" or ")),
            Self::Claim(claim, accepted) => {
                write!(f, "claim {claim}: ")?;
                for (index, value) in accepted.iter().enumerate() {
                    let or = if index > 0 { " or " } else { "" };
                    match value {
                        Accepted::Value(text) => write!(f, "{or}{text}")?,
                        Accepted::Parameter(_, name) => write!(f, "{or}{{{name}}}")?,
                    }
                }
                Ok(())
            }
            Self::Present(claim) => write!(f, "claim {claim}"),
            Self::All(_) => f.write_str("all of"),
            Self::Any(_) => f.write_str("any of"),
            Self::Not(_) => f.write_str("not"),
        }
    }
}

impl Accepted {
    fn is<'p>(&self, text: &str, parameter: &impl Fn(usize) -> &'p str) -> bool {
        match self {
            Self::Value(value) => **value == *text,
            // As a backend reads the path.
            Self::Parameter(index, _) => {
                let value = parameter(*index);
                !value.is_empty() && percent_decode_str(value).eq(text.bytes())
            }
        }
    }
}

/// Whether a claim, or a member of it, is a text that is accepted. Numbers and booleans are compared by
/// their JSON text.
fn has(value: &Value, is_accepted: impl Fn(&str) -> bool + Copy) -> bool {
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(_) | Value::Bool(_) => Cow::Owned(value.to_string()),
        Value::Array(list) => {
            return list
                .iter()
                .any(|member| !member.is_array() && has(member, is_accepted));
        }
        Value::Null | Value::Object(_) => return false,
    };
    is_accepted(&text)
}

struct Compiler<'c> {
    vocabulary: Vocabulary<'c>,
    diagnostics: &'c mut Diagnostics,
    is_sound: bool,
}

impl Compiler<'_> {
    fn all_of(&mut self, section: &config::Requirement, span: Span) -> Requirement {
        let mut parts: Vec<Requirement> = Vec::new();
        for scope in &section.scope {
            self.check_scope(scope);
            parts.push(Requirement::Scope(scope.as_str().into()));
        }
        let mut list = |list: &OneOrMany<Spanned<String>>, make: fn(_) -> Requirement| {
            if !list.0.is_empty() {
                parts.push(make(list.iter().map(|it| it.as_str().into()).collect()));
            }
        };
        list(&section.roles, Requirement::Role);
        list(&section.audience, Requirement::Audience);
        list(&section.consumers, Requirement::Consumer);
        list(&section.groups, Requirement::Group);
        let consumers = self.vocabulary.consumers;
        self.check_known(&section.consumers, consumers.names(), "consumer");
        self.check_known(&section.groups, consumers.groups(), "group");
        for (claim, values) in &section.claims {
            if values.0.is_empty() {
                self.report(
                    claim.span,
                    format!("no value of `{claim}` would be accepted"),
                )
                .help("list at least one value, or write it under `present`");
            }
            let accepted = values.iter().map(|value| self.accepted(value)).collect();
            parts.push(Requirement::Claim(claim.as_str().into(), accepted));
        }
        let present = section.present.iter();
        parts.extend(present.map(|claim| Requirement::Present(claim.as_str().into())));
        let all = section.all.iter();
        parts.extend(all.map(|part| self.all_of(part, part.span)));
        if !section.any.is_empty() {
            let any = section.any.iter().map(|part| self.all_of(part, part.span));
            parts.push(Requirement::Any(any.collect()));
        }
        if let Some(part) = &section.not {
            parts.push(Requirement::Not(Box::new(self.all_of(part, part.span))));
        }
        if parts.is_empty() && !self.diagnostics.has_error_within(span) {
            self.report(span, "this asks for nothing")
                .help("write what is asked for, such as `scope: orders:read`, or remove it");
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => Requirement::All(parts.into()),
        }
    }

    fn report(&mut self, span: Span, message: impl Into<String>) -> &mut config::Diagnostic {
        self.is_sound = false;
        self.diagnostics.error(span, message)
    }

    fn check_scope(&mut self, scope: &Spanned<String>) {
        let is_scope = !scope.is_empty()
            && scope
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !is_scope {
            self.report(scope.span, format!("`{}` is not a scope", scope.value))
                .help("a scope is one word; write several as a list (RFC 6749 §3.3)");
        }
    }

    fn check_known(
        &mut self,
        names: &OneOrMany<Spanned<String>>,
        known: &BTreeSet<Box<str>>,
        what: &str,
    ) {
        for name in names.iter().filter(|name| !known.contains(name.as_str())) {
            let near = nearest(name, known.iter().map(|it| &**it));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "define it under `consumers`".to_owned(),
            };
            self.report(name.span, format!("unknown {what} `{name}`"))
                .help(help);
        }
    }

    fn accepted(&mut self, value: &Spanned<String>) -> Accepted {
        let name = value.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        let Some(name) = name else {
            return Accepted::Value(value.as_str().into());
        };
        let known = self.vocabulary.parameters;
        match known.iter().position(|known| *known == name) {
            Some(index) => Accepted::Parameter(index, name.into()),
            None => {
                let help = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{{{near}}}`?"),
                    None => "a route with such a path has it: `path: /tenants/{tenant}`".to_owned(),
                };
                self.report(value.span, format!("the path has no parameter `{name}`"))
                    .help(help);
                Accepted::Value(Box::default())
            }
        }
    }
}
