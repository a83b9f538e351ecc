//! The limits of one place in the configuration, decided together: all must admit a request.

use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::algorithm::Refused;
use super::fields;
use super::inspect::place;
use super::key::KeySource;
use super::limit::Limit;
use super::shared::{Candidate, Shared};
use super::store::Store;
use super::verdict::{Blocked, LimitNumber, Passed, Refusal, Tightest, Verdict};
use crate::config::{self, Diagnostics, OneOrMany};
use crate::telemetry::{Decision, LimitDecisions};

/// Where limits are counted.
#[derive(Debug, Clone)]
pub struct Counters {
    /// In this gateway.
    pub local: Arc<Store>,
    /// Together with others, if a store for that is configured.
    pub shared: Option<Arc<Shared>>,
    /// Whether one is, be it with mistakes.
    pub has_store: bool,
    /// Whether the keys that limits are asked about most are known by name.
    pub has_top_keys: bool,
}

impl Counters {
    /// Only in this gateway, exactly for so many keys at a time.
    pub fn local(keys: usize) -> Self {
        Self {
            local: Arc::new(Store::new(keys)),
            shared: None,
            has_store: false,
            has_top_keys: false,
        }
    }
}

/// Where limits are written. It is part of every key, so that no place spends another's budget.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The place, unambiguously and the same after every reload.
    pub identity: &'a str,
    /// The place in a word, for the policy's name that clients see.
    pub name: &'a str,
    /// Whether requests here may have proved who they are.
    pub has_identity: bool,
    /// Where what the limits decide is counted, if it is.
    pub decisions: Option<&'a LimitDecisions>,
}

/// When a limit is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// By what anybody can see of a request.
    BeforeAuthentication,
    /// By who the client has proved to be.
    AfterAuthentication,
}

/// The limits of one place.
#[derive(Debug)]
pub struct RateLimits {
    /// Where they are written.
    pub(super) place: Box<str>,
    pub(super) limits: Box<[Limit]>,
    /// How many of them, at the front, need no token.
    before: usize,
    /// `None` if all limits are only tried out.
    policy: Option<HeaderValue>,
    /// The same without those that need to know who comes; `None` if there are no others.
    policy_before: Option<HeaderValue>,
    pub(super) store: Arc<Store>,
    /// Where those with `store: redis` are counted.
    pub(super) shared: Option<Arc<Shared>>,
}

impl RateLimits {
    /// Compiles the limits of a place, or reports what is wrong with them.
    pub fn compile(
        section: &OneOrMany<config::RateLimit>,
        scope: Scope<'_>,
        counters: &Counters,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let compiled: Vec<Option<Limit>> = section
            .iter()
            .enumerate()
            .map(|(index, limit)| Limit::compile(limit, index, scope, counters, diagnostics))
            .collect();
        let mut limits: Vec<Limit> = compiled.into_iter().collect::<Option<_>>()?;
        // Nobody waits for one limit who is refused by another.
        limits.sort_by_key(|limit| (limit.phase(), limit.queue.is_some()));
        let policy = |limits: &[Limit]| {
            let told = limits.iter().filter(|limit| limit.is_enforced);
            fields::policy(told.map(Limit::policy))
        };
        let is_before = |limit: &&Limit| limit.phase() == Phase::BeforeAuthentication;
        let before = limits.iter().filter(is_before).count();
        Some(Self {
            place: place(scope).into(),
            before,
            policy: policy(&limits),
            policy_before: policy(&limits[..before]),
            limits: limits.into(),
            store: counters.local.clone(),
            shared: counters.shared.clone(),
        })
    }

    /// Decides on one request and counts it if it is admitted.
    pub fn decide(&self, phase: Phase, now: Instant, source: &impl KeySource) -> Verdict {
        self.decide_on(self.of_phase(Some(phase)), now, source)
    }

    /// Whether some of them are kept with other gateways, so that requests may have to wait for an answer.
    pub fn is_shared(&self) -> bool {
        self.limits.iter().any(|limit| limit.shared.is_some())
    }

    /// Whether any are decided in this phase.
    pub fn has_any(&self, phase: Phase) -> bool {
        !self.of_phase(Some(phase)).is_empty()
    }

    /// The limits of a phase, or all.
    pub(super) fn of_phase(&self, phase: Option<Phase>) -> Range<usize> {
        match phase {
            Some(Phase::BeforeAuthentication) => 0..self.before,
            Some(Phase::AfterAuthentication) => self.before..self.limits.len(),
            None => 0..self.limits.len(),
        }
    }

    /// Decides on one request by all limits at once.
    pub fn decide_all(&self, now: Instant, source: &impl KeySource) -> Verdict {
        self.decide_on(self.of_phase(None), now, source)
    }

    /// What would be decided on one request by all limits at once, which is not counted.
    pub fn look(&self, now: Instant, source: &impl KeySource) -> Verdict {
        let now = self.store.clock(now);
        for (number, limit) in self.enforced(0..self.limits.len()) {
            let nothing = Candidate {
                cost: 0,
                ..limit.candidate(&self.store, source, now)
            };
            if let Err(refused) = limit.decide(&self.store, &nothing, now) {
                return Verdict::Refuse(limit.refusal(number, refused));
            }
        }
        Verdict::Admit(Passed::default())
    }

    /// The name of a limit that never admits a request of this cost.
    pub fn too_small_for(&self, cost: u64) -> Option<&str> {
        let limits = self.limits.iter().filter(|it| !it.cost.is_known_later());
        let mut limits = limits.filter(|it| it.rule.most() < cost);
        limits.next().map(|limit| &*limit.name)
    }

