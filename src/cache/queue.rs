//! In which order answers go when there is no room: S3-FIFO (Yang et al., *FIFO queues are all you need
//! for cache eviction*, SOSP 2023).
//!
//! What is new stands in a small queue first, so that what is asked for once passes without driving out
//! what is asked for often. What comes back soon after it went goes to the main queue at once.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};

use ahash::RandomState;

/// The small queue has one part in this many of the bytes.
const SMALL_PART: u64 = 10;
/// Uses after which what is new is not let go.
pub(super) const USES_TO_STAY: u8 = 2;
/// Places in the queues whose answers are gone, until they are cleared.
const LEAST_GONE: usize = 64;

/// The queues of a shard.
#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    small_bytes: u64,
    main_bytes: u64,
    ghosts: VecDeque<u128>,
    is_ghost: HashSet<u128, RandomState>,
    gone: usize,
}

/// The place of an answer in a queue.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: u128,
    number: u64,
    size: u64,
}

impl Queues {
    pub(super) fn insert(&mut self, key: u128, number: u64, size: u64) {
        let place = Place { key, number, size };
        if self.is_ghost.remove(&key) {
            self.main_bytes += size;
            self.main.push_back(place);
        } else {
            self.small_bytes += size;
            self.small.push_back(place);
        }
    }

