//! Limits and their keys as operators see them, and what they may do to a key.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Admitted, Algorithm, Refused};
use super::heavy::estimated;
use super::key_text::{Names, WrittenKey};
use super::limit::Limit;
use super::limiter::{RateLimits, Scope};
use super::shared::Candidate;
use super::top_keys::Counted;
use super::verdict::LimitNumber;
use crate::config::LimitMode;
use crate::telemetry::Decision;

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitReport {
    /// Its name, as in `RateLimit-Policy`.
    pub limit: String,
    /// Where it is written.
    pub place: String,
    /// What it counts apart.
    pub by: Vec<String>,
    /// How its window is kept.
    pub algorithm: String,
    /// Requests in a window, or what is counted instead of them.
    pub quota: u64,
    /// The window, as it is written.
    pub window: String,
    /// Of a token bucket, the requests that may come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Where it is counted: `local`, `redis, fast` or `redis, strict`.
    pub store: String,
    /// If not, it is only tried out.
    pub enforced: bool,
    /// What all limits of this name decided, if that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Decisions>,
    /// Keys that this gateway counts exactly now.
    pub keys: usize,
    /// The keys that it is asked about most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_keys: Vec<TopKey>,
    /// What there is to say of the key that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyReport>,
}

/// What a limit decided so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Decisions {
    pub admitted: u64,
    pub refused: u64,
    pub would_refuse: u64,
    pub queued: u64,
}

/// A key that is asked about much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopKey {
    /// Its parts; none for one that requests lack.
    pub key: Vec<Option<String>>,
    /// How often.
    #[serde(flatten)]
    pub counted: Counted,
    /// What is left of its limit, unless a store has to be asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
}

/// What a key has spent of its limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyReport {
    /// Its parts, as in the list of top keys.
    pub key: Vec<Option<String>>,
    /// Who counts it: `exactly`, `by estimate`, or `store`.
    pub counted: String,
    /// Requests that count in its window now.
    pub spent: u64,
    /// Requests left, as in `RateLimit`.
    pub remaining: u64,
    /// Whole seconds until more are left, as in `RateLimit`.
    pub reset: u64,
    /// Why the store did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it begins anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_reset: bool,
}

