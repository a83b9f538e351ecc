//! A gateway of the fleet: leases and a desk as they serve, and who waits there.

use ahash::AHashMap;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::super::algorithm::Rule;
use super::super::super::key::KeyHash;
use super::super::ask::{Grant, SharedKey};
use super::super::desk::{Demand, Desk, Question};
use super::super::lease::{Leases, Lending, Spending};

/// The limit that all share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) rule: Rule,
    pub(super) lending: Lending,
}

/// A request as the limit sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) gateway: usize,
    pub(super) key: u32,
    pub(super) cost: u64,
    /// If another limit refuses it: so many microseconds after this one has admitted it.
    pub(super) refused_after: Option<u64>,
}

/// What is said of a request at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Admitted,
    Refused,
    /// The desk has to ask for tokens.
    Dry,
    /// No lease has room.
    Full,
}

/// The gateway. It has a clock of its own.
pub(super) struct Gateway {
    limit: Limit,
    leases: Leases,
    desk: Desk,
    waiting: AHashMap<u32, Vec<(Request, oneshot::Receiver<u64>)>>,
    /// How far its clock is ahead.
    ahead: u64,
}

impl Gateway {
    pub(super) fn new(limit: Limit, leases: usize, ahead: u64) -> Self {
        Self {
            limit,
            leases: Leases::new(leases),
            desk: Desk::default(),
            waiting: AHashMap::new(),
            ahead,
        }
    }

    /// Decides from what it has ahead.
    pub(super) fn decide(&mut self, request: &Request, now: u64) -> Word {
        let (key, now) = (hash(request.key), now + self.ahead);
        match self
            .leases
            .spend(key, &self.limit.lending, request.cost, now)
        {
            Ok(Spending::Spent { ask, .. }) => {
                if let Some(owed) = ask {
                    let demand = self.demand(request.key, owed, None);
                    self.desk.take(demand, now);
                }
                Word::Admitted
            }
            Ok(Spending::Denied { .. }) => Word::Refused,
            Ok(Spending::Dry) => Word::Dry,
            Err(_) => Word::Full,
        }
    }

    /// Lets a request wait for tokens.
    pub(super) fn wait(&mut self, request: Request, now: u64) {
        let (waiter, answered) = oneshot::channel();
        let demand = self.demand(request.key, 0, Some((request.cost, waiter)));
        self.desk.take(demand, now + self.ahead);
        let waiting = self.waiting.entry(request.key).or_default();
        waiting.push((request, answered));
    }

    /// Another limit has refused a request that this one admitted at `spent_at`.
    pub(super) fn put_back(&self, request: &Request, spent_at: u64) {
        let spent_at = spent_at + self.ahead;
        self.leases
            .put_back(hash(request.key), request.cost, spent_at);
    }

    pub(super) fn question(&mut self, share: u64, now: u64) -> Option<Question> {
        self.desk.question(&self.leases, share, now + self.ahead)
    }

    /// The store has answered. Returns the requests that waited for it, and how long there will be nothing.
    pub(super) fn answered(
        &mut self,
        question: Question,
        grant: &Grant,
        now: u64,
    ) -> Vec<(Request, u64)> {
        let key = number(&question);
        let now = now + self.ahead;
        self.desk.answered(question, grant, &self.leases, now);
        self.told(key)
    }

    /// The store has not answered. Returns the requests that waited for it.
    pub(super) fn failed(&mut self, question: Question) -> Vec<(Request, u64)> {
        let key = number(&question);
        self.desk.failed(question, &self.leases);
        self.told(key)
    }

    pub(super) fn reclaim(&mut self, now: u64) {
        self.desk.reclaim(&self.leases, now + self.ahead);
    }

    /// Requests that nobody has told anything.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// What the desk remembers.
    pub(super) fn pending(&self) -> usize {
        self.desk.pending()
    }

    /// Bytes of its leases, and of how many keys it has some.
    pub(super) fn leases(&self, now: u64) -> (usize, usize) {
        (self.leases.bytes(), self.leases.keys(now + self.ahead))
    }

    fn told(&mut self, key: u32) -> Vec<(Request, u64)> {
        let (mut told, mut still) = (Vec::new(), Vec::new());
        for (request, mut answered) in self.waiting.remove(&key).unwrap_or_default() {
            match answered.try_recv() {
                Ok(wait) => told.push((request, wait)),
                Err(TryRecvError::Closed) => told.push((request, 0)),
                Err(TryRecvError::Empty) => still.push((request, answered)),
            }
        }
        if !still.is_empty() {
            self.waiting.insert(key, still);
        }
        told
    }

    fn demand(&self, key: u32, owed: u64, waiter: Option<(u64, oneshot::Sender<u64>)>) -> Demand {
        Demand {
            key: hash(key),
            shared: shared(key),
            rule: self.limit.rule,
            lending: self.limit.lending,
            owed,
            is_lease: true,
            waiter,
        }
    }
}

/// What the store calls a key.
pub(super) fn shared(key: u32) -> SharedKey {
    SharedKey {
        limit: 1,
        key: u128::from(key),
    }
}

fn number(question: &Question) -> u32 {
    question.ask.key.key as u32
}

/// What gateways call it: the same in each run.
fn hash(key: u32) -> KeyHash {
    let mut bits = fastrand::Rng::with_seed(u64::from(key));
    KeyHash {
        place: bits.u64(..),
        fingerprint: bits.u64(2..),
    }
}
