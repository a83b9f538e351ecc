//! Where requests for leases come together: one question a key at a time, for all who need it.
//!
//! Knows neither connections nor threads; whoever owns it asks the store and brings the answers.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque, hash_map};

use ahash::AHashMap;
use tokio::sync::oneshot;

use super::super::algorithm::Rule;
use super::super::key::KeyHash;
use super::ask::{Ask, Grant, Need, SharedKey};
use super::lease::{Given, Leases, Lending};

/// Keys that may be waited for at a time; what more is needed goes unanswered.
const MOST_KEYS: usize = 1 << 16;
/// Leases that are looked at again when their life is over; more are never returned.
const MOST_RETURNS: usize = 1 << 16;

/// One key needs something of the store.
#[derive(Debug)]
pub(super) struct Demand {
    pub(super) key: KeyHash,
    pub(super) shared: SharedKey,
    pub(super) rule: Rule,
    pub(super) lending: Lending,
    /// Spent already.
    pub(super) owed: u64,
    /// Whether tokens are to be taken ahead.
    pub(super) is_lease: bool,
    /// What somebody waits for, and who: they are told how long it will not be there.
    pub(super) waiter: Option<(u64, oneshot::Sender<u64>)>,
}

/// Demands of one key that the store has not been told of.
#[derive(Debug)]
struct Open {
    shared: SharedKey,
    rule: Rule,
    lending: Lending,
    owed: u64,
    back: u64,
    before: u64,
    /// The least that anybody waits for, and all of them together.
    least: Option<u64>,
    urgent: u64,
    /// Whether tokens are wanted, too.
    is_lease: bool,
    waiters: Vec<oneshot::Sender<u64>>,
    since: u64,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) key: KeyHash,
    pub(super) ask: Ask,
    lending: Lending,
    asked_at: u64,
    /// When the oldest of what is owed was spent.
    since: u64,
    /// Those who are told when it is answered.
    pub(super) waiters: Vec<oneshot::Sender<u64>>,
}

/// A lease that may be given back.
#[derive(Debug)]
struct Return {
    key: KeyHash,
    shared: SharedKey,
    rule: Rule,
    lending: Lending,
    /// When it came.
    since: u64,
    /// Tokens that were counted in what ends then.
    most: u64,
    ends: u64,
}

/// The desk. Keys whose question is on its way are known without demands.
#[derive(Debug, Default)]
pub(super) struct Desk {
    open: AHashMap<KeyHash, Option<Open>>,
    ready: VecDeque<KeyHash>,
    /// By when they are due, and a number.
    returns: BTreeMap<(u64, u64), Return>,
    last_return: u64,
}

impl Desk {
    /// Takes a demand. Whoever waits is told when the store has answered, or never if there is no room.
    pub(super) fn take(&mut self, demand: Demand, now: u64) {
        let has_room = self.open.len() < MOST_KEYS;
        let Some(open) = self.open_for(&demand, has_room, now) else {
            return;
        };
        if now >= open.since + open.lending.window {
            // The window that it was counted in is over.
            open.owed = 0;
            open.since = now;
        }
        open.owed += demand.owed;
        open.is_lease |= demand.is_lease;
        if let Some((cost, waiter)) = demand.waiter {
            open.least = Some(open.least.map_or(cost, |least| least.min(cost)));
            open.urgent += cost;
            open.waiters.push(waiter);
        }
    }

    fn open_for(&mut self, demand: &Demand, has_room: bool, now: u64) -> Option<&mut Open> {
        let fresh = || Open {
            shared: demand.shared,
            rule: demand.rule,
            lending: demand.lending,
            owed: 0,
            back: 0,
            before: 0,
            least: None,
            urgent: 0,
            is_lease: false,
            waiters: Vec::new(),
            since: now,
        };
        match self.open.entry(demand.key) {
            hash_map::Entry::Occupied(entry) => Some(entry.into_mut().get_or_insert_with(fresh)),
            hash_map::Entry::Vacant(entry) if has_room => {
                self.ready.push_back(demand.key);
                Some(entry.insert(None).get_or_insert_with(fresh))
            }
            hash_map::Entry::Vacant(_) => None,
        }
    }

