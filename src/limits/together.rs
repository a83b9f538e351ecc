//! Limits of one place of which some are shared with other gateways, decided together.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::algorithm::{Admitted, Refused};
use super::key::KeySource;
use super::limit::Limit;
use super::limiter::{Phase, RateLimits};
use super::shared::{Candidate, Shared, SharedKey, SharedLimit, Word, part_of, uncounted};
use super::verdict::{Blocked, LimitNumber, Passed, Tightest, Verdict};
use crate::config::{LimitMode, OnStoreFailure};
use crate::telemetry::Decision;

/// Where an admitted request was counted.
enum Taken {
    /// In this gateway, of its own limit or of its part of a shared one.
    Here(LimitNumber, Candidate),
    Lease(Candidate),
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
            return Err(blocked);
        }
        for (_, limit) in self.enforced(range.clone()) {
            limit.count(Decision::Admitted);
        }
        let tightest = passage.tightest;
        let mut would_refuse = None;
        for (number, limit) in self.numbered(range).filter(|(_, limit)| !limit.is_enforced) {
            let decision = match passage.decide([(number, limit)].into_iter()).await {
                Ok(()) => Decision::Admitted,
                Err(_) => {
                    would_refuse.get_or_insert(number);
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
            let decision = match &limit.shared {
                None => self.decide_here(number),
                Some(_) if self.candidate(number).cost > limit.rule.most() => Err(Refused {
                    remaining: 0,
                    retry: None,
                }),
                Some(shared) if shared.mode == LimitMode::Strict => {
                    strict.push(self.strict(number, shared));
                    continue;
                }
                Some(shared) => self.decide_ahead(number, shared).await,
            };
            decision.map_err(|refused| Blocked::Spent(number, refused))?;
        }
        self.decide_strictly(&strict).await
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
    fn decide_here(&mut self, number: LimitNumber) -> Result<(), Refused> {
        let candidate = self.candidate(number);
        let store = &self.limits.store;
        let admitted = self.limit(number).decide(store, &candidate, self.now)?;
        self.admit(number, &admitted, Taken::Here(number, candidate));
        Ok(())
    }

    /// From what was taken ahead, or by waiting for more of it.
    async fn decide_ahead(
        &mut self,
        number: LimitNumber,
        shared: &SharedLimit,
    ) -> Result<(), Refused> {
        let candidate = self.candidate(number);
        let key = || self.key(number, shared);
        let mut word = self.shared.spend(&candidate, self.now, key);
        if let Word::Unknown = word {
            let store = &self.limits.store;
            let clock = || store.clock(Instant::now());
            word = self.shared.await_tokens(&candidate, key(), clock).await;
        }
        match word {
            Word::Decided(decision) => self.admit(number, &decision?, Taken::Lease(candidate)),
            Word::Unknown | Word::Alone => self.decide_alone(number, shared, candidate)?,
        }
        Ok(())
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
        if strict.is_empty() {
            return Ok(());
        }
        let asks: Vec<_> = strict.iter().map(|it| (it.candidate, it.key)).collect();
        let Ok(verdicts) = self.shared.ask(&asks).await else {
            for it in strict {
                if let Some(shared) = &self.limit(it.number).shared {
                    let decision = self.decide_alone(it.number, shared, it.candidate);
                    decision.map_err(|refused| Blocked::Spent(it.number, refused))?;
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
            if let Ok(admitted) = verdict {
                self.note(it.number, &admitted);
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
    ) -> Result<(), Refused> {
        self.shared.tallies().alone.fetch_add(1, Ordering::Relaxed);
        if shared.on_failure != OnStoreFailure::Local {
            let admitted = uncounted(shared.on_failure, &candidate.rule)?;
            self.note(number, &admitted);
            return Ok(());
        }
        let part = Candidate {
            rule: part_of(&candidate.rule, self.shared.gateways()),
            ..candidate
        };
        let store = &self.limits.store;
        let now = store.clock(Instant::now());
        let admitted = self.limit(number).decide(store, &part, now)?;
        if candidate.cost > 0 {
            self.shared.owe(&candidate, self.key(number, shared));
        }
        self.admit(number, &admitted, Taken::Here(number, part));
        Ok(())
    }

    fn admit(&mut self, number: LimitNumber, admitted: &Admitted, taken: Taken) {
        self.taken.push(taken);
        self.note(number, admitted);
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
        for taken in &self.taken {
            match taken {
                Taken::Here(number, part) => {
                    self.limit(*number).refund(store, part);
                }
                Taken::Lease(candidate) => self.shared.put_back(candidate),
            }
        }
    }
}