    /// An answer went otherwise. `uses` finds what is still there, by key and number.
    pub(super) fn removed<'u>(&mut self, uses: impl Fn(u128, u64) -> Option<&'u AtomicU8>) {
        self.gone += 1;
        if self.gone < LEAST_GONE.max(self.len() / 2) {
            return;
        }
        self.gone = 0;
        self.small
            .retain(|place| uses(place.key, place.number).is_some());
        self.main
            .retain(|place| uses(place.key, place.number).is_some());
        self.small_bytes = self.small.iter().map(|place| place.size).sum();
        self.main_bytes = self.main.iter().map(|place| place.size).sum();
    }

    /// The answer that has to go next, which takes it out of the queues.
    pub(super) fn evict<'u>(
        &mut self,
        uses: impl Fn(u128, u64) -> Option<&'u AtomicU8>,
    ) -> Option<u128> {
        loop {
            let is_small_large =
                self.small_bytes > (self.small_bytes + self.main_bytes) / SMALL_PART;
            let is_of_small = !self.small.is_empty() && (is_small_large || self.main.is_empty());
            if is_of_small {
                let place = self.small.pop_front()?;
                self.small_bytes -= place.size;
                let Some(uses) = uses(place.key, place.number) else {
                    continue;
                };
                if uses.load(Ordering::Relaxed) < USES_TO_STAY {
                    self.remember(place.key);
                    return Some(place.key);
                }
                uses.store(0, Ordering::Relaxed);
                self.main_bytes += place.size;
                self.main.push_back(place);
            } else {
                let place = self.main.pop_front()?;
                let found = uses(place.key, place.number);
                match found.map(|uses| (uses, uses.load(Ordering::Relaxed))) {
                    Some((uses, count @ 1..)) => {
                        uses.store(count - 1, Ordering::Relaxed);
                        self.main.push_back(place);
                    }
                    Some(_) => {
                        self.main_bytes -= place.size;
                        return Some(place.key);
                    }
                    None => self.main_bytes -= place.size,
                }
            }
        }
    }

    fn remember(&mut self, key: u128) {
        if self.is_ghost.insert(key) {
            self.ghosts.push_back(key);
        }
        while self.ghosts.len() > self.len().max(LEAST_GONE) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.is_ghost.remove(&oldest);
            }
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A cache of so many answers of one byte.
    #[derive(Default)]
    struct Small {
        queues: Queues,
        kept: HashMap<u128, AtomicU8>,
        capacity: usize,
    }

    impl Small {
        fn of(capacity: usize) -> Self {
            Self {
                capacity,
                ..Self::default()
            }
        }

        /// Whether it was there.
        fn ask(&mut self, key: u128) -> bool {
            if let Some(uses) = self.kept.get(&key) {
                uses.store((uses.load(Ordering::Relaxed) + 1).min(3), Ordering::Relaxed);
                return true;
            }
            self.kept.insert(key, AtomicU8::new(0));
            self.queues.insert(key, 0, 1);
            while self.kept.len() > self.capacity {
                let victim = self.queues.evict(|key, _| self.kept.get(&key)).unwrap();
                self.kept.remove(&victim).expect("it was there");
            }
            false
        }
    }

    impl Small {
        fn ask_all(&mut self, keys: std::ops::Range<u128>) {
            for key in keys {
                self.ask(key);
            }
        }
    }

    #[test]
    fn what_is_asked_for_once_drives_out_nothing_that_is_asked_for_often() {
        let mut cache = Small::of(100);
        for _ in 0..3 {
            cache.ask_all(0..50);
        }
        cache.ask_all(1000..100_000);
        let left = (0..50).filter(|key| cache.kept.contains_key(key)).count();
        assert!(left >= 45, "only {left} of 50 are left");
    }

    /// The share of requests whose answer is there, of ten thousand answers that are asked for by Zipf's law
    /// with an exponent of 0.9, and a tenth that are asked for once.
    fn share_found(mut ask: impl FnMut(u128) -> bool) -> f64 {
        const REQUESTS: u32 = 200_000;
        let weights = (1..=10_000).map(|rank| f64::from(rank).powf(-0.9));
        let sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        let mut found = 0;
        for number in 0..REQUESTS {
            let at = random.f64() * sums[sums.len() - 1];
            let key = match random.u8(..10) {
                0 => 1_000_000 + u128::from(number),
                _ => sums.partition_point(|sum| *sum < at) as u128,
            };
            found += u32::from(ask(key));
        }
        f64::from(found) / f64::from(REQUESTS)
    }

    /// What was asked for longest ago goes first.
    #[derive(Default)]
    struct Lru {
        times: HashMap<u128, u64>,
        keys: std::collections::BTreeMap<u64, u128>,
        now: u64,
        capacity: usize,
    }

    impl Lru {
        fn ask(&mut self, key: u128) -> bool {
            self.now += 1;
            let before = self.times.insert(key, self.now);
            if let Some(before) = before {
                self.keys.remove(&before);
            }
            self.keys.insert(self.now, key);
            if self.times.len() > self.capacity
                && let Some((_, oldest)) = self.keys.pop_first()
            {
                self.times.remove(&oldest);
            }
            before.is_some()
        }
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "a table for benches/CACHE.md")]
    fn more_is_found_than_by_lru_where_there_is_little_room() {
        println!("| room, of 10,000 answers | S3-FIFO | LRU |\n|--:|--:|--:|");
        for capacity in [100, 500, 1000] {
            let mut ours = Small::of(capacity);
            let ours = share_found(|key| ours.ask(key));
            let mut lru = Lru {
                capacity,
                ..Lru::default()
            };
            let lru = share_found(|key| lru.ask(key));
            println!(
                "| {capacity} | {:.1}% | {:.1}% |",
                ours * 100.0,
                lru * 100.0
            );
            assert!(ours > lru * 1.1, "{capacity}: {ours} of {lru}");
        }
    }

    #[test]
    fn what_comes_back_soon_stays() {
        let mut cache = Small::of(10);
        cache.ask_all(0..20);
        assert!(!cache.ask(5), "it had to go");
        cache.ask_all(100..120);
        assert!(cache.ask(5));
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_every_place_is_found(
            keys in proptest::collection::vec((0..40u128, any::<bool>()), 0..500), capacity in 1..20usize,
        ) {
            let mut cache = Small::of(capacity);
            for (key, is_removed) in keys {
                if is_removed && cache.kept.remove(&key).is_some() {
                    cache.queues.removed(|key, _| cache.kept.get(&key));
                } else {
                    cache.ask(key);
                }
                prop_assert!(cache.kept.len() <= capacity);
            }
        }
    }
}