impl RateLimits {
    /// The limits, by the number of each. `keys` says how many keys a class of the store has.
    pub fn reports<'r>(
        &'r self,
        keys: &'r [usize],
    ) -> impl Iterator<Item = (LimitNumber, LimitReport)> + 'r {
        self.numbered(0..self.limits.len())
            .map(|(number, limit)| (number, self.report(limit, keys)))
    }

    fn report(&self, limit: &Limit, keys: &[usize]) -> LimitReport {
        let rule = &limit.rule;
        let (algorithm, burst) = match rule.algorithm {
            Algorithm::FixedWindow => ("fixed_window", None),
            Algorithm::SlidingWindow => ("sliding_window", None),
            Algorithm::TokenBucket => ("token_bucket", Some(limit.written(rule.burst))),
            // Written as the window.
            Algorithm::Calendar(_) => ("calendar", None),
        };
        let store = match limit.shared.as_ref().map(|shared| shared.mode) {
            None => "local",
            Some(LimitMode::Fast) => "redis, fast",
            Some(LimitMode::Strict) => "redis, strict",
        };
        let decisions = limit.decisions.as_ref().map(|it| Decisions {
            admitted: it.total(Decision::Admitted),
            refused: it.total(Decision::Refused),
            would_refuse: it.total(Decision::WouldRefuse),
            queued: it.total(Decision::Queued),
        });
        let class = usize::try_from(limit.class.value()).unwrap_or_default();
        LimitReport {
            limit: limit.name.to_string(),
            place: self.place.to_string(),
            by: limit.by.iter().map(|part| part.word()).collect(),
            algorithm: algorithm.to_owned(),
            quota: limit.quota,
            window: limit.window.to_string(),
            burst,
            store: store.to_owned(),
            enforced: limit.is_enforced,
            decisions,
            keys: keys.get(class).copied().unwrap_or_default(),
            top_keys: Vec::new(),
            key: None,
        }
    }

    /// The keys that a limit is asked about most.
    pub fn top_keys(&self, number: LimitNumber, most: usize, now: Instant) -> Vec<TopKey> {
        let limit = self.limit(number);
        let now = self.store.clock(now);
        // What is left by the calendar depends on where its owner is at home.
        let is_known = limit.shared.is_none() && limit.calendar.is_none();
        let listed = limit.top_keys.as_ref().map(|keys| keys.first(most));
        let listed = listed.into_iter().flatten();
        let listed = listed.map(|(key, text, counted)| TopKey {
            key: text,
            counted,
            remaining: is_known.then(|| {
                let looked = self.store.look(key, &limit.rule, &limit.overflow, now);
                limit.written(remaining(&looked))
            }),
        });
        listed.collect()
    }

    /// What a key has spent; the store is asked where it counts. Nothing is counted.
    ///
    /// # Errors
    /// Why the texts are no key of the limit.
    pub async fn spent(
        &self,
        number: LimitNumber,
        texts: &[&str],
        names: &impl Names,
    ) -> Result<KeyReport, String> {
        let limit = self.limit(number);
        let source = WrittenKey::read(&limit.by, texts, names)?;
        let now = self.store.clock(Instant::now());
        let candidate = limit.candidate(&self.store, &source, now);
        let local = self.spent_here(limit, &candidate, now);
        let mut report = match self.shared.as_deref().zip(limit.shared_key(&source)) {
            None => local,
            Some((shared, key)) => match shared.look(candidate.rule, key).await {
                Ok(looked) => {
                    let spent = limit.rule.most().saturating_sub(remaining(&looked));
                    KeyReport::new("store", spent, &looked)
                }
                Err(error) => KeyReport {
                    error: Some(error),
                    ..local
                },
            },
        };
        let parts = limit.by.iter();
        let shown = parts.filter_map(|part| part.text(&source, &self.store.salt));
        report.key = shown.collect();
        report.spent = limit.written(report.spent);
        report.remaining = limit.written(report.remaining);
        Ok(report)
    }

    fn spent_here(&self, limit: &Limit, it: &Candidate, now: u64) -> KeyReport {
        let (key, rule) = (it.key, &it.rule);
        let looked = self.store.look(key, rule, &limit.overflow, now);
        if let Some(state) = self.store.state(key, rule, now) {
            return KeyReport::new("exactly", rule.used(state, now), &looked);
        }
        match limit.overflow.count(estimated(key, rule)) {
            0 => KeyReport::new("exactly", 0, &looked),
            estimate => KeyReport::new("by estimate", estimate, &looked),
        }
    }

    /// Has a key begin anew in this gateway, and at the store where that counts.
    ///
    /// # Errors
    /// Why the texts are no key of the limit.
    pub async fn reset(
        &self,
        number: LimitNumber,
        texts: &[&str],
        names: &impl Names,
    ) -> Result<KeyReport, String> {
        let limit = self.limit(number);
        let source = WrittenKey::read(&limit.by, texts, names)?;
        let key = limit.key(&self.store, &source);
        let error = match self.shared.as_deref().zip(limit.shared_key(&source)) {
            None => None,
            Some((shared, shared_key)) => shared.forget(key, shared_key).await.err(),
        };
        let now = self.store.clock(Instant::now());
        self.store.reset(key, &limit.overflow, now);
        log::info!("a key of a rate limit was reset: limit={}", limit.name);
        let report = self.spent(number, texts, names).await?;
        Ok(KeyReport {
            is_reset: error.is_none(),
            error: error.or(report.error),
            ..report
        })
    }
}

impl KeyReport {
    fn new(counted: &str, spent: u64, looked: &Result<Admitted, Refused>) -> Self {
        let reset = match looked {
            Ok(admitted) => admitted.reset,
            Err(refused) => refused.retry.unwrap_or_default(),
        };
        Self {
            counted: counted.to_owned(),
            spent,
            remaining: remaining(looked),
            reset: reset.div_ceil(1_000_000),
            ..Self::default()
        }
    }
}

/// Where limits are written, in words.
pub(super) fn place(scope: Scope<'_>) -> String {
    match scope.identity.split_once(':') {
        Some(("route", rest)) => {
            let (service, _) = rest.split_once('|').unwrap_or((rest, ""));
            format!("route {} of {service}", scope.name)
        }
        Some((kind, name)) => format!("{} {name}", kind.replace('_', " ")),
        None => scope.identity.to_owned(),
    }
}

fn remaining(looked: &Result<Admitted, Refused>) -> u64 {
    match looked {
        Ok(admitted) => admitted.remaining,
        Err(refused) => refused.remaining,
    }
}
