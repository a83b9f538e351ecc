//! Entries by key in a table of fixed size: without locks on the way of a request, and without a
//! sweeper, since an entry that has expired is as good as free.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::key::KeyHash;

/// Words of a bucket that hold entries.
const LOCK: usize = 15;
/// Buckets that a key may be in.
const CHOICES: usize = 3;
const HALF: u64 = u32::MAX as u64;
/// The fingerprint of an entry that is being filled.
pub(super) const CLAIMED: u64 = 1;
/// Of an entry: what its key is known by; zero if it never had one.
pub(super) const FINGERPRINT: usize = 0;
/// Of an entry: when it is as good as free.
pub(super) const EXPIRES: usize = 1;

/// Two cache lines: entries, and a lock that is taken by those only who bring a key into the table. Plain
/// words, so that a table of them can be had zeroed, without being written.
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

/// Nobody else brings a key of this lock into the table.
pub(super) struct Locked<'t>(&'t AtomicU64);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

fn slots<const WORDS: usize>(bucket: &Bucket) -> &[Slot<WORDS>] {
    bucket[..LOCK].as_chunks().0
}

/// Keeps an entry until then, or longer if it was to be.
pub(super) fn keep<const WORDS: usize>(slot: &Slot<WORDS>, until: u64) {
    // Mostly it is, and to write what is there already costs as much as anything else.
    if expires(slot) < until {
        slot[EXPIRES].fetch_max(until, Ordering::AcqRel);
    }
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
    /// A key goes into its first bucket, where it is looked for first, while fewer entries than this are taken
    /// there. So, of five entries a bucket, three of four keys do in a table that is as full as may be, and nearly
    /// all in one that is half full.
    const PREFERRED: usize = Self::WAYS.div_ceil(2);

    /// A table for at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        // So far a table may be filled: with three choices of a bucket of five entries about one key in
        // 10^7 then finds all of them full, of two entries one in 2,000 (fluid limit of Mitzenmacher, "The
        // Power of Two Choices in Randomized Load Balancing").
        let (part, whole) = if Self::WAYS < 5 { (2, 5) } else { (13, 20) };
        let buckets = keys * whole / part / Self::WAYS + 1;
        Self {
            buckets: bytemuck::allocation::zeroed_slice_box(buckets),
        }
    }

    /// Bytes that it takes when all of it has been written.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Keys that have an entry.
    pub(super) fn keys(&self, now: u64) -> usize {
        let slots = self.buckets.iter().flat_map(slots::<WORDS>);
        slots.filter(|it| !is_free(it, now)).count()
    }

    fn buckets_of(&self, key: KeyHash) -> [&Bucket; CHOICES] {
        // Three independent halves of the key's two hashes.
        [key.place & HALF, key.place >> 32, key.fingerprint >> 32].map(|half| self.bucket(half))
    }

    /// The bucket of a half, which is scaled to their number.
    fn bucket(&self, half: u64) -> &Bucket {
        &self.buckets[((half * self.buckets.len() as u64) >> 32) as usize]
    }

    /// What the keys that have an entry are known by.
    pub(super) fn fingerprints(&self, now: u64) -> impl Iterator<Item = u64> {
        let slots = self.buckets.iter().flat_map(slots::<WORDS>);
        let live = slots.filter(move |slot| !is_free(slot, now));
        live.map(|slot| slot[FINGERPRINT].load(Ordering::Relaxed))
    }

    /// All entries that a key could have.
    pub(super) fn entries_of(&self, key: KeyHash) -> impl Iterator<Item = &Slot<WORDS>> {
        self.buckets_of(key).into_iter().flat_map(slots)
    }

    /// The lock of the keys of a fingerprint. It is found by that alone, which is all that an entry says of
    /// its key.
    fn lock_of(&self, fingerprint: u64) -> &AtomicU64 {
        &self.bucket(fingerprint >> 32)[LOCK]
    }

    pub(super) fn lock(&self, fingerprint: u64) -> Locked<'_> {
        loop {
            if let Some(locked) = self.try_lock(fingerprint) {
                return locked;
            }
            std::hint::spin_loop();
        }
    }

    pub(super) fn try_lock(&self, fingerprint: u64) -> Option<Locked<'_>> {
        let lock = self.lock_of(fingerprint);
        lock.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| Locked(lock))
    }

    /// Whether keys of two fingerprints have one lock.
    pub(super) fn share_lock(&self, one: u64, other: u64) -> bool {
        std::ptr::eq(self.lock_of(one), self.lock_of(other))
    }

    /// The entry of a key, if it has one, when nobody is about to bring it in.
    pub(super) fn find_settled(&self, key: KeyHash) -> Option<&Slot<WORDS>> {
        // What this thread did before is seen by whoever locks later; see `Table::promote`.
        fence(Ordering::SeqCst);
        let lock = self.lock_of(key.fingerprint);
        while lock.load(Ordering::Acquire) != 0 {
            std::hint::spin_loop();
        }
        self.find(key)
    }

    /// The entry of a key, if it has one.
    pub(super) fn find(&self, key: KeyHash) -> Option<&Slot<WORDS>> {
        self.entries_of(key).find(|slot| is_of(slot, key))
    }

    /// Whether a key that has no entry could have one.
    pub(super) fn has_room(&self, key: KeyHash, now: u64) -> bool {
        self.entries_of(key).any(|it| is_free(it, now))
    }

    /// The entry of a key, or a new one in one of its buckets. Insertions of one key follow each other,
    /// so that a key never has two entries. A new one is free again after `now` unless it is kept.
    pub(super) fn find_or_insert(&self, key: KeyHash, now: u64) -> Result<&Slot<WORDS>, Full> {
        self.find_or_begin(key, now, |_| {})
    }

    /// The same, where a new entry begins with what `begin` puts into it before anybody finds it.
    pub(super) fn find_or_begin(
        &self,
        key: KeyHash,
        now: u64,
        begin: impl FnOnce(&Slot<WORDS>),
    ) -> Result<&Slot<WORDS>, Full> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let _locked = self.lock(key.fingerprint);
        match self.find(key) {
            Some(slot) => Ok(slot),
            None => take_free(self.buckets_of(key), key, now, begin).ok_or(Full),
        }
    }
}

