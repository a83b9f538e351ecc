//! One limit, ready to decide.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::algorithm::{Admitted, Algorithm, CalendarPeriod, LARGEST_LIMIT, Refused, Rule};
use super::calendar::{Calendar, CalendarUnit, Zone};
use super::check::{check_bucket, check_keys, check_numbers, check_store, micros};
use super::classes::ClassNumber;
use super::cost::Cost;
use super::fields::Policy;
use super::key::{KeyHash, KeyPart, KeySource};
use super::limiter::{Counters, Phase, Scope, stable_hash};
use super::overflow::Overflow;
use super::queue::Queue;
use super::shared::{Candidate, SharedKey, SharedLimit, stable_id};
use super::store::{Counting, Store};
use super::top_keys::TopKeys;
use super::verdict::{LimitNumber, Refusal, Tightest, seconds};
use crate::config::{self, Diagnostics, LimitAmount, LimitMode, LimitStore, LimitWindow};
use crate::telemetry::{Decision, DecisionCounters};

const HOUR: u64 = 3_600_000_000;
/// A limit of bytes weighs as much as so many requests.
const BYTES_AS_REQUESTS: u64 = 1000;

#[derive(Debug)]
pub(super) struct Limit {
    /// Of place, settings and number in the list; equal after a reload that changed none of them.
    id: u64,
    /// Number in the list as it is written.
    pub(super) index: usize,
    pub(super) name: Box<str>,
    /// The limit as it is written: requests, or units of what they cost, or bytes.
    pub(super) quota: u64,
    /// Of the calendar's limits all but the period.
    pub(super) rule: Rule,
    /// Of which the rule's window is a period.
    pub(super) calendar: Option<Calendar>,
    /// The window as it is written.
    pub(super) window: Box<str>,
    pub(super) cost: Cost,
    pub(super) by: Box<[KeyPart]>,
    pub(super) overflow: Arc<Overflow>,
    /// By which its entries in the table are known.
    pub(super) class: Arc<ClassNumber>,
    /// Who asks most, if that is known.
    pub(super) top_keys: Option<Arc<TopKeys>>,
    /// If other gateways count with this one.
    pub(super) shared: Option<SharedLimit>,
    /// If not, it is only tried out: no client notices it.
    pub(super) is_enforced: bool,
    /// Where those that it would refuse wait.
    pub(super) queue: Option<Queue>,
    /// Microseconds.
    retry_jitter: u64,
    pub(super) has_legacy_headers: bool,
    pub(super) decisions: Option<DecisionCounters>,
    /// When it was last logged that an answer said no cost, on the store's clock.
    pub(super) complained: AtomicU64,
}

