//! Signatures that were used, so that none is used twice: bounded, without locks, and without a sweeper,
//! since a place whose signature is too old is as good as free.
//!
//! A place holds 32 bits of a keyed hash and the time of the signature's creation. Nobody can tell which
//! signatures share places; a fresh one is taken for one that was used about once in 10^8 while half of
//! the places are taken, and never the other way round.

use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

use super::super::refusal::Refusal;

/// Signatures that are remembered at most: 2 MiB, taken as they are written.
const PLACES: usize = 1 << 18;
/// Neighbours that a signature may be in. While half of all places are taken, all of these are for less
/// than one signature in 10^8, which is then refused.
const REACH: usize = 64;
const HALF: u64 = u32::MAX as u64;

/// The memory of a provider.
pub(super) struct Memory {
    seed: RandomState,
    places: Box<[AtomicU64]>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

impl Memory {
    fn with_places(places: usize) -> Self {
        Self {
            seed: RandomState::new(),
            places: bytemuck::allocation::zeroed_slice_box(places),
        }
    }

    /// Remembers that a signature is used, which was created then. Those from before `oldest` are too
    /// old to count.
    ///
    /// # Errors
    /// If it was used before, or nothing more can be remembered: what can't be remembered must not pass.
    pub(super) fn remember(
        &self,
        signature: &[u8],
        created: u64,
        oldest: u64,
    ) -> Result<(), Refusal> {
        let around = self.around(signature, oldest);
        let new = created.min(HALF) << 32 | around.fingerprint;
        loop {
            let (place, held) = around.find()?;
            let taken = place.compare_exchange(held, new, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_ok() {
                break;
            }
        }
        // Another thread, for which another place became free in this moment, may have brought the same.
        let held = around.places().map(|place| place.load(Ordering::SeqCst));
        match held
            .filter(|held| !around.is_free(*held) && around.is_same(*held))
            .count()
        {
            0 | 1 => Ok(()),
            _ => Err(Refusal::Replayed),
        }
    }

    /// Whether a signature could be used now; afterwards it still can.
    ///
    /// # Errors
    /// As [`Memory::remember`].
    pub(super) fn check(&self, signature: &[u8], oldest: u64) -> Result<(), Refusal> {
        self.around(signature, oldest).find().map(|_| ())
    }

    fn around(&self, signature: &[u8], oldest: u64) -> Around<'_> {
        let hash = self.seed.hash_one(signature);
        Around {
            places: &self.places,
            start: (hash >> 32) as usize,
            fingerprint: hash & HALF,
            oldest: oldest.min(HALF),
        }
    }
}

/// The places that a signature may be in.
struct Around<'m> {
    places: &'m [AtomicU64],
    start: usize,
    fingerprint: u64,
    /// What is from before this is too old to count.
    oldest: u64,
}

impl<'m> Around<'m> {
    fn places(&self) -> impl Iterator<Item = &'m AtomicU64> {
        let reach = self.start..self.start + REACH.min(self.places.len());
        let places = self.places;
        reach.map(|index| &places[index % places.len()])
    }

    fn is_same(&self, held: u64) -> bool {
        held & HALF == self.fingerprint
    }

    fn is_free(&self, held: u64) -> bool {
        held == 0 || held >> 32 < self.oldest
    }

    /// A place that is free, and what is in it.
    fn find(&self) -> Result<(&'m AtomicU64, u64), Refusal> {
        let mut free = None;
        for place in self.places() {
            let held = place.load(Ordering::SeqCst);
            if self.is_free(held) {
                free = free.or(Some((place, held)));
            } else if self.is_same(held) {
                return Err(Refusal::Replayed);
            }
        }
        free.ok_or(Refusal::MemoryFull)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_is_used_once_until_it_is_too_old() {
        let memory = Memory::default();
        assert_eq!(memory.check(b"a", 50), Ok(()));
        assert_eq!(memory.remember(b"a", 100, 50), Ok(()));
        assert_eq!(memory.check(b"a", 50), Err(Refusal::Replayed));
        for oldest in [50, 99, 100] {
            assert_eq!(memory.remember(b"a", 100, oldest), Err(Refusal::Replayed));
        }
        assert_eq!(memory.remember(b"b", 100, 100), Ok(()));
        // One of that age is refused before it is looked for.
        assert_eq!(memory.remember(b"a", 100, 101), Ok(()));
    }

    #[test]
    fn a_full_memory_lets_nothing_pass_and_forgets_nothing() {
        let memory = Memory::with_places(128);
        let passed: Vec<u32> = (0..1000_u32)
            .filter(|it| memory.remember(&it.to_be_bytes(), 100, 50).is_ok())
            .collect();
        assert!((64..=128).contains(&passed.len()), "{}", passed.len());
        for it in 0..1000_u32 {
            let refusal = memory.remember(&it.to_be_bytes(), 100, 100).unwrap_err();
            match passed.contains(&it) {
                true => assert_eq!(refusal, Refusal::Replayed),
                false => assert_eq!(refusal, Refusal::MemoryFull),
            }
        }
        assert_eq!(memory.remember(b"later", 101, 101), Ok(()));
    }

    #[test]
    fn of_many_who_come_at_once_one_passes() {
        let memory = Memory::with_places(4096);
        let passed: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (number, passed) in passed.iter().enumerate() {
                        if memory.remember(&number.to_be_bytes(), 100, 50).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(passed.iter().all(|it| it.load(Ordering::Relaxed) == 1));
    }

    proptest! {
        #[test]
        fn nothing_passes_twice_in_its_time(
            steps in prop::collection::vec((0_u8..4, 0_u64..8, 0_u64..2), 1..300),
        ) {
            let memory = Memory::with_places(256);
            let mut used = HashSet::new();
            let mut now = 100;
            for (name, age, pause) in steps {
                now += pause;
                let created = now - age;
                let signature = [name, created as u8];
                let expected = match used.insert(signature) {
                    true => Ok(()),
                    false => Err(Refusal::Replayed),
                };
                prop_assert_eq!(memory.remember(&signature, created, now - 8), expected);
            }
        }
    }
}
