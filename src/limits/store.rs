//! Where counts live: one store for all limits, kept across reloads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::algorithm::{Admitted, Refused, Rule};
use super::calendar::Zone;
use super::classes::Classes;
use super::clock::Clock;
use super::heavy::{Contender, estimated};
use super::key::{Hashing, KeyHash, MOST_CLASSES, class_of};
use super::key_text::Salt;
use super::lines::Lines;
use super::overflow::Overflow;
use super::slots::Full;
use super::table::Table;
use super::top_keys::AllTopKeys;

/// Counts of all limits.
#[derive(Debug)]
pub struct Store {
    pub(super) hashing: Hashing,
    table: Table,
    pub(super) classes: Classes,
    pub(super) top_keys: AllTopKeys,
    pub(super) salt: Salt,
    keys: usize,
    pub(super) clock: Clock,
    /// Time zones in use. Locked as the overflows are.
    zones: Mutex<Vec<Arc<Zone>>>,
    /// One for each order of magnitude of windows in use, for requests and for bytes: a few bytes would be
    /// many requests. Locked when limits are compiled and by the background task, never by a request.
    overflows: Mutex<Vec<(Counting, Arc<Overflow>)>>,
    /// Who waits for the limits of these numbers. Locked when limits are compiled.
    lines: Mutex<Vec<(u64, Weak<Lines>)>>,
}

/// What limits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Requests, or what these cost.
    Requests,
    Bytes,
}

impl Store {
    /// A store that counts at least `keys` keys exactly at a time.
    pub fn new(keys: usize) -> Self {
        Self::with_clock(keys, Clock::default())
    }

    pub(super) fn with_clock(keys: usize, clock: Clock) -> Self {
        Self {
            hashing: Hashing::default(),
            table: Table::new(keys),
            classes: Classes::default(),
            top_keys: AllTopKeys::default(),
            salt: Salt::default(),
            keys,
            clock,
            zones: Mutex::default(),
            overflows: Mutex::default(),
            lines: Mutex::default(),
        }
    }

    /// The number of keys it was made for.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Microseconds on this store's clock.
    pub fn clock(&self, now: Instant) -> u64 {
        self.clock.now(now)
    }

    /// Begins new periods of the overflow counts where it is time, and looks at the calendars. To be
    /// called about once a second, off the workers.
    pub fn tick(&self, now: Instant) {
        let now = self.clock(now);
        for (_, overflow) in self.overflows().iter() {
            overflow.rotate(now);
        }
        self.top_keys.fade(now);
        let mut zones = self.zones();
        zones.retain(|zone| Arc::strong_count(zone) > 1);
        for zone in zones.iter() {
            zone.turn(&self.clock);
        }
    }

    /// Requests so far whose key found no room and was counted by estimate.
    pub fn overflowed(&self) -> u64 {
        self.overflows()
            .iter()
            .map(|(_, overflow)| overflow.requests())
            .sum()
    }

    /// The time zone of this name.
    ///
    /// # Errors
    /// The name that was probably meant, if there is none like this.
    pub(super) fn zone(&self, name: &str) -> Result<Arc<Zone>, Option<String>> {
        let mut zones = self.zones();
        if let Some(known) = zones.iter().find(|zone| zone.name() == name) {
            return Ok(known.clone());
        }
        let zone = Arc::new(Zone::find(name, &self.clock)?);
        zones.push(zone.clone());
        Ok(zone)
    }

    /// How many keys are counted exactly now, by the class of their limits. Looks at the whole table.
    pub fn keys_by_class(&self) -> Vec<usize> {
        let now = self.clock(Instant::now());
        let mut counts = vec![0; MOST_CLASSES + 1];
        for fingerprint in self.table.keys(now) {
            counts[class_of(fingerprint)] += 1;
        }
        counts
    }

    /// The overflow counts for windows of `window` microseconds.
    pub(super) fn overflow_for(&self, window: u64, counting: Counting) -> Arc<Overflow> {
        let length = window.next_power_of_two();
        let mut overflows = self.overflows();
        let mut known = overflows.iter();
        let known = known.find(|(what, it)| *what == counting && it.length() == length);
        if let Some((_, overflow)) = known {
            return overflow.clone();
        }
        let overflow = Arc::new(Overflow::new(length, self.keys));
        overflows.push((counting, overflow.clone()));
        overflow
    }

