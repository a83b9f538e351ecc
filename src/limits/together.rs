//! Limits of one place of which some are shared with other gateways, decided together.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::algorithm::{Admitted, Refused};
use super::key::KeySource;
use super::limit::Limit;
use super::limiter::{Phase, RateLimits};
use super::shared::{Candidate, Receipt, Shared, SharedKey, SharedLimit, Word, admitted, part_of};
use super::verdict::{Blocked, LimitNumber, Passed, Tightest, Verdict};
use crate::config::{LimitMode, OnStoreFailure};
use crate::telemetry::Decision;

/// Where an admitted request was counted.
enum Taken {
    /// In this gateway, of its own limit or of its part of a shared one.
    Here(LimitNumber, Candidate),
    /// When it was.
    Lease(Candidate, u64),
    Store(Receipt),
    /// By this gateway's part of the limit; and as what the store is to be told of it.
    Part {
        number: LimitNumber,
        part: Candidate,
        whole: Candidate,
        key: SharedKey,
    },
}

/// A request that the store itself has to decide.
struct Strict {
    number: LimitNumber,
    candidate: Candidate,
    key: SharedKey,
}

/// A request on its way through the limits of a place.
struct Passage<'l, K> {
    limits: &'l RateLimits,
    shared: &'l Shared,
    source: &'l K,
    now: u64,
    /// The limit for which it has waited and is the first now.
    turn: Option<LimitNumber>,
    taken: Vec<Taken>,
    tightest: Option<Tightest>,
}

impl RateLimits {
    /// As [`RateLimits::decide`], where some limits are shared.
    pub async fn decide_shared(
        &self,
        phase: Phase,
        now: Instant,
        source: &(impl KeySource + Sync),
    ) -> Verdict {
        let range = self.of_phase(Some(phase));
        self.decide_shared_on(range, now, source).await
    }

    /// As [`RateLimits::decide_all`], where some limits are shared.
    pub async fn decide_all_shared(
        &self,
        now: Instant,
        source: &(impl KeySource + Sync),
    ) -> Verdict {
        let range = self.of_phase(None);
        self.decide_shared_on(range, now, source).await
    }

    async fn decide_shared_on(
        &self,
        range: Range<usize>,
        now: Instant,
        source: &(impl KeySource + Sync),
    ) -> Verdict {
        let now = self.store.clock(now);
        match self.admit_shared(range, now, source, None).await {
            Ok(passed) => Verdict::Admit(passed),
            Err(blocked) => self.verdict(blocked),
        }
    }

    /// As [`RateLimits::admit`], where some limits are shared.
    pub(super) async fn admit_shared(
        &self,
        range: Range<usize>,
        now: u64,
        source: &(impl KeySource + Sync),
        turn: Option<LimitNumber>,
    ) -> Result<Passed, Blocked> {
        let is_shared = |limit: &Limit| limit.shared.is_some();
        let shared = self.shared.as_deref();
        let Some(shared) = shared.filter(|_| self.limits[range.clone()].iter().any(is_shared))
        else {
            return self.admit(range, now, source, turn);
        };
        let mut passage = Passage {
            limits: self,
            shared,
            source,
            now,
            turn,
            taken: Vec::new(),
            tightest: None,
        };
        let enforced = self.enforced(range.clone());
        if let Err(blocked) = passage.decide(enforced).await {
            passage.take_back();
            if turn.is_none() {
                self.note_blocked(blocked.number(), source);
            }
            return Err(blocked);
        }
        passage.settle();
        for (_, limit) in self.enforced(range.clone()) {
            limit.count(Decision::Admitted);
        }
        self.note_passed(range.clone(), source);
        let tightest = passage.tightest;
        let mut would_refuse = None;
        for (number, limit) in self.numbered(range).filter(|(_, limit)| !limit.is_enforced) {
            let decision = match passage.decide([(number, limit)].into_iter()).await {
                Ok(()) => {
                    passage.settle();
                    Decision::Admitted
                }
                Err(_) => {
                    would_refuse.get_or_insert(number);
                    self.note_blocked(number, source);
                    Decision::WouldRefuse
                }
            };
            limit.count(decision);
        }
        Ok(Passed {
            tightest,
            would_refuse,
        })
    }
}

impl<'l, K: KeySource + Sync> Passage<'l, K> {
    /// Decides by these limits, by all that the store itself decides at once.
    async fn decide(
        &mut self,
        limits: impl Iterator<Item = (LimitNumber, &'l Limit)>,
    ) -> Result<(), Blocked> {
        let mut strict = Vec::new();
        for (number, limit) in limits {
            if self.turn != Some(number) && limit.is_waited_for(self.candidate(number).key) {
                return Err(Blocked::Behind(number));
            }
            match &limit.shared {
                None => self.decide_here(number)?,
                Some(_) if self.candidate(number).cost > limit.rule.most() => {
                    let never = Refused {
                        remaining: 0,
                        retry: None,
                    };
                    return Err(Blocked::Spent(number, never));
                }
                Some(shared) if shared.mode == LimitMode::Strict => {
                    strict.push(self.strict(number, shared));
                }
                Some(shared) => self.decide_ahead(number, shared).await?,
            }
        }
        while let Some(first) = strict.first().map(|it: &Strict| it.key) {
            let (together, later): (Vec<Strict>, Vec<Strict>) = strict
                .into_iter()
                .partition(|it| self.shared.is_together(first, it.key));
            self.decide_strictly(&together).await?;
            strict = later;
        }
        Ok(())
    }

    fn limit(&self, number: LimitNumber) -> &'l Limit {
        self.limits.limit(number)
    }

