//! How many requests of a key are under way: exact, without locks, in memory of a fixed size.
//!
//! A key has one place in a table, which is its own while one of its requests is under way. Keys whose
//! place is another's are counted by a count-min sketch beside it, never too low. In a table that is
//! used to a fiftieth these are so few that it is hardly ever too high.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use pingora_limits::estimator::Estimator;

use super::key::{Hashing, KeyHash};

/// Eight megabytes, which are taken as they are first written. Of 20,000 keys at a time, 380 find their
/// place taken.
const PLACES: usize = 1 << 20;
/// Bits of a place that count requests; the others tell whose they are. With the choice of the place
/// that is 60 bits of a keyed hash: of 20,000 keys, two are the same once in 6 · 10^9 times.
const COUNT: u64 = (1 << 24) - 1;
/// Rows and columns of the sketch. Of 380 keys in it, one in 240,000 is counted too high.
const SKETCH: (usize, usize) = (4, 8192);

/// The requests under way, by key.
pub struct InFlight {
    pub(super) hashing: Hashing,
    /// Whose the requests are, and how many. Free as long as there are none.
    places: Box<[AtomicU64]>,
    sketch: OnceLock<Estimator>,
    /// Requests that are counted in the sketch.
    sketched: AtomicUsize,
}

/// A request under way, which is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    in_flight: Arc<InFlight>,
    counted: Counted,
}

/// Where a request is counted.
#[derive(Debug, Clone, Copy)]
enum Counted {
    /// In its key's place.
    InPlace(usize),
    /// In the sketch, by its key's fingerprint.
    InSketch(u64),
}

impl InFlight {
    fn with_places(places: usize) -> Self {
        Self {
            hashing: Hashing::default(),
            places: bytemuck::allocation::zeroed_slice_box(places),
            sketch: OnceLock::new(),
            sketched: AtomicUsize::new(0),
        }
    }

    /// Counts one more request of a key, unless there would be more than `most`. Returns how many there
    /// are with it.
    pub(super) fn enter(self: &Arc<Self>, key: KeyHash, most: u64) -> Option<(Guard, u64)> {
        let index = self.index(key);
        let place = &self.places[index];
        let whose = key.fingerprint & !COUNT;
        let mut word = place.load(Ordering::Relaxed);
        let count = loop {
            let count = match word & COUNT {
                0 => 0,
                count if word & !COUNT != whose || count == COUNT => {
                    return self.enter_sketch(key, most);
                }
                count if count >= most => return None,
                count => count,
            };
            let next = whose | (count + 1);
            match place.compare_exchange_weak(word, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break count + 1,
                Err(now) => word = now,
            }
        };
        let guard = self.guard(Counted::InPlace(index));
        let count = count + self.sketched(key);
        (count <= most).then_some((guard, count))
    }

    /// The same for a key whose place is another's.
    fn enter_sketch(self: &Arc<Self>, key: KeyHash, most: u64) -> Option<(Guard, u64)> {
        self.sketched.fetch_add(1, Ordering::SeqCst);
        let guard = self.guard(Counted::InSketch(key.fingerprint));
        let sketch = self
            .sketch
            .get_or_init(|| Estimator::new(SKETCH.0, SKETCH.1));
        sketch.incr(key.fingerprint, 1);
        // Of two that enter at once, here or there, at least one sees the other.
        fence(Ordering::SeqCst);
        let word = self.places[self.index(key)].load(Ordering::SeqCst);
        let in_place = match word & !COUNT == key.fingerprint & !COUNT {
            true => word & COUNT,
            false => 0,
        };
        let count = in_place + estimate(sketch, key);
        (count <= most).then_some((guard, count))
    }

    /// Requests of a key that came while its place was another's.
    fn sketched(&self, key: KeyHash) -> u64 {
        if self.sketched.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        fence(Ordering::SeqCst);
        self.sketch.get().map_or(0, |sketch| estimate(sketch, key))
    }

    fn index(&self, key: KeyHash) -> usize {
        // The upper half of a hash, scaled to the number of places.
        (((key.place >> 32) * self.places.len() as u64) >> 32) as usize
    }

    fn guard(self: &Arc<Self>, counted: Counted) -> Guard {
        Guard {
            in_flight: self.clone(),
            counted,
        }
    }
}

fn estimate(sketch: &Estimator, key: KeyHash) -> u64 {
    u64::try_from(sketch.get(key.fingerprint)).unwrap_or(0)
}