    /// The next question for the store, if there is one. `share` is the part of what is left that a
    /// gateway may take ahead: one in so many.
    pub(super) fn question(&mut self, leases: &Leases, share: u64, now: u64) -> Option<Question> {
        loop {
            let key = self.ready.pop_front()?;
            let Some(open) = self.open.get_mut(&key).and_then(Option::take) else {
                self.open.remove(&key);
                continue;
            };
            // What was counted long ago is in no window any more.
            let is_current = now < open.since + open.lending.window;
            let owed = if is_current { open.owed } else { 0 };
            let wanted = match open.is_lease {
                true => leases.wanted(key, &open.lending, now),
                false => 0,
            };
            let need = match open.least {
                Some(least) => Need::Tokens(least.max(1)),
                None if open.is_lease => Need::Tokens(1),
                None => Need::Nothing,
            };
            let ask = Ask {
                key: open.shared,
                rule: open.rule,
                owed,
                back: open.back,
                before: open.before,
                need,
                urgent: open.urgent,
                want: wanted.max(open.urgent),
                share,
            };
            return Some(Question {
                key,
                ask,
                lending: open.lending,
                asked_at: now,
                since: open.since,
                waiters: open.waiters,
            });
        }
    }

    /// The store has answered.
    pub(super) fn answered(
        &mut self,
        question: Question,
        grant: &Grant,
        leases: &Leases,
        now: u64,
    ) {
        let Question {
            key, ask, lending, ..
        } = question;
        if let Need::Tokens(need) = ask.need {
            let given = Given {
                tokens: grant.taken,
                remaining: grant.left,
                reset: grant.reset,
                wait: grant.wait,
                need,
                asked_at: question.asked_at,
            };
            let most = leases.receive(key, &lending, &given, now);
            if most > lending.credit && self.returns.len() < MOST_RETURNS {
                self.last_return += 1;
                let due = Return {
                    key,
                    shared: ask.key,
                    rule: ask.rule,
                    lending,
                    since: now,
                    most,
                    ends: grant.ends,
                };
                self.returns
                    .insert((now + lending.life(), self.last_return), due);
            }
        }
        for waiter in question.waiters {
            // One that has gone away needs no answer.
            let _ = waiter.send(grant.wait);
        }
        self.close(key);
    }

    /// The store did not answer. What is owed stays; those who wait are told by the end of the channel.
    pub(super) fn failed(&mut self, question: Question, leases: &Leases) {
        let Question {
            key,
            ask,
            lending,
            since,
            waiters,
            ..
        } = question;
        drop(waiters);
        if let Some(Some(open)) = self.open.get_mut(&key) {
            // Nor does anybody wait for the next failure.
            open.waiters.clear();
            (open.least, open.urgent) = (None, 0);
        }
        leases.forget_asking(key);
        if ask.owed > 0 {
            let demand = Demand {
                key,
                shared: ask.key,
                rule: ask.rule,
                lending,
                owed: ask.owed,
                is_lease: false,
                waiter: None,
            };
            if let Some(open) = self.open_for(&demand, true, since) {
                open.owed += ask.owed;
            }
        }
        self.close(key);
    }

    fn close(&mut self, key: KeyHash) {
        match self.open.get(&key) {
            Some(Some(_)) => self.ready.push_back(key),
            _ => {
                self.open.remove(&key);
            }
        }
    }

    /// Keys with questions, and leases that may be given back.
    pub(super) fn pending(&self) -> usize {
        self.open.len() + self.returns.len()
    }

    /// Takes back what nobody has spent in the life of a lease.
    pub(super) fn reclaim(&mut self, leases: &Leases, now: u64) {
        while let Some(due) = self.returns.first_entry().filter(|due| due.key().0 <= now) {
            let due = due.remove();
            let back = leases.reclaim(due.key, &due.lending, due.since, due.most);
            if back == 0 {
                continue;
            }
            let demand = Demand {
                key: due.key,
                shared: due.shared,
                rule: due.rule,
                lending: due.lending,
                owed: 0,
                is_lease: false,
                waiter: None,
            };
            let has_room = self.open.len() < MOST_KEYS;
            if let Some(open) = self.open_for(&demand, has_room, now) {
                // Two returns of one key count as long as the first of them would.
                open.before = match open.back {
                    0 => due.ends,
                    _ => open.before.min(due.ends),
                };
                open.back += back;
            }
        }
    }
}
