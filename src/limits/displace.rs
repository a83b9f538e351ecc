//! Gives a key the place of another one that is still of use.

use std::sync::atomic::Ordering;

use super::key::KeyHash;
use super::slots::{CLAIMED, FINGERPRINT, Slot, Slots};

impl<const WORDS: usize> Slots<WORDS> {
    /// Replaces the entry of a key's buckets that weighs least, if the key has none. `weigh` says what the
    /// entry of a fingerprint weighs, or that it has to stay; `replace` takes what it counted and puts the
    /// new key's words in place, while requests of neither key get anywhere. Whether that was done.
    pub(super) fn displace<W: Ord>(
        &self,
        key: KeyHash,
        weigh: impl Fn(u64, &Slot<WORDS>) -> Option<W>,
        replace: impl FnOnce(u64, &Slot<WORDS>),
    ) -> bool {
        let _mine = self.lock(key.fingerprint);
        if self.find(key).is_some() {
            return false;
        }
        let weighed = self.entries_of(key).filter_map(|slot| {
            let fingerprint = slot[FINGERPRINT].load(Ordering::Acquire);
            let is_whole = fingerprint > CLAIMED;
            let weight = is_whole.then(|| weigh(fingerprint, slot)).flatten()?;
            Some((weight, fingerprint, slot))
        });
        let Some((_, fingerprint, slot)) = weighed.min_by(|one, other| one.0.cmp(&other.0)) else {
            return false;
        };
        // Not waited for: two who want each other's would wait for ever.
        let theirs = self.try_lock(fingerprint);
        if theirs.is_none() && !self.share_lock(fingerprint, key.fingerprint) {
            return false;
        }
        let is_claimed = slot[FINGERPRINT]
            .compare_exchange(fingerprint, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if is_claimed {
            replace(fingerprint, slot);
            slot[FINGERPRINT].store(key.fingerprint, Ordering::Release);
        }
        is_claimed
    }
}
