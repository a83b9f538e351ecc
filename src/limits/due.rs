//! What requests cost that is only known by their answers: charged when these are there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::calendar::Zone;
use super::cost::{Answer, Unsaid};
use super::key::{KeyHash, KeySource};
use super::limit::Limit;
use super::limiter::{Phase, RateLimits};
use super::shared::{Candidate, SharedKey};
use super::verdict::{LimitNumber, Tightest};

/// How often one limit says in the log that answers say no cost, in microseconds.
const PAUSE: u64 = 60_000_000;

/// A charge that a request which was let in still has to expect.
#[derive(Debug)]
pub struct Due {
    limit: LimitNumber,
    key: KeyHash,
    /// Of a limit that gateways share.
    shared: Option<SharedKey>,
    home: Option<Arc<Zone>>,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// The answer does not say yet what is due.
    NotYet,
    /// It is counted, and so much is left. Nothing is said of limits that are only tried out, nor by a
    /// store that is told later.
    Counted(Option<Tightest>),
}

impl RateLimits {
    /// What a request that was let in has to expect from the limits of a phase, or of both.
    pub fn dues(&self, phase: Option<Phase>, source: &impl KeySource) -> impl Iterator<Item = Due> {
        let charged = self.numbered(self.of_phase(phase));
        let charged = charged.filter(|(_, limit)| limit.cost.is_known_later());
        charged.map(|(number, limit)| Due {
            limit: number,
            key: limit.key(&self.store, source),
            shared: limit.shared_key(source),
            home: source.time_zone().cloned(),
        })
    }

    /// Counts what a request turned out to cost, if its answer says that.
    pub fn charge(&self, due: &Due, now: Instant, answer: Answer<'_>) -> Charged {
        let limit = self.limit(due.limit);
        let Some(cost) = limit.cost.by(answer) else {
            return Charged::NotYet;
        };
        let now = self.store.clock(now);
        let candidate = Candidate {
            key: due.key,
            rule: limit.rule_at(|| due.home.as_ref(), now, &self.store),
            cost: cost.unwrap_or_else(|Unsaid| {
                limit.complain(now);
                1
            }),
        };
        let charge = |rule| {
            let (key, cost) = (candidate.key, candidate.cost);
            self.store.charge(key, rule, &limit.overflow, now, cost)
        };
        if let (Some(shared), Some(of_store), Some(key)) = (&self.shared, &limit.shared, due.shared)
        {
            if let Some(part) = shared.charge(of_store, &candidate, key) {
                charge(&part);
            }
            return Charged::Counted(None);
        }
        let charged = charge(&candidate.rule);
        let left = limit.tightest(due.limit, &charged, 0);
        Charged::Counted(limit.is_enforced.then_some(left))
    }
}

impl Limit {
    /// Says that an answer said no cost, unless that was said just now.
    fn complain(&self, now: u64) {
        let last = self.complained.load(Ordering::Relaxed);
        let is_due = last == 0 || now >= last + PAUSE;
        let mine = || {
            self.complained
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_due && mine().is_ok() {
            log::warn!(
                "answers do not say what they cost, and are counted as 1: limit={}",
                self.name
            );
        }
    }
}

#[cfg(test)]
mod tests;