    /// Who waits for the limit of this number, before a reload and after it.
    pub(super) fn lines_for(&self, limit: u64) -> Arc<Lines> {
        let mut known = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, lines)| lines.strong_count() > 0);
        let same = known.iter().find(|(id, _)| *id == limit);
        if let Some(lines) = same.and_then(|(_, lines)| lines.upgrade()) {
            return lines;
        }
        let lines = Arc::new(Lines::default());
        known.push((limit, Arc::downgrade(&lines)));
        lines
    }

    /// Decides on one request that costs `cost` and counts it if it is admitted.
    pub(super) fn decide(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
        cost: u64,
    ) -> Result<Admitted, Refused> {
        match self.table.decide(key, rule, overflow, (now, cost)) {
            Ok(decision) => decision,
            Err(Full) if cost > rule.limit => Err(Refused {
                remaining: rule
                    .limit
                    .saturating_sub(overflow.count(estimated(key, rule))),
                retry: None,
            }),
            Err(Full) => {
                let contender = Contender {
                    key,
                    rule,
                    overflow,
                };
                self.estimate(&contender, now, cost)
            }
        }
    }

    /// Decides by what the sketch has of a key, which may become too much for it.
    fn estimate(
        &self,
        contender: &Contender<'_>,
        now: u64,
        cost: u64,
    ) -> Result<Admitted, Refused> {
        let Contender {
            key,
            rule,
            overflow,
        } = *contender;
        let counted = overflow.admit(estimated(key, rule), rule.limit, cost);
        let count = counted.map_err(|count| refusal(rule, count, now))?;
        // Another request may have brought the key into the table, without knowing of this one.
        if self.table.has_settled(key)
            && let Ok(decision) = self.table.decide(key, rule, overflow, (now, cost))
        {
            return decision;
        }
        let promoted = self.table.promote(contender, count, now, &self.classes);
        Ok(promoted.unwrap_or_else(|| rule.estimate(count, now)))
    }

    /// Counts `cost` units, whether or not they are left.
    pub(super) fn charge(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
        cost: u64,
    ) -> Admitted {
        let charge = || self.table.charge(key, rule, overflow, (now, cost));
        if let Ok(charged) = charge() {
            return charged;
        }
        let count = overflow.charge(estimated(key, rule), cost);
        if self.table.has_settled(key)
            && let Ok(charged) = charge()
        {
            return charged;
        }
        let contender = Contender {
            key,
            rule,
            overflow,
        };
        let promoted = self.table.promote(&contender, count, now, &self.classes);
        promoted.unwrap_or_else(|| rule.estimate(count, now))
    }

    /// What would be decided on one request that costs nothing.
    pub(super) fn look(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
    ) -> Result<Admitted, Refused> {
        match self.table.look(key, rule, overflow, now) {
            Ok(decision) => decision,
            Err(Full) => match overflow.count(estimated(key, rule)) {
                count if count < rule.limit => Ok(rule.estimate(count, now)),
                count => Err(refusal(rule, count, now)),
            },
        }
    }

    /// The state of a key that is counted exactly.
    pub(super) fn state(&self, key: KeyHash, rule: &Rule, now: u64) -> Option<u64> {
        self.table.state(key, rule, now)
    }

    /// Takes back what one request cost that was admitted at `now`, wherever it was counted.
    pub(super) fn refund(
        &self,
        key: KeyHash,
        rule: &Rule,
        overflow: &Overflow,
        now: u64,
        cost: u64,
    ) {
        if !self.table.refund(key, rule, cost) {
            overflow.refund(estimated(key, rule), cost, now);
        }
    }

    /// Has a key begin anew.
    pub(super) fn reset(&self, key: KeyHash, overflow: &Overflow, now: u64) {
        let until = now + overflow.memory();
        self.table.reset(key, until, now, &self.classes);
    }

    fn zones(&self) -> MutexGuard<'_, Vec<Arc<Zone>>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overflows(&self) -> MutexGuard<'_, Vec<(Counting, Arc<Overflow>)>> {
        self.overflows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal by an estimate.
fn refusal(rule: &Rule, count: u64, now: u64) -> Refused {
    let Admitted {
        remaining, reset, ..
    } = rule.estimate(count, now);
    Refused {
        remaining,
        retry: Some(reset),
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::{Algorithm, CalendarPeriod};
    use super::super::key::Parts;
    use super::*;

    const RULE: Rule = Rule {
        algorithm: Algorithm::SlidingWindow,
        limit: 3,
        window: 60_000_000,
        burst: 3,
    };

    /// Requests admitted out of `each` for every one of `keys` keys, in turn.
    fn admitted(store: &Store, keys: u64, each: usize) -> Vec<usize> {
        let overflow = store.overflow_for(RULE.window, Counting::Requests);
        let hashes: Vec<KeyHash> = (0..keys)
            .map(|key| store.hashing.key(1, |parts| parts.number(key)))
            .collect();
        let mut admitted = vec![0; hashes.len()];
        for _ in 0..each {
            for (index, key) in hashes.iter().enumerate() {
                admitted[index] += usize::from(store.decide(*key, &RULE, &overflow, 1, 1).is_ok());
            }
        }
        admitted
    }

    #[test]
    fn the_configured_number_of_keys_is_counted_exactly() {
        let store = Store::new(100_000);
        assert!(admitted(&store, 100_000, 4).iter().all(|count| *count == 3));
        assert_eq!(store.overflowed(), 0);
    }

    #[test]
    fn beyond_it_no_key_gets_more_and_few_get_less() {
        let store = Store::new(50_000);
        let counts = admitted(&store, 200_000, 4);
        assert!(counts.iter().all(|count| *count <= 3));
        assert!(store.overflowed() > 0);
        // The table holds 77,000 keys here; 123,000 share four rows of 3,125 counters.
        let exact = counts.iter().filter(|count| **count == 3).count();
        assert!(exact >= 50_000, "{exact}");
    }

    #[test]
    fn what_is_estimated_costs_no_less_and_is_of_its_own_period() {
        let store = Store::new(1);
        let period = |number| Rule {
            algorithm: Algorithm::Calendar(CalendarPeriod {
                number,
                end: 1000,
                left: 1,
            }),
            limit: 1_000_000,
            ..RULE
        };
        let (june, july) = (period(677), period(678));
        let overflow = store.overflow_for(june.window, Counting::Requests);
        let hash = |key| store.hashing.key(1, |parts| parts.number(key));
        for key in 0..100 {
            store.charge(hash(key), &june, &overflow, 1, 10);
        }
        let before = store.overflowed();
        let key = hash(100);
        let decide = |rule, cost| store.decide(key, rule, &overflow, 1, cost);
        assert_eq!(decide(&june, 600_000).unwrap().remaining, 400_000);
        let refused = decide(&june, 400_001).unwrap_err();
        assert_eq!((refused.remaining, refused.retry), (400_000, Some(999)));
        assert_eq!(decide(&june, 1_000_001).unwrap_err().retry, None);
        assert_eq!(
            store.charge(key, &june, &overflow, 1, u64::MAX).remaining,
            0
        );
        assert!(store.look(key, &june, &overflow, 1).is_err());
        assert!(decide(&july, 1_000_000).is_ok());
        store.refund(key, &july, &overflow, 1, 1_000_000);
        assert!(store.look(key, &july, &overflow, 1).is_ok());
        assert!(store.overflowed() > before);
    }

    #[test]
    fn a_moderate_overflow_is_hardly_too_strict() {
        let store = Store::new(1_000_000);
        let overflow = store.overflow_for(RULE.window, Counting::Requests);
        // λ = 6,250 keys in 62,500 columns: (1 − e^−0.1)^4 = 8e-5 of them collide in all rows.
        let refused = (0..6_250u64)
            .map(|key| store.hashing.key(1, |parts| parts.number(key)).fingerprint)
            .filter(|key| (0..3).any(|_| overflow.admit(*key, RULE.limit, 1).is_err()))
            .count();
        assert!(refused <= 12, "{refused}");
    }
}
