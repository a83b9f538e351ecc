//! Entries by key in a table of fixed size: without locks on the way of a request, and without a
//! sweeper, since an entry that has expired is as good as free.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::KeyHash;

/// Words of a bucket that hold entries.
const LOCK: usize = 15;
/// Buckets that a key may be in.
const CHOICES: usize = 3;
const HALF: u64 = u32::MAX as u64;
/// The fingerprint of an entry that is being filled.
const CLAIMED: u64 = 1;
/// Of an entry: what its key is known by; zero if it never had one.
const FINGERPRINT: usize = 0;
/// Of an entry: when it is as good as free.
const EXPIRES: usize = 1;

/// Two cache lines: entries, and a lock that only insertions take. Plain words, so that a table of them
/// can be had zeroed, without being written.
type Bucket = [AtomicU64; LOCK + 1];

/// The words of one key: two of the table's own, then what is kept of the key, zero at first.
pub(super) type Slot<const WORDS: usize> = [AtomicU64; WORDS];

/// The table. Memory is taken when it is first written.
#[derive(Debug)]
pub(super) struct Slots<const WORDS: usize> {
    buckets: Box<[Bucket]>,
}

/// None of a key's buckets has room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

fn slots<const WORDS: usize>(bucket: &Bucket) -> &[Slot<WORDS>] {
    bucket[..LOCK].as_chunks().0
}

/// Keeps an entry until then, or longer if it was to be.
pub(super) fn keep<const WORDS: usize>(slot: &Slot<WORDS>, until: u64) {
    slot[EXPIRES].fetch_max(until, Ordering::AcqRel);
}

/// When an entry is as good as free.
pub(super) fn expires<const WORDS: usize>(slot: &Slot<WORDS>) -> u64 {
    slot[EXPIRES].load(Ordering::Acquire)
}

fn is_free<const WORDS: usize>(slot: &Slot<WORDS>, now: u64) -> bool {
    slot[FINGERPRINT].load(Ordering::Relaxed) != CLAIMED && expires(slot) <= now
}

/// Whether an entry is still that of the key.
pub(super) fn is_of<const WORDS: usize>(slot: &Slot<WORDS>, key: KeyHash) -> bool {
    slot[FINGERPRINT].load(Ordering::Acquire) == key.fingerprint
}

impl<const WORDS: usize> Slots<WORDS> {
    /// Entries of a bucket.
    const WAYS: usize = LOCK / WORDS;

    /// A table for at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        // With three choices of a bucket of five, about one key in 10^9 finds all of them full while
        // the table is filled to 13 parts in 20 (fluid limit of Mitzenmacher, "The Power of Two
        // Choices in Randomized Load Balancing").
        let buckets = keys * 20 / 13 / Self::WAYS + 1;
        Self {
            buckets: bytemuck::allocation::zeroed_slice_box(buckets),
        }
    }

    fn buckets_of(&self, key: KeyHash) -> [&Bucket; CHOICES] {
        let count = self.buckets.len() as u64;
        // Three independent halves of the key's two hashes, each scaled to the number of buckets.
        [key.place & HALF, key.place >> 32, key.fingerprint >> 32]
            .map(|half| &self.buckets[((half * count) >> 32) as usize])
    }

    /// The entry of a key, if it has one.
    pub(super) fn find(&self, key: KeyHash) -> Option<&Slot<WORDS>> {
        self.buckets_of(key)
            .into_iter()
            .flat_map(slots)
            .find(|slot| is_of(slot, key))
    }

    /// Whether a key that has no entry could have one.
    pub(super) fn has_room(&self, key: KeyHash, now: u64) -> bool {
        let buckets = self.buckets_of(key).into_iter();
        buckets.flat_map(slots::<WORDS>).any(|it| is_free(it, now))
    }

    /// The entry of a key, or a new one in one of its buckets. Insertions of one key follow each other,
    /// so that a key never has two entries. A new one is free again after `now` unless it is kept.
    pub(super) fn find_or_insert(&self, key: KeyHash, now: u64) -> Result<&Slot<WORDS>, Full> {
        match self.find(key) {
            Some(slot) => Ok(slot),
            None => self.insert(key, now),
        }
    }

    fn insert(&self, key: KeyHash, now: u64) -> Result<&Slot<WORDS>, Full> {
        let buckets = self.buckets_of(key);
        let lock = &buckets[0][LOCK];
        while lock
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            std::hint::spin_loop();
        }
        let slot = match self.find(key) {
            Some(slot) => Ok(slot),
            None => take_free(buckets, key, now).ok_or(Full),
        };
        lock.store(0, Ordering::Release);
        slot
    }
}

/// Fills a free or expired entry, of the bucket with most of them.
fn take_free<const WORDS: usize>(
    mut buckets: [&Bucket; CHOICES],
    key: KeyHash,
    now: u64,
) -> Option<&Slot<WORDS>> {
    buckets.sort_by_key(|bucket| {
        slots::<WORDS>(bucket)
            .iter()
            .filter(|it| !is_free(it, now))
            .count()
    });
    for slot in buckets.into_iter().flat_map(slots) {
        let fingerprint = slot[FINGERPRINT].load(Ordering::Relaxed);
        let is_mine = is_free(slot, now)
            && slot[FINGERPRINT]
                .compare_exchange(fingerprint, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            continue;
        }
        if expires(slot) > now {
            // Its key came back in this very moment.
            slot[FINGERPRINT].store(fingerprint, Ordering::Release);
            continue;
        }
        for word in &slot[EXPIRES + 1..] {
            word.store(0, Ordering::Release);
        }
        // Kept for a moment, until it is first used.
        slot[EXPIRES].store(now + 1, Ordering::Release);
        slot[FINGERPRINT].store(key.fingerprint, Ordering::Release);
        return Some(slot);
    }
    None
}
