//! Counts by key, exact: one state of a [`Rule`] for each key.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use super::algorithm::{Admitted, Refused, Rule};
use super::heavy::{begin, estimate};
use super::key::KeyHash;
use super::overflow::Overflow;
use super::slots::{Full, Slot, Slots, expires, is_of, keep};

/// Words of an entry: the table's own, and the state.
pub(super) const WORDS: usize = 3;

/// The counts.
#[derive(Debug)]
pub(super) struct Table(pub(super) Slots<WORDS>);

pub(super) fn state(slot: &Slot<WORDS>) -> &AtomicU64 {
    &slot[WORDS - 1]
}

/// The state as it is, and what it says at `now`.
fn state_of(slot: &Slot<WORDS>, rule: &Rule, now: u64) -> (u64, u64) {
    // In this order: whoever replaces a state prolongs it first.
    let before = state(slot).load(Ordering::Acquire);
    (before, rule.unless_expired(before, expires(slot), now))
}

impl Table {
    /// A table for at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        Self(Slots::new(keys))
    }

    /// Decides on one request of a key that costs `cost` and counts it if it is admitted.
    pub(super) fn decide(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        (now, cost): (u64, u64),
    ) -> Result<Result<Admitted, Refused>, Full> {
        let decide = |state| rule.decide(state, now, cost);
        self.count(key, rule, overflow, now, decide)
    }

    /// Counts `cost` units of a key, whether or not they are left.
    pub(super) fn charge(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        (now, cost): (u64, u64),
    ) -> Result<Admitted, Full> {
        let charge = |state| Ok::<_, Infallible>(rule.charge(state, now, cost));
        self.count(key, rule, overflow, now, charge)
            .map(|Ok(charged)| charged)
    }

    /// What would be decided on one request that costs nothing.
    pub(super) fn look(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
    ) -> Result<Result<Admitted, Refused>, Full> {
        let state = match self.0.find(key) {
            Some(slot) => state_of(slot, rule, now).1,
            None if self.0.has_room(key, now) => {
                let spent = estimate(key, rule, overflow);
                rule.charge(0, now, spent).state
            }
            None => return Err(Full),
        };
        Ok(rule.decide(state, now, 0))
    }

    /// The state of a key; `None` if it is not here.
    pub(super) fn state(&self, key: KeyHash, rule: &Rule, now: u64) -> Option<u64> {
        let slot = self.0.find(key)?;
        Some(state_of(slot, rule, now).1)
    }

    /// Takes `cost` counted units back; `false` if the key is not here.
    pub(super) fn refund(&self, key: KeyHash, rule: &Rule, cost: u64) -> bool {
        let Some(slot) = self.0.find(key) else {
            return false;
        };
        // A state that is read before the entry is another key's is that key's no more.
        let refund = |state| is_of(slot, key).then(|| rule.refund(state, cost));
        state(slot)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, refund)
            .is_ok()
    }

    /// The fingerprints of all keys that have an entry.
    pub(super) fn keys(&self, now: u64) -> impl Iterator<Item = u64> {
        self.0.fingerprints(now)
    }

    /// Whether a key is here, when nobody is about to bring it in.
    pub(super) fn has_settled(&self, key: KeyHash) -> bool {
        self.0.find_settled(key).is_some()
    }

    /// Puts the state in place that `count` makes of a key's, unless it refuses. A key that is new begins with
    /// what it may have spent when it had no room.
    fn count<R>(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
        count: impl Fn(u64) -> Result<Admitted, R>,
    ) -> Result<Result<Admitted, R>, Full> {
        let first = |slot: &Slot<WORDS>| {
            let spent = estimate(key, rule, overflow);
            if spent > 0 {
                let charged = rule.charge(0, now, spent);
                begin(slot, charged.state, charged.expires);
            }
        };
        loop {
            let slot = self.0.find_or_begin(key, now, first)?;
            let (before, live) = state_of(slot, rule, now);
            let admitted = match count(live) {
                Ok(admitted) => admitted,
                // Refusals write nothing, so a flood on one key is only read.
                Err(refused) => return Ok(Err(refused)),
            };
            // Before the count, so that nobody takes the entry for free in between.
            keep(slot, admitted.expires);
            let is_counted = state(slot)
                .compare_exchange(before, admitted.state, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if is_counted && is_of(slot, key) {
                return Ok(Ok(admitted));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::algorithm::Algorithm;
    use super::super::key::{Hashing, Parts};
    use super::*;

    fn rule(limit: u64) -> Rule {
        Rule {
            algorithm: Algorithm::FixedWindow,
            limit,
            window: 1_000_000,
            burst: limit,
        }
    }

    /// Where nothing is counted by estimate.
    fn nowhere() -> Overflow {
        Overflow::new(1, 1)
    }

    fn keys(count: u64) -> Vec<KeyHash> {
        let hashing = Hashing::default();
        (0..count)
            .map(|key| hashing.key(7, |parts| parts.number(key)))
            .collect()
    }

    #[test]
    fn keys_are_counted_apart_up_to_the_capacity() {
        let (table, nowhere) = (Table::new(10_000), nowhere());
        let rule = rule(3);
        let mut full = 0;
        for key in keys(10_000) {
            for attempt in 0..5 {
                match table.decide(key, &rule, &nowhere, (5, 1)) {
                    Ok(verdict) => assert_eq!(verdict.is_ok(), attempt < 3),
                    Err(Full) => full += 1,
                }
            }
        }
        assert_eq!(full, 0);
    }

    #[test]
    fn expired_entries_make_room() {
        let (table, nowhere) = (Table::new(100), nowhere());
        let rule = rule(1);
        for round in 0..50 {
            let now = round * 2_000_000;
            for key in &keys(100) {
                assert!(
                    table
                        .decide(*key, &rule, &nowhere, (now, 1))
                        .unwrap()
                        .is_ok()
                );
                assert!(
                    table
                        .decide(*key, &rule, &nowhere, (now, 1))
                        .unwrap()
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn what_has_expired_stays_while_others_are_free_for_longer() {
        // One bucket, of five entries.
        let (table, nowhere) = (Table::new(1), nowhere());
        let keys = keys(6);
        for (number, key) in (0..).zip(&keys) {
            let now = number * 2_000_000;
            assert!(matches!(
                table.decide(*key, &rule(1), &nowhere, (now, 1)),
                Ok(Ok(_))
            ));
        }
        let known = keys.iter().map(|key| table.0.find(*key).is_some());
        assert!(known.eq([false, true, true, true, true, true]));
    }

    #[test]
    fn a_full_table_says_so() {
        let (table, nowhere) = (Table::new(100), nowhere());
        let refused = keys(10_000)
            .into_iter()
            .filter(|key| table.decide(*key, &rule(1), &nowhere, (5, 1)) == Err(Full));
        assert!(refused.count() > 9_000);
    }

    #[test]
    fn many_threads_on_one_key_admit_exactly_the_limit() {
        for _ in 0..20 {
            let (table, nowhere) = (Table::new(1000), nowhere());
            let keys = keys(50);
            let admitted = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for key in keys.iter().cycle().take(50 * 100) {
                            if table
                                .decide(*key, &rule(77), &nowhere, (5, 1))
                                .unwrap()
                                .is_ok()
                            {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 50 * 77);
        }
    }
}