impl Default for InFlight {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        match self.counted {
            Counted::InPlace(index) => {
                self.in_flight.places[index].fetch_sub(1, Ordering::Release);
            }
            Counted::InSketch(fingerprint) => {
                if let Some(sketch) = self.in_flight.sketch.get() {
                    sketch.decr(fingerprint, 1);
                }
                self.in_flight.sketched.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight")
            .field("sketched", &self.sketched)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Parts;
    use super::*;

    fn keys(in_flight: &InFlight, count: u64) -> Vec<KeyHash> {
        let key = |key| in_flight.hashing.key(7, |parts| parts.number(key));
        (0..count).map(key).collect()
    }

    #[test]
    fn a_key_has_as_many_as_it_may_and_room_again_when_one_ends() {
        let in_flight = Arc::new(InFlight::default());
        let key = keys(&in_flight, 1)[0];
        let mut held: Vec<Guard> = (1..=3)
            .map(|count| {
                let (guard, counted) = in_flight.enter(key, 3).unwrap();
                assert_eq!(counted, count);
                guard
            })
            .collect();
        assert!(in_flight.enter(key, 3).is_none());
        held.pop();
        assert_eq!(in_flight.enter(key, 3).unwrap().1, 3);
        // Another limit sees the same requests.
        assert!(in_flight.enter(key, 2).is_none());
        assert_eq!(in_flight.enter(key, u64::MAX).unwrap().1, 3);
    }

    #[test]
    fn twenty_thousand_keys_do_not_count_each_others_requests() {
        let in_flight = Arc::new(InFlight::default());
        let keys = keys(&in_flight, 20_000);
        let held: Vec<_> = keys
            .iter()
            .filter_map(|key| in_flight.enter(*key, 1))
            .collect();
        // One in 240,000 of those whose place is taken may be too many.
        assert!(held.len() >= keys.len() - 1, "{}", held.len());
        assert!(in_flight.sketched.load(Ordering::Relaxed) < 1000);
        assert!(keys.iter().all(|key| in_flight.enter(*key, 1).is_none()));
        drop(held);
        assert!(keys.iter().all(|key| in_flight.enter(*key, 1).is_some()));
    }

    proptest! {
        /// Whatever comes and goes, and however small the table is.
        #[test]
        fn no_key_has_more_than_it_may_and_none_is_refused_what_it_may_have(
            places in 1_usize..6,
            steps in prop::collection::vec((0_usize..8, any::<bool>(), 0_usize..64), 1..200),
        ) {
            let in_flight = Arc::new(InFlight::with_places(places));
            let keys = keys(&in_flight, 8);
            let mut held: Vec<(usize, Guard)> = Vec::new();
            for (key, is_end, which) in steps {
                if is_end && !held.is_empty() {
                    held.swap_remove(which % held.len());
                    continue;
                }
                let before = held.iter().filter(|(other, _)| *other == key).count() as u64;
                // Eight keys never meet in all rows of the sketch.
                match in_flight.enter(keys[key], 3) {
                    Some((guard, count)) => {
                        prop_assert_eq!(count, before + 1);
                        prop_assert!(count <= 3);
                        held.push((key, guard));
                    }
                    None => prop_assert_eq!(before, 3),
                }
            }
        }
    }

    /// Requests of each key under way, counted by the threads that make them.
    struct Witness(Vec<AtomicU64>);

    /// Has threads enter and leave by turns, and holds each to `most`; returns how many were refused.
    fn stress(places: usize, key_count: u64, threads: u64, most: u64) -> u64 {
        let in_flight = Arc::new(InFlight::with_places(places));
        let keys = keys(&in_flight, key_count);
        let witness = Witness(keys.iter().map(|_| AtomicU64::new(0)).collect());
        let refused = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (in_flight, keys, witness, refused) = (&in_flight, &keys, &witness, &refused);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..20_000 {
                        let key = random.usize(..keys.len());
                        let Some((guard, _)) = in_flight.enter(keys[key], most) else {
                            refused.fetch_add(1, Ordering::Relaxed);
                            continue;
                        };
                        let under_way = witness.0[key].fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(under_way <= most, "{under_way} of {most}");
                        if random.u8(..) < 8 {
                            std::thread::yield_now();
                        }
                        witness.0[key].fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        });
        // All have ended, so that each key may have as many as ever, wherever it is counted.
        assert_eq!(in_flight.sketched.load(Ordering::Relaxed), 0);
        for key in keys {
            let held: Vec<_> = (0..most)
                .filter_map(|_| in_flight.enter(key, most))
                .collect();
            assert_eq!(held.len() as u64, most);
            assert!(in_flight.enter(key, most).is_none());
        }
        refused.into_inner()
    }

    #[test]
    fn many_threads_never_exceed_a_limit_and_leave_nothing_behind() {
        for most in [1, 2, 3] {
            let refused = stress(PLACES, 1, 4, most);
            assert!(refused > 0 || most == 3, "nothing was at stake");
            // With fewer places than keys, keys are counted here and there by turns.
            stress(2, 5, 4, most);
            stress(1, 3, 4, most);
        }
    }

    #[test]
    fn as_many_threads_as_may_enter_are_never_refused() {
        assert_eq!(stress(PLACES, 1, 4, 4), 0);
        assert_eq!(stress(PLACES, 3, 4, 4), 0);
    }
}