    /// Whether none of them counts what requests are said to cost.
    pub fn are_charged_later(&self) -> bool {
        self.limits.iter().all(|limit| limit.cost.is_known_later())
    }

    fn decide_on(&self, range: Range<usize>, now: Instant, source: &impl KeySource) -> Verdict {
        if range.is_empty() {
            return Verdict::Admit(Passed::default());
        }
        match self.admit(range, self.store.clock(now), source, None) {
            Ok(passed) => Verdict::Admit(passed),
            Err(blocked) => self.verdict(blocked),
        }
    }

    /// Counts a request if all limits admit it, and else not at all. Where others wait for a limit it has
    /// to wait, too, unless it is its `turn`.
    pub(super) fn admit(
        &self,
        range: Range<usize>,
        now: u64,
        source: &impl KeySource,
        turn: Option<LimitNumber>,
    ) -> Result<Passed, Blocked> {
        let mut tightest: Option<Tightest> = None;
        for (number, limit) in self.enforced(range.clone()) {
            let candidate = limit.candidate(&self.store, source, now);
            let asked = match limit.is_waited_for(candidate.key) && turn != Some(number) {
                true => Err(Blocked::Behind(number)),
                false => {
                    let asked = limit.decide(&self.store, &candidate, now);
                    asked.map_err(|refused| Blocked::Spent(number, refused))
                }
            };
            match asked {
                Ok(admitted) => {
                    let candidate = limit.tightest(number, &admitted, candidate.cost);
                    if tightest.is_none_or(|tightest| candidate.is_nearer_than(&tightest)) {
                        tightest = Some(candidate);
                    }
                }
                Err(blocked) => {
                    self.take_back(range.start..number.index(), now, source);
                    if turn.is_none() {
                        self.note_blocked(number, source);
                    }
                    return Err(blocked);
                }
            }
        }
        for (_, limit) in self.enforced(range.clone()) {
            limit.count(Decision::Admitted);
        }
        self.note_passed(range.clone(), source);
        Ok(Passed {
            tightest,
            would_refuse: self.try_out(range, now, source),
        })
    }

    /// What becomes of a request that does not pass now.
    pub(super) fn verdict(&self, blocked: Blocked) -> Verdict {
        match blocked {
            Blocked::Spent(number, refused)
                if refused.retry.is_none() || self.limit(number).queue.is_none() =>
            {
                Verdict::Refuse(self.refuse(number, refused))
            }
            Blocked::Spent(number, _) | Blocked::Behind(number) => Verdict::Wait(number),
            Blocked::Unavailable(number) => {
                self.limit(number).count(Decision::Refused);
                Verdict::Unavailable(number)
            }
        }
    }

    /// Refuses a request, for good.
    pub(super) fn refuse(&self, number: LimitNumber, refused: Refused) -> Refusal {
        let limit = self.limit(number);
        limit.count(Decision::Refused);
        limit.refusal(number, refused)
    }

    /// Counts a request that passes by the limits that are only tried out. The first that would have
    /// refused it.
    fn try_out(
        &self,
        range: Range<usize>,
        now: u64,
        source: &impl KeySource,
    ) -> Option<LimitNumber> {
        let mut would_refuse = None;
        for (number, limit) in self.numbered(range).filter(|(_, limit)| !limit.is_enforced) {
            let candidate = limit.candidate(&self.store, source, now);
            let decision = match limit.decide(&self.store, &candidate, now) {
                Ok(_) => Decision::Admitted,
                Err(_) => {
                    would_refuse.get_or_insert(number);
                    self.note_blocked(number, source);
                    Decision::WouldRefuse
                }
            };
            limit.count(decision);
        }
        would_refuse
    }

    pub(super) fn numbered(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (LimitNumber, &Limit)> {
        range.map(|number| (LimitNumber::new(number), &self.limits[number]))
    }

    pub(super) fn enforced(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (LimitNumber, &Limit)> {
        self.numbered(range).filter(|(_, limit)| limit.is_enforced)
    }

    /// The value of `RateLimit-Policy`, if there is a limit that clients are told of.
    pub fn policy(&self) -> Option<HeaderValue> {
        self.policy.clone()
    }

    /// The value of `RateLimit-Policy` where other limits stand in for those that count by who comes.
    pub fn policy_before(&self) -> Option<HeaderValue> {
        self.policy_before.clone()
    }

    /// The value of `RateLimit`.
    pub fn state(&self, tightest: &Tightest) -> HeaderValue {
        fields::state(self.name(tightest.limit), tightest)
    }

    /// How much a limit is of which clients are told in legacy fields, too.
    pub fn legacy_quota(&self, limit: LimitNumber) -> Option<u64> {
        let limit = self.limit(limit);
        limit.has_legacy_headers.then_some(limit.quota)
    }

    /// The name of a limit, as in the fields.
    pub fn name(&self, limit: LimitNumber) -> &str {
        &self.limit(limit).name
    }

    /// Which of the list as it is written a limit is.
    pub fn index(&self, limit: LimitNumber) -> usize {
        self.limit(limit).index
    }

    pub(super) fn limit(&self, number: LimitNumber) -> &Limit {
        &self.limits[number.index()]
    }

    fn take_back(&self, range: Range<usize>, now: u64, source: &impl KeySource) {
        for (_, limit) in self.enforced(range) {
            let candidate = limit.candidate(&self.store, source, now);
            limit.refund(&self.store, &candidate, now);
        }
    }
}

impl PartialOrd for Phase {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Phase {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self == Self::AfterAuthentication).cmp(&(*other == Self::AfterAuthentication))
    }
}

/// The same number for the same settings in every process, so that an upgrade can hand counts over.
pub(super) fn stable_hash(value: &impl Hash) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(value)
}

#[cfg(test)]
mod tests;
