//! How a request is decided by limits that gateways share.

use tokio::sync::oneshot;

use super::super::algorithm::{Admitted, Algorithm, Refused, Rule};
use super::super::key::KeyHash;
use super::Shared;
use super::ask::{Ask, Grant, SharedKey};
use super::desk::Demand;
use super::lease::{Lending, Spending};
use super::link::Silence;
use crate::config::{LimitMode, OnStoreFailure};

/// One part in so many of a limit may be spent on credit by all gateways together.
const CREDIT_OF_LIMIT: u64 = 100;
/// The most that one gateway may spend of a key on credit.
const MOST_CREDIT: u64 = 1000;
/// When a request that is refused since the store is down may come back, in microseconds.
const UNTIL_NEXT_TRY: u64 = 1_000_000;

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
        shared: impl FnOnce() -> SharedKey,
    ) -> Word {
        if self.link.health.is_down() {
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
        let within = self.link.patience();
        let asking = async {
            loop {
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
                let Ok(wait) = answered.await else {
                    return Word::Alone;
                };
                match self.spend(candidate, clock(), || shared) {
                    // What is left here is not enough, and no more comes.
                    Word::Unknown if wait > 0 => return Word::Decided(Err(refused(wait))),
                    // Others were quicker to spend what came.
                    Word::Unknown => {}
                    word => return word,
                }
            }
        };
        tokio::time::timeout(within, asking)
            .await
            .unwrap_or(Word::Alone)
    }

    /// Asks the store about all these at once: all are taken, or none.
    pub(in super::super) async fn ask(
        &self,
        asks: &[(Candidate, SharedKey)],
    ) -> Result<Vec<Result<Admitted, Refused>>, Alone> {
        let asks: Vec<Ask> = asks
            .iter()
            .map(|(it, key)| Ask::exactly(*key, it.rule, it.cost))
            .collect();
        let grants = match self.link.is_cluster() {
            false => self.link.take(&asks).await,
            true => self.ask_in_turn(&asks).await,
        };
        let grants = grants.map_err(|_| Alone)?;
        Ok(grants.iter().map(verdict).collect())
    }

    /// A cluster decides only what it keeps in one place at once; when a later place refuses, the earlier
    /// ones get their tokens back.
    async fn ask_in_turn(&self, asks: &[Ask]) -> Result<Vec<Grant>, Silence> {
        let mut grants: Vec<Option<Grant>> = vec![None; asks.len()];
        for index in 0..asks.len() {
            if grants[index].is_some() {
                continue;
            }
            let is_with = |other: &usize| asks[*other].key.key == asks[index].key.key;
            let together: Vec<usize> = (index..asks.len()).filter(is_with).collect();
            let part: Vec<Ask> = together.iter().map(|it| asks[*it]).collect();
            let answers = self.link.take(&part).await;
            let is_refused = match &answers {
                Ok(answers) => answers.iter().any(|grant| grant.wait > 0),
                Err(_) => true,
            };
            if is_refused {
                let taken = asks.iter().zip(&grants);
                self.give_back(taken.filter_map(|(ask, grant)| Some((ask, (*grant)?))));
            }
            for (place, grant) in together.into_iter().zip(answers?) {
                grants[place] = Some(grant);
            }
            if is_refused {
                break;
            }
        }
        // Those that were not asked any more are as good as admitted: another one refuses.
        let unasked = Grant {
            taken: 0,
            left: 0,
            reset: 1,
            wait: 0,
            ends: 0,
        };
        Ok(grants.into_iter().map(|it| it.unwrap_or(unasked)).collect())
    }

    /// Returns what was taken from the store for a request that is refused after all.
    fn give_back<'a>(&self, taken: impl Iterator<Item = (&'a Ask, Grant)>) {
        let backs: Vec<Ask> = taken
            .map(|(ask, grant)| Ask {
                back: grant.taken,
                before: grant.ends,
                ..Ask::counting(ask.key, ask.rule, 0)
            })
            .collect();
        if backs.is_empty() {
            return;
        }
        let link = self.link.clone();
        tokio::spawn(async move {
            for back in backs {
                // What can't be returned is lost, which is not too generous.
                let _ = link.take(&[back]).await;
            }
        });
    }

    /// Puts tokens back that were spent for a request that is refused after all.
    pub(in super::super) fn put_back(&self, candidate: &Candidate) {
        self.leases.put_back(candidate.key, candidate.cost);
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
        let credit = rule.limit / (CREDIT_OF_LIMIT * self.gateways());
        Lending {
            window: rule.window,
            credit: credit.clamp(1, MOST_CREDIT),
            is_for_window: matches!(
                rule.algorithm,
                Algorithm::FixedWindow | Algorithm::Calendar(_)
            ),
        }
    }
}

/// The store can't be asked.
#[derive(Debug)]
pub(in super::super) struct Alone;

/// This gateway's part of a limit while nobody can be asked.
pub(in super::super) fn part_of(rule: &Rule, gateways: u64) -> Rule {
    Rule {
        limit: rule.limit.div_ceil(gateways),
        burst: rule.burst.div_ceil(gateways),
        ..*rule
    }
}

/// What is decided without the store where nothing is counted.
pub(in super::super) fn uncounted(
    on_failure: OnStoreFailure,
    rule: &Rule,
) -> Result<Admitted, Refused> {
    match on_failure {
        OnStoreFailure::Deny => Err(refused(UNTIL_NEXT_TRY)),
        OnStoreFailure::Allow | OnStoreFailure::Local => Ok(admitted(rule.limit, rule.longest())),
    }
}

fn verdict(grant: &Grant) -> Result<Admitted, Refused> {
    match grant.wait {
        0 => Ok(admitted(grant.left, grant.reset)),
        wait => Err(refused(wait)),
    }
}

fn refused(wait: u64) -> Refused {
    Refused {
        remaining: 0,
        retry: Some(wait),
    }
}

fn admitted(remaining: u64, reset: u64) -> Admitted {
    Admitted {
        state: 0,
        expires: 0,
        remaining,
        reset,
    }
}
