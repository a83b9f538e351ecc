//! Which limit an entry of the table is of, for those who have nothing but the entry.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::algorithm::Rule;
use super::key::{MOST_CLASSES, class_of};
use super::overflow::Overflow;

/// The limits that count in a table, each by the number that is in its keys' fingerprints.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// At the number less one.
    known: ArcSwap<Vec<Arc<Class>>>,
    /// Of those who compile limits.
    changing: Mutex<()>,
}

/// A limit.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// The limit's number, which is the same after a reload.
    id: u64,
    pub(super) rule: Rule,
    /// Where its keys are counted that find no room.
    pub(super) overflow: Arc<Overflow>,
    /// Units that weigh as much as a request of another limit: many, where it is bytes that are counted.
    pub(super) unit: u64,
    holders: Weak<ClassNumber>,
}

impl Class {
    /// What an entry in this state has counted, and the rule of its time.
    pub(super) fn used(&self, state: u64, expires: u64, now: u64) -> (Rule, u64) {
        let rule = self.rule.of_state(state);
        let live = rule.unless_expired(state, expires, now);
        (rule, rule.used(live, now))
    }
}

/// Kept by whoever counts keys of a class, so that its number is not given to another one.
#[derive(Debug)]
pub(super) struct ClassNumber(u64);

impl ClassNumber {
    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

impl Classes {
    /// The number of the limit of this identity, before a reload and after it; 0 if all are taken.
    pub(super) fn number_of(
        &self,
        id: u64,
        (rule, unit): (&Rule, u64),
        overflow: &Arc<Overflow>,
    ) -> Arc<ClassNumber> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Vec::clone(&self.known.load());
        let is_held = |class: &Arc<Class>| class.holders.strong_count() > 0;
        let same = known.iter().position(|class| class.id == id);
        if let Some(holders) = same.and_then(|index| known[index].holders.upgrade()) {
            return holders;
        }
        let has_room = known.len() < MOST_CLASSES;
        // Entries of limits that are gone are taken for those of the one that comes in their place; they
        // are of no use to anybody.
        let index = match same {
            Some(index) => index,
            None if has_room => known.len(),
            None => match known.iter().position(|class| !is_held(class)) {
                Some(index) => index,
                None => return Arc::new(ClassNumber(0)),
            },
        };
        let number = Arc::new(ClassNumber(index as u64 + 1));
        let class = Arc::new(Class {
            id,
            rule: *rule,
            overflow: overflow.clone(),
            unit,
            holders: Arc::downgrade(&number),
        });
        match index == known.len() {
            true => known.push(class),
            false => known[index] = class,
        }
        self.known.store(Arc::new(known));
        number
    }

    /// The limit of a key of which no more is known than its fingerprint.
    pub(super) fn of(&self, fingerprint: u64) -> Option<Arc<Class>> {
        let index = class_of(fingerprint).checked_sub(1)?;
        self.known.load().get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::super::key::KeyHash;
    use super::*;

    const RULE: Rule = Rule {
        algorithm: Algorithm::FixedWindow,
        limit: 1,
        window: 1,
        burst: 1,
    };

    #[test]
    fn a_limit_keeps_its_number_and_what_is_gone_makes_room() {
        let classes = Classes::default();
        let overflow = Arc::new(Overflow::new(1, 1));
        let number_of = |id| classes.number_of(id, (&RULE, 1), &overflow);
        let mut held: Vec<_> = (0..MOST_CLASSES as u64).map(number_of).collect();
        assert_eq!(number_of(77).value(), held[77].value());
        assert_eq!(number_of(u64::MAX).value(), 0);
        let gone = held.remove(77).value();
        // A reload drops the old ones when the new ones are there, or later.
        assert_eq!(number_of(77).value(), gone);
        assert_eq!(number_of(u64::MAX).value(), gone);
        let key = KeyHash {
            place: 0,
            fingerprint: u64::MAX,
        };
        let of = |class| classes.of(key.in_class(class).fingerprint);
        assert_eq!(of(gone).unwrap().id, u64::MAX);
        assert!(of(0).is_none());
    }
}
