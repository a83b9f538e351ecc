//! Brings keys that are asked for much into the table, from the sketch that counts those without room.
//!
//! As in Space-Saving (Metwally, Agrawal and El Abbadi, 2005), a key takes the place of the lightest it
//! competes with; as in ASketch (Roy, Khan and Alonso: "Augmented Sketch", SIGMOD 2016), the other one goes on
//! in the sketch with what it has counted. Neither is ever counted too low: what the one had is in the sketch
//! before its entry is gone, and the other begins with all that the sketch may have of it.

use std::sync::atomic::{Ordering, fence};

use super::algorithm::{Admitted, Algorithm, Rule};
use super::classes::Classes;
use super::key::KeyHash;
use super::overflow::Overflow;
use super::slots::{EXPIRES, Slot, expires, is_of, keep};
use super::table::{Table, WORDS, state};

/// A key displaces one that has counted less than one in so many of its own, and of what is counted for others.
/// What an entry weighs grows by that each time, so that no more than the logarithm of the limit follow each
/// other in a window; and what the sketch is charged for the other one, who comes has sent itself.
const MARGIN: u64 = 2;

/// A key without room in the table, and where it is counted instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender<'l> {
    pub(super) key: KeyHash,
    pub(super) rule: &'l Rule,
    pub(super) overflow: &'l Overflow,
}

impl Table {
    /// Gives a key that has counted `count` in the sketch the place of one that has counted far less; what is
    /// left of its limit then.
    pub(super) fn promote(
        &self,
        contender: &Contender<'_>,
        count: u64,
        now: u64,
        classes: &Classes,
    ) -> Option<Admitted> {
        let Contender {
            key,
            rule,
            overflow,
        } = contender;
        // Most are as light as all others.
        let noise = MARGIN.saturating_mul(overflow.noise());
        let own = count.checked_sub(noise).filter(|own| *own > MARGIN)?;
        let own = own / classes.of(key.fingerprint).map_or(1, |class| class.unit);
        let weigh = |fingerprint, slot: &Slot<WORDS>| {
            let weight = weight(fingerprint, slot, now, classes)?;
            (MARGIN * weight < own).then_some(weight)
        };
        let mut begun = None;
        self.0.displace(*key, weigh, |fingerprint, slot| {
            give_up(fingerprint, slot, now, classes);
            let charged = rule.charge(0, now, estimate(*key, rule, overflow));
            begin(slot, charged.state, charged.expires);
            begun = Some(charged);
        });
        begun
    }

    /// Has a key begin anew, and keeps it `until` then, when the sketch has forgotten it. A key without
    /// room takes that of the lightest; whether it has any now.
    pub(super) fn reset(&self, key: KeyHash, until: u64, now: u64, classes: &Classes) -> bool {
        let Ok(slot) = self.0.find_or_insert(key, now) else {
            let weigh = |fingerprint, slot: &Slot<WORDS>| weight(fingerprint, slot, now, classes);
            return self.0.displace(key, weigh, |fingerprint, slot| {
                give_up(fingerprint, slot, now, classes);
                begin(slot, 0, until);
            });
        };
        keep(slot, until);
        state(slot).store(0, Ordering::Release);
        is_of(slot, key)
    }
}

/// What the estimates know a key by. Those of a calendar are told apart by the period too, since they
/// are kept for longer than that.
pub(super) fn estimated(key: KeyHash, rule: &Rule) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    match rule.algorithm {
        Algorithm::Calendar(period) => key.fingerprint ^ period.number.wrapping_mul(ODD),
        _ => key.fingerprint,
    }
}

/// What a key may have spent before it came into the table. Whoever counts in the sketch from here on looks
/// for the entry afterwards, and finds it: see [`Slots::find_settled`].
///
/// [`Slots::find_settled`]: super::slots::Slots::find_settled
pub(super) fn estimate(key: KeyHash, rule: &Rule, overflow: &Overflow) -> u64 {
    fence(Ordering::SeqCst);
    match overflow.is_empty() {
        true => 0,
        false => overflow.count(estimated(key, rule)),
    }
}

pub(super) fn begin(slot: &Slot<WORDS>, first: u64, until: u64) {
    slot[EXPIRES].store(until, Ordering::Release);
    state(slot).store(first, Ordering::Release);
}

/// What an entry weighs, if what it has counted can go on in the sketch: there, what is above the limit would
/// be forgotten before it is paid back.
fn weight(fingerprint: u64, slot: &Slot<WORDS>, now: u64, classes: &Classes) -> Option<u64> {
    let class = classes.of(fingerprint)?;
    let state = state(slot).load(Ordering::Acquire);
    let (_, used) = class.used(state, expires(slot), now);
    (used <= class.rule.limit).then(|| used.div_ceil(class.unit))
}

/// Has the sketch count on what an entry has counted.
fn give_up(fingerprint: u64, slot: &Slot<WORDS>, now: u64, classes: &Classes) {
    // A request that has counted before is in it, one that comes later does not find this state any more.
    let state = state(slot).swap(0, Ordering::AcqRel);
    if let Some(class) = classes.of(fingerprint) {
        let (rule, used) = class.used(state, expires(slot), now);
        let key = KeyHash {
            place: 0,
            fingerprint,
        };
        class.overflow.charge(estimated(key, &rule), used);
    }
}

#[cfg(test)]
mod tests;