    fn candidate(&self, number: LimitNumber) -> Candidate {
        let limit = self.limit(number);
        limit.candidate(&self.limits.store, self.source, self.now)
    }

    fn key(&self, number: LimitNumber, shared: &SharedLimit) -> SharedKey {
        SharedKey::of(shared.id, &self.limit(number).by, self.source)
    }

    /// By this gateway's own counts.
    fn decide_here(&mut self, number: LimitNumber) -> Result<(), Blocked> {
        let candidate = self.candidate(number);
        let store = &self.limits.store;
        let decision = self.limit(number).decide(store, &candidate, self.now);
        self.admit(number, decision, Taken::Here(number, candidate))
    }

    /// From what was taken ahead, or by waiting for more of it.
    async fn decide_ahead(
        &mut self,
        number: LimitNumber,
        shared: &SharedLimit,
    ) -> Result<(), Blocked> {
        let candidate = self.candidate(number);
        let key = || self.key(number, shared);
        // Not when the request came: what was good then may have ended since.
        let store = &self.limits.store;
        let clock = || store.clock(Instant::now());
        let mut now = clock();
        let mut word = self.shared.spend(&candidate, now, key);
        if let Word::Unknown = word {
            word = self.shared.await_tokens(&candidate, key(), clock).await;
            now = clock();
        }
        match word {
            Word::Decided(decision) => self.admit(number, decision, Taken::Lease(candidate, now)),
            Word::Unknown | Word::Alone => self.decide_alone(number, shared, candidate),
        }
    }

    fn strict(&self, number: LimitNumber, shared: &SharedLimit) -> Strict {
        Strict {
            number,
            candidate: self.candidate(number),
            key: self.key(number, shared),
        }
    }

    /// By the store, all at once.
    async fn decide_strictly(&mut self, strict: &[Strict]) -> Result<(), Blocked> {
        let asks: Vec<_> = strict.iter().map(|it| (it.candidate, it.key)).collect();
        let Ok(verdicts) = self.shared.ask(&asks).await else {
            for it in strict {
                if let Some(shared) = &self.limit(it.number).shared {
                    self.decide_alone(it.number, shared, it.candidate)?;
                }
            }
            return Ok(());
        };
        for (it, verdict) in strict.iter().zip(&verdicts) {
            if let Err(refused) = verdict {
                return Err(Blocked::Spent(it.number, *refused));
            }
        }
        for (it, verdict) in strict.iter().zip(verdicts) {
            if let Ok((admitted, receipt)) = verdict {
                self.admit(it.number, Ok(admitted), Taken::Store(receipt))?;
            }
        }
        Ok(())
    }

    /// Without the store, as the limit says.
    fn decide_alone(
        &mut self,
        number: LimitNumber,
        shared: &SharedLimit,
        candidate: Candidate,
    ) -> Result<(), Blocked> {
        self.shared.tallies().alone.fetch_add(1, Ordering::Relaxed);
        match shared.on_failure {
            OnStoreFailure::Local => self.decide_part(number, shared, candidate),
            OnStoreFailure::Allow => {
                let rule = &candidate.rule;
                self.note(number, &admitted(rule.limit, rule.longest()));
                Ok(())
            }
            OnStoreFailure::Deny => Err(Blocked::Unavailable(number)),
        }
    }

    /// By this gateway's part of the limit.
    fn decide_part(
        &mut self,
        number: LimitNumber,
        shared: &SharedLimit,
        whole: Candidate,
    ) -> Result<(), Blocked> {
        let part = Candidate {
            rule: part_of(&whole.rule, self.shared.gateways()),
            ..whole
        };
        let store = &self.limits.store;
        let now = store.clock(Instant::now());
        let decision = self.limit(number).decide(store, &part, now);
        let taken = Taken::Part {
            number,
            part,
            whole,
            key: self.key(number, shared),
        };
        self.admit(number, decision, taken)
    }

    /// The request passes: what the store has not counted is told to it when it answers again.
    fn settle(&mut self) {
        for taken in self.taken.drain(..) {
            if let Taken::Part { whole, key, .. } = taken
                && whole.cost > 0
            {
                self.shared.owe(&whole, key);
            }
        }
    }

    fn admit(
        &mut self,
        number: LimitNumber,
        decision: Result<Admitted, Refused>,
        taken: Taken,
    ) -> Result<(), Blocked> {
        let admitted = decision.map_err(|refused| Blocked::Spent(number, refused))?;
        self.taken.push(taken);
        self.note(number, &admitted);
        Ok(())
    }

    fn note(&mut self, number: LimitNumber, admitted: &Admitted) {
        let limit = self.limit(number);
        let cost = limit.cost.in_advance(self.source.cost());
        let candidate = limit.tightest(number, admitted, cost);
        if self.tightest.is_none_or(|it| candidate.is_nearer_than(&it)) {
            self.tightest = Some(candidate);
        }
    }

    /// Takes back what the others have counted.
    fn take_back(self) {
        let store = &self.limits.store;
        let mut receipts = Vec::new();
        for taken in &self.taken {
            match taken {
                Taken::Here(number, part) => {
                    self.limit(*number).refund(store, part, self.now);
                }
                Taken::Lease(candidate, at) => self.shared.put_back(candidate, *at),
                Taken::Store(receipt) => receipts.push(*receipt),
                Taken::Part { number, part, .. } => {
                    self.limit(*number).refund(store, part, self.now);
                }
            }
        }
        if !receipts.is_empty() {
            self.shared.give_back(receipts);
        }
    }
}
