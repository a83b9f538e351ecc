//! The limits of consumers: their own, or those of the first of their groups that has some.

use std::sync::Arc;

use crate::config::{
    Config, ConsumerGroup, Diagnostics, LimitKey, OneOrMany, RateLimit, Spanned, nearest,
};
use crate::limits::{RateLimits, Scope, Store};

/// The limits of each consumer, by its number.
pub(super) fn limits(
    config: &Config,
    store: &Arc<Store>,
    diagnostics: &mut Diagnostics,
) -> Box<[Option<Arc<RateLimits>>]> {
    let groups: Vec<_> = config
        .consumer_groups
        .iter()
        .map(|(name, group)| (name.as_str(), of_group(name, group, store, diagnostics)))
        .collect();
    let limits = config.consumers.iter().map(|(name, consumer)| {
        for group in &consumer.groups {
            warn_if_misspelt(group, config, diagnostics);
        }
        match &consumer.rate_limit {
            Some(section) => {
                let identity = format!("consumer:{name}");
                compile(section, (&identity, name), store, diagnostics)
            }
            None => consumer.groups.iter().find_map(|group| {
                let known = groups.iter().find(|(name, _)| *name == group.as_str());
                known.and_then(|(_, limits)| limits.clone())
            }),
        }
    });
    limits.collect()
}

fn of_group(
    name: &str,
    group: &ConsumerGroup,
    store: &Arc<Store>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<RateLimits>> {
    let section = group.rate_limit.as_ref()?;
    let identity = format!("consumer_group:{name}");
    compile(section, (&identity, name), store, diagnostics)
}

fn compile(
    section: &Spanned<OneOrMany<RateLimit>>,
    (identity, name): (&str, &str),
    store: &Arc<Store>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<RateLimits>> {
    if section.0.is_empty() {
        diagnostics
            .error(section.span, "`rate_limit` is an empty list")
            .help("remove it for no limit");
        return None;
    }
    let mut section = section.value.clone();
    for limit in &mut section.0 {
        // What is not written would count each address apart, whoever uses it.
        let is_default = limit.by.iter().all(|key| key.span == Default::default());
        if is_default {
            limit.by = OneOrMany(vec![LimitKey::Consumer.into()]);
        }
    }
    let scope = Scope {
        identity,
        name,
        has_identity: true,
    };
    RateLimits::compile(&section, scope, store, diagnostics).map(Arc::new)
}

/// A group needs no section of its own, but one that nearly has one is probably misspelt.
fn warn_if_misspelt(group: &Spanned<String>, config: &Config, diagnostics: &mut Diagnostics) {
    let known = &config.consumer_groups;
    if known.contains_key(group.as_str()) {
        return;
    }
    if let Some(near) = nearest(group, known.keys().map(|it| it.as_str())) {
        diagnostics
            .warning(
                group.span,
                format!("there is no section of the group `{group}`"),
            )
            .help(format!("did you mean `{near}`?"));
    }
}
