//! Limits of one place of which some are shared with other gateways, decided together.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::algorithm::{Admitted, Refused};
use super::key::KeySource;
use super::limiter::{Limit, Phase, RateLimits, Refusal, Tightest, Verdict, seconds};
use super::shared::{Candidate, Shared, SharedKey, SharedLimit, Word, part_of, uncounted};
use crate::config::{LimitMode, OnStoreFailure};

/// Where an admitted request was counted.
enum Taken {
    Local(usize),
    Lease(Candidate),
    Part(usize, Candidate),
}

/// A request that the store itself has to decide.
struct Strict {
    index: usize,
    candidate: Candidate,
    key: SharedKey,
}

/// A request on its way through the limits of a place.
struct Passage<'l, K> {
    limits: &'l RateLimits,
    shared: &'l Shared,
    source: &'l K,
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
        self.decide_shared_on(self.of_phase(phase), now, source)
            .await
    }

    /// As [`RateLimits::decide_all`], where some limits are shared.
    pub async fn decide_all_shared(
        &self,
        now: Instant,
        source: &(impl KeySource + Sync),
    ) -> Verdict {
        self.decide_shared_on(0..self.limits.len(), now, source)
            .await
    }

    async fn decide_shared_on(
        &self,
        range: Range<usize>,
        now: Instant,
        source: &(impl KeySource + Sync),
    ) -> Verdict {
        let is_shared = |limit: &Limit| limit.shared.is_some();
        let shared = self.shared.as_deref();
        let Some(shared) = shared.filter(|_| self.limits[range.clone()].iter().any(is_shared))
        else {
            return self.decide_on(range, now, source);
        };
        let mut passage = Passage {
            limits: self,
            shared,
            source,
            taken: Vec::new(),
            tightest: None,
        };
        let mut strict = Vec::new();
        let now = self.store.clock(now);
        for index in range {
            let decision = match &self.limits[index].shared {
                None => passage.decide_here(index, now),
                Some(limit) if limit.mode == LimitMode::Strict => {
                    strict.push(passage.strict(index, limit));
                    continue;
                }
                Some(limit) => passage.decide_ahead(index, limit, now).await,
            };
            if let Err(refused) = decision {
                return passage.refuse(index, refused);
            }
        }
        match passage.decide_strictly(&strict).await {
            Err((index, refused)) => passage.refuse(index, refused),
            Ok(()) => Verdict::Admit(passage.tightest),
        }
    }
}

impl<K: KeySource + Sync> Passage<'_, K> {
    fn candidate(&self, index: usize) -> Candidate {
        let limit = &self.limits.limits[index];
        let hashing = &self.limits.store.hashing;
        Candidate {
            key: hashing.key_of(limit.id, &limit.by, self.source),
            rule: limit.rule,
            cost: 1,
        }
    }

    fn key(&self, index: usize, shared: &SharedLimit) -> SharedKey {
        SharedKey::of(shared.id, &self.limits.limits[index].by, self.source)
    }

    /// By this gateway's own counts.
    fn decide_here(&mut self, index: usize, now: u64) -> Result<(), Refused> {
        let limit = &self.limits.limits[index];
        let key = self.candidate(index).key;
        let store = &self.limits.store;
        let admitted = store.decide(key, &limit.rule, &limit.overflow, now)?;
        self.admit(index, &admitted, Taken::Local(index));
        Ok(())
    }

    /// From what was taken ahead, or by waiting for more of it.
    async fn decide_ahead(
        &mut self,
        index: usize,
        shared: &SharedLimit,
        now: u64,
    ) -> Result<(), Refused> {
        let candidate = self.candidate(index);
        let mut word = self
            .shared
            .spend(&candidate, now, || self.key(index, shared));
        if let Word::Unknown = word {
            let store = &self.limits.store;
            let key = self.key(index, shared);
            let clock = || store.clock(Instant::now());
            word = self.shared.await_tokens(&candidate, key, clock).await;
        }
        match word {
            Word::Decided(decision) => self.admit(index, &decision?, Taken::Lease(candidate)),
            Word::Unknown | Word::Alone => self.decide_alone(index, shared, candidate)?,
        }
        Ok(())
    }

    fn strict(&self, index: usize, shared: &SharedLimit) -> Strict {
        Strict {
            index,
            candidate: self.candidate(index),
            key: self.key(index, shared),
        }
    }

    /// By the store, all at once.
    async fn decide_strictly(&mut self, strict: &[Strict]) -> Result<(), (usize, Refused)> {
        if strict.is_empty() {
            return Ok(());
        }
        let asks: Vec<_> = strict.iter().map(|it| (it.candidate, it.key)).collect();
        match self.shared.ask(&asks).await {
            Ok(verdicts) => {
                for (it, verdict) in strict.iter().zip(&verdicts) {
                    if let Err(refused) = verdict {
                        return Err((it.index, *refused));
                    }
                }
                for (it, verdict) in strict.iter().zip(verdicts) {
                    if let Ok(admitted) = verdict {
                        self.note(it.index, &admitted);
                    }
                }
            }
            Err(_) => {
                for it in strict {
                    if let Some(shared) = &self.limits.limits[it.index].shared {
                        let decision = self.decide_alone(it.index, shared, it.candidate);
                        decision.map_err(|refused| (it.index, refused))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Without the store, as the limit says.
    fn decide_alone(
        &mut self,
        index: usize,
        shared: &SharedLimit,
        candidate: Candidate,
    ) -> Result<(), Refused> {
        self.shared.tallies().alone.fetch_add(1, Ordering::Relaxed);
        if shared.on_failure != OnStoreFailure::Local {
            let admitted = uncounted(shared.on_failure, &candidate.rule)?;
            self.note(index, &admitted);
            return Ok(());
        }
        let limits = self.limits;
        let limit = &limits.limits[index];
        let part = Candidate {
            rule: part_of(&candidate.rule, self.shared.gateways()),
            ..candidate
        };
        let now = limits.store.clock(Instant::now());
        let store = &limits.store;
        let admitted = store.decide(part.key, &part.rule, &limit.overflow, now)?;
        self.shared.owe(&candidate, self.key(index, shared));
        self.admit(index, &admitted, Taken::Part(index, part));
        Ok(())
    }

    fn admit(&mut self, index: usize, admitted: &Admitted, taken: Taken) {
        self.taken.push(taken);
        self.note(index, admitted);
    }

    fn note(&mut self, index: usize, admitted: &Admitted) {
        let candidate = Tightest::new(index, admitted);
        let is_tighter = |it: Tightest| candidate.remaining < it.remaining;
        if self.tightest.is_none_or(is_tighter) {
            self.tightest = Some(candidate);
        }
    }

    /// Takes back what the others have counted.
    fn refuse(self, index: usize, refused: Refused) -> Verdict {
        let limits = self.limits;
        for taken in &self.taken {
            match taken {
                Taken::Local(index) => {
                    let limit = &limits.limits[*index];
                    let key = self.candidate(*index).key;
                    limits.store.refund(key, &limit.rule, &limit.overflow);
                }
                Taken::Lease(candidate) => self.shared.put_back(candidate),
                Taken::Part(index, part) => {
                    let overflow = &limits.limits[*index].overflow;
                    limits.store.refund(part.key, &part.rule, overflow);
                }
            }
        }
        let retry_after = seconds(refused.retry);
        Verdict::Refuse(Refusal {
            tightest: Tightest::spent(index, retry_after),
            retry_after,
        })
    }
}
