//! What is particular to consumers: their limits and their counters.

use std::sync::Arc;

use super::State;
use crate::config::{
    self, Config, ConsumerGroup, Diagnostics, LimitKey, OneOrMany, RateLimit, Spanned, nearest,
};
use crate::limits::{Counters, RateLimits, Scope};
use crate::telemetry::{LimitDecisions, RequestCounters};

/// What is particular to a consumer.
#[derive(Debug)]
pub struct ConsumerPolicy {
    /// Its own limits, or those of the first of its groups that has some.
    pub limits: Option<Arc<RateLimits>>,
    /// Its requests.
    pub requests: RequestCounters,
}

/// Where requests are counted, and what becomes of them.
type Counting<'c> = (&'c Counters, &'c LimitDecisions);

/// The limits of a group, by its name.
type OfGroup<'c> = (&'c str, Option<Arc<RateLimits>>);

/// Compiles what is particular to each consumer, by its number.
pub(super) fn compile(
    config: &Config,
    state: &State,
    counters: &Counters,
    diagnostics: &mut Diagnostics,
) -> Box<[ConsumerPolicy]> {
    let counting = (counters, &state.limit_decisions);
    let groups: Vec<OfGroup<'_>> = config
        .consumer_groups
        .iter()
        .map(|(name, group)| {
            let limits = of_group(name, group, counting, diagnostics);
            (name.as_str(), limits)
        })
        .collect();
    let consumers = config.consumers.iter().enumerate();
    let policies = consumers.map(|(number, (name, consumer))| ConsumerPolicy {
        limits: of_consumer(name, consumer, &groups, (config, counting), diagnostics),
        requests: state.consumer_requests.of(name, number),
    });
    policies.collect()
}

fn of_consumer(
    name: &str,
    consumer: &config::Consumer,
    groups: &[OfGroup<'_>],
    (config, counting): (&Config, Counting<'_>),
    diagnostics: &mut Diagnostics,
) -> Option<Arc<RateLimits>> {
    for group in &consumer.groups {
        warn_if_misspelt(group, config, diagnostics);
    }
    if let Some(section) = &consumer.rate_limit {
        let identity = format!("consumer:{name}");
        return limits(section, (&identity, name), counting, diagnostics);
    }
    consumer.groups.iter().find_map(|group| {
        let known = groups.iter().find(|(name, _)| *name == group.as_str());
        known.and_then(|(_, limits)| limits.clone())
    })
}

fn of_group(
    name: &str,
    group: &ConsumerGroup,
    counting: Counting<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<RateLimits>> {
    let section = group.rate_limit.as_ref()?;
    let identity = format!("consumer_group:{name}");
    limits(section, (&identity, name), counting, diagnostics)
}

fn limits(
    section: &Spanned<OneOrMany<RateLimit>>,
    (identity, name): (&str, &str),
    (counters, decisions): Counting<'_>,
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
        decisions: Some(decisions),
    };
    RateLimits::compile(&section, scope, counters, diagnostics).map(Arc::new)
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