impl Limit {
    pub(super) fn compile(
        limit: &config::RateLimit,
        index: usize,
        scope: Scope<'_>,
        counters: &Counters,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut is_sound = check_numbers(limit, diagnostics);
        is_sound &= check_keys(&limit.by.0, limit.limit.span, scope, diagnostics);
        is_sound &= check_store(limit, counters.has_store, diagnostics);
        let store = &counters.local;
        let calendar = match CalendarUnit::of(limit.window.value) {
            Some(unit) => Some(Calendar::compile(limit, unit, store, diagnostics)?),
            None => None,
        };
        if !is_sound {
            return None;
        }
        let (rule, unit) = rule(limit);
        if !check_bucket(limit, &rule, diagnostics) {
            return None;
        }
        let name = if index == 0 {
            scope.name.to_owned()
        } else {
            format!("{}-{}", scope.name, index + 1)
        };
        let zone = calendar.as_ref().map(|calendar| calendar.zone.name());
        let identity = (
            scope.identity,
            index,
            (limit.limit.value, limit.window.value, &limit.cost.value),
            limit.algorithm.value,
            limit.burst.as_ref().map(|burst| burst.value),
            limit.ipv6_prefix.value,
            limit.by.iter().map(|key| &key.value).collect::<Vec<_>>(),
            zone,
        );
        let id = stable_hash(&identity);
        let queue = limit.queue.as_ref().filter(|_| limit.enforce);
        let cost = Cost::new(&limit.cost.value, unit);
        let (counting, worth) = match cost.bytes_in_unit() {
            Some(_) => (Counting::Bytes, (rule.limit / BYTES_AS_REQUESTS).max(1)),
            None => (Counting::Requests, 1),
        };
        let overflow = store.overflow_for(rule.window, counting);
        Some(Self {
            id,
            index,
            queue: queue.map(|queue| Queue::new(queue, store.lines_for(id))),
            decisions: scope.decisions.map(|decisions| decisions.of(&name)),
            name: name.into(),
            quota: number(limit.limit.value),
            window: limit.window.to_string().into(),
            top_keys: counters.has_top_keys.then(|| store.top_keys.of(id)),
            rule,
            by: limit
                .by
                .iter()
                .map(|key| KeyPart::new(key, limit.ipv6_prefix.value))
                .collect(),
            class: store.classes.number_of(id, (&rule, worth), &overflow),
            overflow,
            shared: shared(limit, index, zone, &cost, scope),
            calendar,
            cost,
            is_enforced: limit.enforce,
            retry_jitter: micros(limit.retry_jitter.value),
            has_legacy_headers: limit.legacy_headers,
            complained: AtomicU64::new(0),
        })
    }

    pub(super) fn key(&self, store: &Store, source: &impl KeySource) -> KeyHash {
        let key = store.hashing.key_of(self.id, &self.by, source);
        key.in_class(self.class.value())
    }

    /// What the store knows a request's key by, if the limit is shared.
    pub(super) fn shared_key(&self, source: &impl KeySource) -> Option<SharedKey> {
        let shared = self.shared.as_ref()?;
        Some(SharedKey::of(shared.id, &self.by, source))
    }

    /// A request as it counts at `now`.
    pub(super) fn candidate(&self, store: &Store, source: &impl KeySource, now: u64) -> Candidate {
        Candidate {
            key: self.key(store, source),
            rule: self.rule_at(|| source.time_zone(), now, store),
            cost: self.cost.in_advance(source.cost()),
        }
    }

    /// The rule as it is at `now` for somebody who has a home there.
    pub(super) fn rule_at<'h>(
        &'h self,
        home: impl FnOnce() -> Option<&'h Arc<Zone>>,
        now: u64,
        store: &Store,
    ) -> Rule {
        let Some(calendar) = &self.calendar else {
            return self.rule;
        };
        let period = calendar.zone(home).period(calendar.unit, now, &store.clock);
        Rule {
            algorithm: Algorithm::Calendar(period),
            ..self.rule
        }
    }

    /// Decides by this gateway's own counts on a request, which is counted if it is admitted.
    pub(super) fn decide(
        &self,
        store: &Store,
        it: &Candidate,
        now: u64,
    ) -> Result<Admitted, Refused> {
        match it.cost {
            0 => store.look(it.key, &it.rule, &self.overflow, now),
            cost => store.decide(it.key, &it.rule, &self.overflow, now, cost),
        }
    }

    /// Takes back what was counted of a request that came at `now`.
    pub(super) fn refund(&self, store: &Store, it: &Candidate, now: u64) {
        if it.cost > 0 {
            store.refund(it.key, &it.rule, &self.overflow, now, it.cost);
        }
    }

    /// What is left after a request of this cost.
    pub(super) fn tightest(&self, number: LimitNumber, admitted: &Admitted, cost: u64) -> Tightest {
        Tightest {
            limit: number,
            remaining: self.written(admitted.remaining),
            reset: seconds(admitted.reset),
            distance: match cost {
                0 => admitted.remaining.saturating_mul(1000) / self.rule.limit,
                _ => admitted.remaining / cost,
            },
        }
    }

    /// What becomes of a request that is refused, which is put off by a random time more than it has to be.
    pub(super) fn refusal(&self, number: LimitNumber, refused: Refused) -> Refusal {
        let put_off = fastrand::u64(0..=self.retry_jitter);
        Refusal {
            tightest: Tightest {
                limit: number,
                remaining: self.written(refused.remaining),
                reset: refused.retry.map(seconds).unwrap_or_default(),
                distance: 0,
            },
            retry_after: refused.retry.map(|retry| seconds(retry + put_off)),
        }
    }

    /// What so many units are as they are written: bytes, if it is those that are counted.
    pub(super) fn written(&self, units: u64) -> u64 {
        units * self.cost.bytes_in_unit().unwrap_or(1)
    }

    /// What clients are told of it.
    pub(super) fn policy(&self) -> Policy<'_> {
        Policy {
            name: &self.name,
            quota: self.quota,
            is_of_bytes: self.cost.bytes_in_unit().is_some(),
            window: match &self.calendar {
                None => self.rule.window / 1_000_000,
                Some(calendar) => calendar.unit.seconds(),
            },
        }
    }

    /// Whether others wait for this key.
    pub(super) fn is_waited_for(&self, key: KeyHash) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.has_line(key))
    }

    pub(super) fn count(&self, decision: Decision) {
        if let Some(decisions) = &self.decisions {
            decisions.count(decision);
        }
    }

    pub(super) fn phase(&self) -> Phase {
        if self.by.iter().any(KeyPart::needs_identity) {
            Phase::AfterAuthentication
        } else {
            Phase::BeforeAuthentication
        }
    }
}