/// Fills a free or expired entry: of the first bucket if that has enough of them, else of the one with most. It is
/// the one that has been free for longest, so that keys whose entries expire early find them again.
fn take_free<const WORDS: usize>(
    mut buckets: [&Bucket; CHOICES],
    key: KeyHash,
    now: u64,
    begin: impl FnOnce(&Slot<WORDS>),
) -> Option<&Slot<WORDS>> {
    let taken = |bucket: &&Bucket| Slots::<WORDS>::WAYS - free::<WORDS>(bucket, now).count();
    if taken(&buckets[0]) >= Slots::<WORDS>::PREFERRED {
        buckets.sort_by_key(taken);
    }
    for bucket in buckets {
        // Whoever else brings a key in takes one of them at most, or gives it back.
        for _ in 0..Slots::<WORDS>::WAYS {
            let Some(slot) = free(bucket, now).min_by_key(|it| expires(it)) else {
                break;
            };
            if claim(slot, now) {
                for word in &slot[EXPIRES + 1..] {
                    word.store(0, Ordering::Release);
                }
                // Kept for a moment, until it is first used.
                slot[EXPIRES].store(now + 1, Ordering::Release);
                begin(slot);
                slot[FINGERPRINT].store(key.fingerprint, Ordering::Release);
                return Some(slot);
            }
        }
    }
    None
}

/// The entries of a bucket that are free.
fn free<const WORDS: usize>(bucket: &Bucket, now: u64) -> impl Iterator<Item = &Slot<WORDS>> {
    slots(bucket).iter().filter(move |slot| is_free(slot, now))
}

/// Takes an entry that was free, unless somebody else does or its key comes back in this very moment.
fn claim<const WORDS: usize>(slot: &Slot<WORDS>, now: u64) -> bool {
    let fingerprint = slot[FINGERPRINT].load(Ordering::Relaxed);
    let is_mine = is_free(slot, now)
        && slot[FINGERPRINT]
            .compare_exchange(fingerprint, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
    if is_mine && expires(slot) > now {
        slot[FINGERPRINT].store(fingerprint, Ordering::Release);
        return false;
    }
    is_mine
}
