//! Counts by key in a table of fixed size: exact, without locks on the way of a request, and
//! without a sweeper, since an entry that has expired is as good as free.

use std::sync::atomic::{AtomicU64, Ordering};

use super::algorithm::{Admitted, Refused, Rule};
use super::key::KeyHash;

/// Entries of a bucket.
const WAYS: usize = 5;
/// Buckets that a key may be in.
const CHOICES: usize = 3;
const HALF: u64 = u32::MAX as u64;
/// The fingerprint of an entry that is being filled.
const CLAIMED: u64 = 1;

/// Two cache lines: three words for each entry, and a lock that only insertions take. Plain words,
/// so that a table of them can be had zeroed, without being written.
type Bucket = [AtomicU64; 16];
const LOCK: usize = 3 * WAYS;

/// One key's count. All zero: free.
#[derive(Debug, Clone, Copy)]
struct Entry<'t> {
    fingerprint: &'t AtomicU64,
    expires: &'t AtomicU64,
    state: &'t AtomicU64,
}

fn entries(bucket: &Bucket) -> impl Iterator<Item = Entry<'_>> {
    bucket[..LOCK].chunks_exact(3).map(|words| Entry {
        fingerprint: &words[0],
        expires: &words[1],
        state: &words[2],
    })
}

/// The table. Memory is taken when it is first written.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
}

/// None of a key's buckets has room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    /// A table for at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        // With three choices of a bucket of five, about one key in 10^9 finds all of them full while
        // the table is filled to 13 parts in 20 (fluid limit of Mitzenmacher, "The Power of Two
        // Choices in Randomized Load Balancing").
        let buckets = keys * 20 / 13 / WAYS + 1;
        Self {
            buckets: bytemuck::allocation::zeroed_slice_box(buckets),
        }
    }

    /// Decides on one request of a key and counts it if it is admitted.
    pub(super) fn decide(
        &self,
        key: KeyHash,
        rule: &Rule,
        now: u64,
    ) -> Result<Result<Admitted, Refused>, Full> {
        loop {
            let entry = match self.find(key) {
                Some(entry) => entry,
                None => self.insert(key, now)?,
            };
            let state = entry.state.load(Ordering::Acquire);
            let admitted = match rule.decide(state, now) {
                Ok(admitted) => admitted,
                // Refusals write nothing, so a flood on one key is only read.
                Err(refused) => return Ok(Err(refused)),
            };
            // Before the count, so that nobody takes the entry for free in between.
            entry.expires.fetch_max(admitted.expires, Ordering::AcqRel);
            let is_counted = entry
                .state
                .compare_exchange(state, admitted.state, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if is_counted && entry.fingerprint.load(Ordering::Acquire) == key.fingerprint {
                return Ok(Ok(admitted));
            }
        }
    }

    /// Takes one admitted request back; `false` if the key is not here.
    pub(super) fn refund(&self, key: KeyHash, rule: &Rule) -> bool {
        self.find(key).is_some_and(|entry| {
            let refund = |state| Some(rule.refund(state));
            entry
                .state
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, refund)
                .is_ok()
        })
    }

    fn buckets_of(&self, key: KeyHash) -> [&Bucket; CHOICES] {
        let count = self.buckets.len() as u64;
        // Three independent halves of the key's two hashes, each scaled to the number of buckets.
        [key.place & HALF, key.place >> 32, key.fingerprint >> 32]
            .map(|half| &self.buckets[((half * count) >> 32) as usize])
    }

    fn find(&self, key: KeyHash) -> Option<Entry<'_>> {
        self.buckets_of(key)
            .into_iter()
            .flat_map(entries)
            .find(|entry| entry.fingerprint.load(Ordering::Acquire) == key.fingerprint)
    }

    /// Makes room for a key in one of its buckets. Insertions of one key follow each other, so that
    /// a key never has two entries.
    fn insert(&self, key: KeyHash, now: u64) -> Result<Entry<'_>, Full> {
        let buckets = self.buckets_of(key);
        let lock = &buckets[0][LOCK];
        while lock
            .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            std::hint::spin_loop();
        }
        let entry = match self.find(key) {
            Some(entry) => Ok(entry),
            None => take_free(buckets, key, now).ok_or(Full),
        };
        lock.store(0, Ordering::Release);
        entry
    }
}

/// Fills a free or expired entry, of the bucket with most of them.
fn take_free<'t>(mut buckets: [&'t Bucket; CHOICES], key: KeyHash, now: u64) -> Option<Entry<'t>> {
    let is_free = |entry: &Entry<'_>| {
        entry.fingerprint.load(Ordering::Relaxed) != CLAIMED
            && entry.expires.load(Ordering::Acquire) <= now
    };
    buckets.sort_by_key(|bucket| entries(bucket).filter(|entry| !is_free(entry)).count());
    for entry in buckets.into_iter().flat_map(entries) {
        let fingerprint = entry.fingerprint.load(Ordering::Relaxed);
        let is_mine = is_free(&entry)
            && entry
                .fingerprint
                .compare_exchange(fingerprint, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            continue;
        }
        if entry.expires.load(Ordering::Acquire) > now {
            // Its key came back in this very moment.
            entry.fingerprint.store(fingerprint, Ordering::Release);
            continue;
        }
        entry.state.store(0, Ordering::Release);
        // Kept for a moment, until the first request is counted.
        entry.expires.store(now + 1, Ordering::Release);
        entry.fingerprint.store(key.fingerprint, Ordering::Release);
        return Some(entry);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::key::Hashing;
    use super::*;
    use crate::config::LimitAlgorithm;

    fn rule(limit: u64) -> Rule {
        Rule {
            algorithm: LimitAlgorithm::FixedWindow,
            limit,
            window: 1_000_000,
            burst: limit,
        }
    }

    fn keys(count: u64) -> Vec<KeyHash> {
        let hashing = Hashing::default();
        (0..count)
            .map(|key| hashing.key(7, |parts| parts.number(key)))
            .collect()
    }

    #[test]
    fn keys_are_counted_apart_up_to_the_capacity() {
        let table = Table::new(10_000);
        let rule = rule(3);
        let mut full = 0;
        for key in keys(10_000) {
            for attempt in 0..5 {
                match table.decide(key, &rule, 5) {
                    Ok(verdict) => assert_eq!(verdict.is_ok(), attempt < 3),
                    Err(Full) => full += 1,
                }
            }
        }
        assert_eq!(full, 0);
    }

    #[test]
    fn expired_entries_make_room() {
        let table = Table::new(100);
        let rule = rule(1);
        for round in 0..50 {
            let now = round * 2_000_000;
            for key in &keys(100) {
                assert!(table.decide(*key, &rule, now).unwrap().is_ok());
                assert!(table.decide(*key, &rule, now).unwrap().is_err());
            }
        }
    }

    #[test]
    fn a_full_table_says_so() {
        let table = Table::new(100);
        let refused = keys(10_000)
            .into_iter()
            .filter(|key| table.decide(*key, &rule(1), 5) == Err(Full));
        assert!(refused.count() > 9_000);
    }

    #[test]
    fn many_threads_on_one_key_admit_exactly_the_limit() {
        for _ in 0..20 {
            let table = Table::new(1000);
            let keys = keys(50);
            let admitted = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for key in keys.iter().cycle().take(50 * 100) {
                            if table.decide(*key, &rule(77), 5).unwrap().is_ok() {
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