/// The numbers of a limit in its units, and how many bytes one of these is, if it is bytes that are
/// counted.
fn rule(limit: &config::RateLimit) -> (Rule, u64) {
    let most = number(limit.limit.value);
    let burst = limit.burst.as_ref().map_or(most, |it| number(it.value));
    let unit = match limit.window.value {
        LimitWindow::Length(_) => most.max(burst).div_ceil(LARGEST_LIMIT),
        LimitWindow::Day | LimitWindow::Month => 1,
    };
    let calendar = || Algorithm::Calendar(CalendarPeriod::default());
    let (algorithm, window) = match limit.window.value {
        LimitWindow::Length(period) => (limit.algorithm.value.into(), micros(period)),
        // With the hour by which clocks are put back.
        LimitWindow::Day => (calendar(), 25 * HOUR),
        LimitWindow::Month => (calendar(), (31 * 24 + 1) * HOUR),
    };
    let rule = Rule {
        algorithm,
        limit: most / unit,
        window,
        burst: burst / unit,
    };
    (rule, unit)
}

fn number(amount: LimitAmount) -> u64 {
    match amount {
        LimitAmount::Units(units) => units,
        LimitAmount::Bytes(size) => size.0,
    }
}

/// What the store is to know of a limit. The same settings have the same number on every gateway.
fn shared(
    limit: &config::RateLimit,
    index: usize,
    zone: Option<&str>,
    cost: &Cost,
    scope: Scope<'_>,
) -> Option<SharedLimit> {
    if limit.store.value != LimitStore::Redis {
        return None;
    }
    let by: Vec<_> = limit.by.iter().map(|key| &key.value).collect();
    let identity = format!(
        "{}|{index}|{:?}|{:?}|{:?}|{:?}|{:?}|{}|{zone:?}|{by:?}",
        scope.identity,
        limit.limit.value,
        limit.window.value,
        limit.cost.value,
        limit.algorithm.value,
        limit.burst.as_ref().map(|burst| burst.value),
        limit.ipv6_prefix.value,
    );
    // What is not known yet can't be taken ahead.
    let mode = match cost.is_known_later() {
        true => LimitMode::Strict,
        false => limit.mode.as_deref().copied().unwrap_or_default(),
    };
    Some(SharedLimit {
        id: stable_id(&identity),
        mode,
        on_failure: limit
            .on_store_failure
            .as_deref()
            .copied()
            .unwrap_or_default(),
    })
}
