//! What is particular to consumers: their limits and their counters.

use std::sync::Arc;

use super::State;
use super::limits::Limits;
use crate::config::{
    self, BandwidthKey, ConcurrencyLimit, Config, Diagnostics, LimitKey, LimitWindow, OneOrMany,
    Period, RateLimit, Spanned, nearest,
};
use crate::limits::{BandwidthLimit, ConcurrencyLimits, Counters, Scope, Zone, checked_zone};
use crate::telemetry::RequestCounters;

/// What is particular to a consumer.
#[derive(Debug)]
pub struct ConsumerPolicy {
    /// Its name.
    pub name: Box<str>,
    /// Its own limits, or those of the first of its groups that has some.
    pub limits: Option<Arc<Limits>>,
    /// How many of its requests may be under way at once, by the same rule.
    pub concurrency: Option<Arc<ConcurrencyLimits>>,
    /// How fast its bodies pass, by the same rule.
    pub bandwidth: Option<Arc<BandwidthLimit>>,
    /// Where its days and months begin.
    pub time_zone: Option<Arc<Zone>>,
    /// Its requests.
    pub requests: RequestCounters,
}

/// Where requests are counted, and how long they have that are under way when the process is to end.
type Counting<'c> = (&'c State, &'c Counters, Period);

/// What a consumer or a group says itself.
struct Own {
    limits: Option<Arc<Limits>>,
    concurrency: Option<Arc<ConcurrencyLimits>>,
    bandwidth: Option<Arc<BandwidthLimit>>,
}

/// The same as it is written.
struct Written<'c> {
    rate_limit: &'c Option<Spanned<OneOrMany<RateLimit>>>,
    concurrency_limit: &'c Option<Spanned<OneOrMany<ConcurrencyLimit>>>,
    bandwidth_limit: &'c Option<Spanned<config::BandwidthLimit>>,
    time_zone: Option<&'c Spanned<String>>,
}

/// Compiles what is particular to each consumer, by its number.
pub(super) fn compile(
    config: &Config,
    state: &State,
    counters: &Counters,
    diagnostics: &mut Diagnostics,
) -> Box<[ConsumerPolicy]> {
    let counting = (state, counters, config.server.shutdown.deadline.value);
    let groups = config.consumer_groups.iter().map(|(name, group)| {
        let written = Written {
            rate_limit: &group.rate_limit,
            concurrency_limit: &group.concurrency_limit,
            bandwidth_limit: &group.bandwidth_limit,
            time_zone: None,
        };
        let identity = format!("consumer_group:{name}");
        let own = written.compile((&identity, name), counting, diagnostics);
        (name.as_str(), own)
    });
    let groups: Vec<(&str, Own)> = groups.collect();
    let consumers = config.consumers.iter();
    let policies = consumers.map(|(name, consumer)| {
        let zone = consumer.time_zone.as_ref();
        let time_zone = zone.and_then(|name| checked_zone(name, &counters.local, diagnostics));
        let written = Written {
            rate_limit: &consumer.rate_limit,
            concurrency_limit: &consumer.concurrency_limit,
            bandwidth_limit: &consumer.bandwidth_limit,
            time_zone: zone,
        };
        let identity = format!("consumer:{name}");
        let own = written.compile((&identity, name), counting, diagnostics);
        let groups = groups_of(consumer, config, &groups, diagnostics);
        let find = || groups.iter().copied();
        ConsumerPolicy {
            name: name.as_str().into(),
            limits: match &consumer.rate_limit {
                Some(_) => own.limits,
                None => find().find_map(|group| group.limits.clone()),
            },
            concurrency: match &consumer.concurrency_limit {
                Some(_) => own.concurrency,
                None => find().find_map(|group| group.concurrency.clone()),
            },
            bandwidth: match &consumer.bandwidth_limit {
                Some(_) => own.bandwidth,
                None => find().find_map(|group| group.bandwidth.clone()),
            },
            time_zone,
            requests: state.consumer_requests.of(name),
        }
    });
    policies.collect()
}

/// What the groups of a consumer say, in its order.
fn groups_of<'g>(
    consumer: &config::Consumer,
    config: &Config,
    groups: &'g [(&str, Own)],
    diagnostics: &mut Diagnostics,
) -> Vec<&'g Own> {
    let named = consumer.groups.iter().filter_map(|group| {
        warn_if_misspelt(group, config, diagnostics);
        let known = groups.iter().find(|(name, _)| *name == group.as_str());
        known.map(|(_, own)| own)
    });
    named.collect()
}

impl Written<'_> {
    fn compile(
        &self,
        (identity, name): (&str, &str),
        (state, counters, deadline): Counting<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Own {
        let scope = Scope {
            identity,
            name,
            has_identity: true,
            decisions: Some(&state.limit_decisions),
        };
        Own {
            limits: self.rate_limit.as_ref().and_then(|section| {
                let mut section = section_of("rate_limit", section, diagnostics)?;
                for limit in &mut section.0 {
                    count_as_one(&mut limit.by, |key| key);
                }
                if let Some(zone) = self.time_zone {
                    settle(&mut section, zone, diagnostics);
                }
                let limits = Limits::compile(&section, scope, (counters, deadline), diagnostics);
                limits.map(Arc::new)
            }),
            concurrency: self.concurrency_limit.as_ref().and_then(|section| {
                let mut section = section_of("concurrency_limit", section, diagnostics)?;
                for limit in &mut section.0 {
                    count_as_one(&mut limit.by, |key| key);
                }
                let in_flight = &state.in_flight;
                let limits = ConcurrencyLimits::compile(&section, scope, in_flight, diagnostics);
                limits.map(Arc::new)
            }),
            bandwidth: self.bandwidth_limit.as_ref().and_then(|section| {
                let (span, mut section) = (section.span, section.value.clone());
                count_as_one(&mut section.by, BandwidthKey::Of);
                let buckets = &state.buckets;
                let limit = BandwidthLimit::compile(&section, span, scope, buckets, diagnostics);
                limit.map(Arc::new)
            }),
        }
    }
}

fn section_of<T: Clone>(
    key: &str,
    section: &Spanned<OneOrMany<T>>,
    diagnostics: &mut Diagnostics,
) -> Option<OneOrMany<T>> {
    if section.0.is_empty() {
        diagnostics
            .error(section.span, format!("`{key}` is an empty list"))
            .help("remove it for no limit");
        return None;
    }
    Some(section.value.clone())
}

/// What is not written would count each address apart, whoever uses it.
fn count_as_one<K>(by: &mut OneOrMany<Spanned<K>>, key: impl FnOnce(LimitKey) -> K) {
    let is_default = by.iter().all(|key| key.span == Default::default());
    if is_default {
        *by = OneOrMany(vec![key(LimitKey::Consumer).into()]);
    }
}

/// Its own limits are kept by its own days, whatever they count apart.
fn settle(
    limits: &mut OneOrMany<RateLimit>,
    zone: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) {
    // A name that is none is reported once.
    let is_known = !diagnostics.has_error_within(zone.span);
    let is_of_calendar = |limit: &&mut RateLimit| {
        matches!(limit.window.value, LimitWindow::Day | LimitWindow::Month)
    };
    for limit in limits.0.iter_mut().filter(is_of_calendar) {
        if let Some(other) = &limit.time_zone {
            diagnostics
                .error(other.span, "this consumer has a `time_zone` already")
                .related(zone.span, "it is here")
                .help("remove one of them");
        }
        limit.time_zone = is_known.then(|| zone.clone());
    }
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
