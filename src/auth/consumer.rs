//! Consumers: names for whoever comes with certain credentials, whichever provider vouches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::config::{self, Config, Diagnostics, Spanned, nearest};

/// The headers that tell backends which consumer a request comes from; clients' own never pass.
pub const X_CONSUMER: HeaderName = HeaderName::from_static("x-consumer");
/// See [`X_CONSUMER`].
pub const X_CONSUMER_GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");

/// A named identity.
#[derive(Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Box<str>,
    /// Its number among the consumers of the configuration.
    pub number: u32,
    groups: Box<[Box<str>]>,
    fields: Box<[(HeaderName, HeaderValue)]>,
}

/// All consumers of a configuration, by what providers call them.
#[derive(Debug, Default)]
pub struct Consumers {
    by_provider: HashMap<Box<str>, HashMap<Box<str>, Arc<Consumer>>>,
    names: BTreeSet<Box<str>>,
    groups: BTreeSet<Box<str>>,
}

/// The consumers that one provider knows, by what it calls them.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(HashMap<Box<str>, Arc<Consumer>>);

impl Consumer {
    /// Whether it is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|it| **it == *group)
    }

    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    fn compile(
        number: u32,
        name: &Spanned<String>,
        section: &config::Consumer,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut is_sound = check_name(name, "a consumer's name", diagnostics);
        for group in &section.groups {
            is_sound &= check_name(group, "a group's name", diagnostics);
        }
        let groups: Vec<&str> = section.groups.iter().map(|it| it.as_str()).collect();
        let field = |text: &str| HeaderValue::from_str(text).ok();
        let mut fields = vec![(X_CONSUMER, field(name)?)];
        if !groups.is_empty() {
            fields.push((X_CONSUMER_GROUPS, field(&groups.join(","))?));
        }
        is_sound.then(|| Self {
            name: name.as_str().into(),
            number,
            groups: groups.into_iter().map(Box::from).collect(),
            fields: fields.into(),
        })
    }
}

/// Names stand in header fields, logs and metrics.
fn check_name(name: &Spanned<String>, what: &str, diagnostics: &mut Diagnostics) -> bool {
    let is_sound = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if !is_sound {
        diagnostics
            .error(name.span, format!("`{}` is not {what}", name.escape_debug()))
            .help("names are letters, digits, `-`, `_`, `.` and `@`, since backends see them in a header");
    }
    is_sound
}

impl Consumers {
    /// Compiles the consumers, or reports everything that is wrong with them.
    pub fn compile(config: &Config, diagnostics: &mut Diagnostics) -> Self {
        let mut consumers = Self::default();
        for group in config.consumer_groups.keys() {
            check_name(group, "a group's name", diagnostics);
            consumers.groups.insert(group.as_str().into());
        }
        for (number, (name, section)) in config.consumers.iter().enumerate() {
            consumers.names.insert(name.as_str().into());
            let groups = section.groups.iter().map(|it| it.as_str().into());
            consumers.groups.extend(groups);
            let consumer = Consumer::compile(number as u32, name, section, diagnostics);
            if let Some(consumer) = consumer {
                consumers.insert(&Arc::new(consumer), section, config, diagnostics);
            }
            if section.credentials.is_empty() && !diagnostics.has_lost(section.span, "credentials")
            {
                diagnostics
                    .warning(
                        name.span,
                        format!("nobody is `{name}`: it has no credentials"),
                    )
                    .help("say what a provider calls it: `credentials: { PROVIDER: NAME }`");
            }
        }
        consumers
    }

    fn insert(
        &mut self,
        consumer: &Arc<Consumer>,
        section: &config::Consumer,
        config: &Config,
        diagnostics: &mut Diagnostics,
    ) {
        for (provider, subjects) in &section.credentials {
            if !config.auth_providers.contains_key(provider.as_str()) {
                if diagnostics.has_lost_key("auth_providers") {
                    continue;
                }
                let finding =
                    diagnostics.error(provider.span, format!("unknown auth provider `{provider}`"));
                let known = config.auth_providers.keys().map(|it| it.as_str());
                match nearest(provider, known) {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding.help("define it under `auth_providers`"),
                };
                continue;
            }
            let members = self
                .by_provider
                .entry(provider.as_str().into())
                .or_default();
            for subject in subjects {
                let before = members.insert(subject.as_str().into(), consumer.clone());
                if let Some(before) = before {
                    diagnostics
                        .error(
                            subject.span,
                            format!("`{subject}` of `{provider}` is `{}` already", before.name),
                        )
                        .help("a credential belongs to one consumer; consumers may share a group");
                }
            }
        }
    }

    /// Those that a provider knows.
    pub(super) fn of(&self, provider: &str) -> Members {
        Members(self.by_provider.get(provider).cloned().unwrap_or_default())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn names(&self) -> &BTreeSet<Box<str>> {
        &self.names
    }

    pub(super) fn groups(&self) -> &BTreeSet<Box<str>> {
        &self.groups
    }
}

impl Members {
    /// The consumer that the provider calls so.
    pub(super) fn find(&self, subject: &str) -> Option<&Arc<Consumer>> {
        self.0.get(subject)
    }
}
