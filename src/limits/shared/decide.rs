//! How a request is decided by limits that gateways share.

use tokio::sync::oneshot;

use super::super::algorithm::{Admitted, Refused, Rule};
use super::super::key::KeyHash;
use super::Shared;
use super::ask::{Ask, Grant, SharedKey};
use super::desk::Demand;
use super::lease::{Lending, Spending};
use crate::config::{LimitMode, OnStoreFailure};

/// What a limit is to the store.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct SharedLimit {
    /// The limit, the same on all gateways.
    pub(in super::super) id: u64,
    pub(in super::super) mode: LimitMode,
    pub(in super::super) on_failure: OnStoreFailure,
}

/// A request as one shared limit sees it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Candidate {
    pub(in super::super) key: KeyHash,
    pub(in super::super) rule: Rule,
    pub(in super::super) cost: u64,
}

/// What is said of a request without asking the store.
#[derive(Debug)]
pub(in super::super) enum Word {
    /// It is decided.
    Decided(Result<Admitted, Refused>),
    /// The store has to be asked.
    Unknown,
    /// The store can't be asked.
    Alone,
}

impl Shared {
    /// Decides from what this gateway has of the store's tokens.
    pub(in super::super) fn spend(
        &self,
        candidate: &Candidate,
        now: u64,
        shared: impl Fn() -> SharedKey,
    ) -> Word {
        if self.link.skips(&shared) {
            return Word::Alone;
        }
        let lending = self.lending(&candidate.rule);
        let Candidate { key, rule, cost } = *candidate;
        match self.leases.spend(key, &lending, cost, now) {
            Ok(Spending::Spent {
                remaining,
                reset,
                ask,
            }) => {
                if let Some(owed) = ask {
                    let demand = Demand {
                        key,
                        shared: shared(),
                        rule,
                        lending,
                        owed,
                        is_lease: true,
                        waiter: None,
                    };
                    if self.demands.try_send(demand).is_err() {
                        self.leases.forget_asking(key);
                    }
                }
                // Before the store has said anything, it is as if there was nothing to say.
                let remaining = remaining.unwrap_or(rule.most().saturating_sub(cost));
                let reset = reset.min(rule.longest());
                Word::Decided(Ok(admitted(remaining, reset)))
            }
            Ok(Spending::Denied { wait }) => Word::Decided(Err(refused(wait))),
            // Without room for a lease each request asks for itself.
            Ok(Spending::Dry) | Err(_) => Word::Unknown,
        }
    }

    /// Waits until the store has given tokens for a key that has none, or refused, and then decides.
    pub(in super::super) async fn await_tokens(
        &self,
        candidate: &Candidate,
        shared: SharedKey,
        clock: impl Fn() -> u64,
    ) -> Word {
        if !self.leases.has_room(candidate.key, clock()) {
            // What came would be lost.
            return self.ask_for_one(candidate, shared).await;
        }
        let (waiter, answered) = oneshot::channel();
        let demand = Demand {
            key: candidate.key,
            shared,
            rule: candidate.rule,
            lending: self.lending(&candidate.rule),
            owed: 0,
            is_lease: true,
            waiter: Some((candidate.cost, waiter)),
        };
        if self.demands.try_send(demand).is_err() {
            return Word::Alone;
        }
        // A question of this key may be on its way already, and this one is asked after it.
        let within = 2 * self.link.patience();
        let Ok(Ok(wait)) = tokio::time::timeout(within, answered).await else {
            return Word::Alone;
        };
        match self.spend(candidate, clock(), || shared) {
            // What is left here is not enough, and no more comes.
            Word::Unknown if wait > 0 => Word::Decided(Err(refused(wait))),
            // Others were quicker to spend what came. What this one asks for itself nobody else gets.
            Word::Unknown => self.ask_for_one(candidate, shared).await,
            word => word,
        }
    }

    /// Has the store decide on this request alone.
    async fn ask_for_one(&self, candidate: &Candidate, shared: SharedKey) -> Word {
        match self.ask(&[(*candidate, shared)]).await.as_deref() {
            Ok([verdict]) => Word::Decided(verdict.map(|(admitted, _)| admitted)),
            _ => Word::Alone,
        }
    }

    /// Whether the store decides by these two keys at once. A cluster does so only by what it keeps in one
    /// place.
    pub(in super::super) fn is_together(&self, one: SharedKey, other: SharedKey) -> bool {
        one.key == other.key || !self.link.nodes.is_cluster()
    }

    /// Asks the store about all these, which it decides at once: all are taken, or none.
    pub(in super::super) async fn ask(
        &self,
        asks: &[(Candidate, SharedKey)],
    ) -> Result<Vec<Result<(Admitted, Receipt), Refused>>, Alone> {
        let asks: Vec<Ask> = asks
            .iter()
            .map(|(it, key)| Ask::exactly(*key, it.rule, it.cost))
            .collect();
        let grants = self.link.take(&asks).await.map_err(|_| Alone)?;
        let verdicts = asks
            .iter()
            .zip(&grants)
            .map(|(ask, grant)| match grant.wait {
                0 => Ok((admitted(grant.left, grant.reset), Receipt::of(ask, grant))),
                wait => Err(refused(wait)),
            });
        Ok(verdicts.collect())
    }

    /// Returns what was taken from the store for a request that is refused after all.
    pub(in super::super) fn give_back(&self, receipts: Vec<Receipt>) {
        let link = self.link.clone();
        tokio::spawn(async move {
            for Receipt(back) in receipts.into_iter().filter(|it| it.0.back > 0) {
                // What can't be returned is lost, which is not too generous.
                let _ = link.take(&[back]).await;
            }
        });
    }

    /// Puts tokens back that were spent at `spent_at` for a request that is refused after all.
    pub(in super::super) fn put_back(&self, candidate: &Candidate, spent_at: u64) {
        self.leases
            .put_back(candidate.key, candidate.cost, spent_at);
    }

    /// The store is to be told, when it answers again, what was admitted without it.
    pub(in super::super) fn owe(&self, candidate: &Candidate, shared: SharedKey) {
        let demand = Demand {
            key: candidate.key,
            shared,
            rule: candidate.rule,
            lending: self.lending(&candidate.rule),
            owed: candidate.cost,
            is_lease: false,
            waiter: None,
        };
        // Too many to remember are forgotten.
        let _ = self.demands.try_send(demand);
    }

    fn lending(&self, rule: &Rule) -> Lending {
        Lending::new(rule, self.gateways())
    }
}

/// The store can't be asked.
#[derive(Debug)]
pub(in super::super) struct Alone;

/// What was taken from the store, as it is given back.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Receipt(Ask);

impl Receipt {
    fn of(ask: &Ask, grant: &Grant) -> Self {
        Self(Ask {
            back: grant.taken,
            before: grant.ends,
            ..Ask::counting(ask.key, ask.rule, 0)
        })
    }
}

/// This gateway's part of a limit while nobody can be asked.
pub(in super::super) fn part_of(rule: &Rule, gateways: u64) -> Rule {
    Rule {
        limit: rule.limit.div_ceil(gateways),
        burst: rule.burst.div_ceil(gateways),
        ..*rule
    }
}

pub(super) fn refused(wait: u64) -> Refused {
    Refused {
        remaining: 0,
        retry: Some(wait),
    }
}

pub(in super::super) fn admitted(remaining: u64, reset: u64) -> Admitted {
    Admitted {
        state: 0,
        expires: 0,
        remaining,
        reset,
    }
}
