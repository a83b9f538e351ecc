//! What has passed of each key, in bytes: exact, without locks on the way of a request.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::key::{Hashing, KeyHash};
use super::slots::{Slots, is_of, keep};

const SECOND: u128 = 1_000_000_000;
/// Keys that are told apart at a time, 40 bytes each, taken as they are first written.
const KEYS: usize = 1 << 20;
/// Words of an entry: the table's own, and until when its key's bytes are paid for.
const WORDS: usize = 3;

/// How fast bytes pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    /// What may pass ahead of its time, in nanoseconds.
    burst: u64,
}

/// Token buckets by key, each as the time until which its bytes are paid for ("virtual scheduling", ITU-T
/// I.371): a byte takes as long as its pace says. A key whose time is over is as good as new.
#[derive(Debug)]
pub struct Buckets {
    pub(super) hashing: Hashing,
    slots: Slots<WORDS>,
    opened: Instant,
}

impl Pace {
    /// So many bytes a second, and so many at once after a pause.
    pub(super) fn new(rate: u64, burst: u64) -> Self {
        Self {
            rate,
            burst: nanoseconds(u128::from(burst) * SECOND / u128::from(rate)),
        }
    }

    /// Until when bytes are paid for that come at `now`, after others that are until `before`.
    pub(super) fn pay(self, before: u64, bytes: u64, now: u64) -> u64 {
        // Rounded up: never too fast, and too slow by a nanosecond for what comes at once.
        let took = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.rate));
        before.max(now).saturating_add(nanoseconds(took))
    }

    /// How long bytes have to wait that are paid for until `paid`.
    pub(super) fn wait(self, paid: u64, now: u64) -> u64 {
        paid.saturating_sub(now).saturating_sub(self.burst)
    }
}

fn nanoseconds(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Buckets {
    fn with_keys(keys: usize) -> Self {
        Self {
            hashing: Hashing::default(),
            slots: Slots::new(keys),
            opened: Instant::now(),
        }
    }

    /// Nanoseconds on its clock.
    pub(super) fn clock(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.opened).as_nanos())
    }

    /// Until when the bytes of a key are paid for with these; `None`, and they are not counted, if the key
    /// finds no room.
    pub(super) fn pay(&self, key: KeyHash, pace: Pace, bytes: u64, now: u64) -> Option<u64> {
        loop {
            let slot = self.slots.find_or_insert(key, now).ok()?;
            let bucket = &slot[WORDS - 1];
            let before = bucket.load(Ordering::Acquire);
            let paid = pace.pay(before, bytes, now);
            // First, so that nobody takes the entry for free in between.
            keep(slot, paid);
            let is_paid = bucket
                .compare_exchange(before, paid, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
            if is_paid && is_of(slot, key) {
                return Some(paid);
            }
        }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::with_keys(KEYS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Parts;
    use super::*;

    /// A part of a body that was passed on: when, and how large.
    type Passed = (u64, u64);

    fn keys(buckets: &Buckets, count: u64) -> Vec<KeyHash> {
        let key = |key| buckets.hashing.key(7, |parts| parts.number(key));
        (0..count).map(key).collect()
    }

    /// Lets connections of one key pass parts of bodies, each the next one when the last has passed and
    /// some time is over. Returns what passed, in its order.
    fn run(buckets: &Buckets, pace: Pace, connections: &[Vec<(u64, u64)>]) -> Vec<Passed> {
        let key = keys(buckets, 1)[0];
        let mut passed = Vec::new();
        let mut next: Vec<(u64, usize)> = vec![(1, 0); connections.len()];
        loop {
            // Whoever is the earliest.
            let waiting = (0..connections.len()).filter(|it| next[*it].1 < connections[*it].len());
            let Some(connection) = waiting.min_by_key(|it| next[*it].0) else {
                passed.sort_unstable();
                return passed;
            };
            let (now, index) = next[connection];
            let (bytes, pause) = connections[connection][index];
            let paid = buckets.pay(key, pace, bytes, now).unwrap();
            let at = now + pace.wait(paid, now);
            passed.push((at, bytes));
            next[connection] = (at + pause, index + 1);
        }
    }

    proptest! {
        #[test]
        fn in_no_interval_more_passes_than_burst_and_rate_allow(
            rate in 1_000_u64..10_000_000_000,
            burst in 0_u64..1_000_000,
            connections in prop::collection::vec(
                prop::collection::vec((1_u64..65_536, 0_u64..100_000_000), 1..20), 1..5
            ),
        ) {
            let buckets = Buckets::with_keys(100);
            let passed = run(&buckets, Pace::new(rate, burst), &connections);
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut bytes = 0;
                for (to, size) in &passed[first..] {
                    bytes += size;
                    let most = u128::from(to - from) * u128::from(rate) / SECOND;
                    // One part may be larger than the burst.
                    let largest = 65_536_u128.max(u128::from(burst));
                    prop_assert!(u128::from(bytes) <= largest + most + 1);
                }
            }
        }

        #[test]
        fn who_always_has_something_to_send_gets_the_whole_rate(
            rate in 1_000_u64..1_000_000_000,
            burst in 0_u64..1_000_000,
            sizes in prop::collection::vec(1_u64..65_536, 1..50),
            count in 1_usize..4,
        ) {
            let buckets = Buckets::with_keys(100);
            let parts: Vec<_> = sizes.iter().map(|size| (*size, 0)).collect();
            let passed = run(&buckets, Pace::new(rate, burst), &vec![parts; count]);
            let bytes: u64 = passed.iter().map(|(_, size)| size).sum();
            let took = passed.last().unwrap().0 - passed[0].0;
            let ideal = u128::from(bytes.saturating_sub(burst)) * SECOND / u128::from(rate);
            // Each part may be too late by a nanosecond, and the burst too small by one.
            prop_assert!(u128::from(took) <= ideal + passed.len() as u128 + 1);
        }
    }

    #[test]
    fn connections_of_a_key_take_turns() {
        let buckets = Buckets::with_keys(100);
        let key = keys(&buckets, 1)[0];
        let pace = Pace::new(1_000_000, 0);
        // The first one has been at it for long when the others come.
        let mut next = [1_u64, 500_000_000, 500_000_000];
        let mut sent = [0_u64; 3];
        while next.iter().any(|now| *now < 10_000_000_000) {
            let turn = (0..3).min_by_key(|it| next[*it]).unwrap();
            let paid = buckets.pay(key, pace, 10_000, next[turn]).unwrap();
            if next[turn] >= 500_000_000 {
                sent[turn] += 1;
            }
            next[turn] += pace.wait(paid, next[turn]);
        }
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 1, "{sent:?}");
    }

    #[test]
    fn threads_pay_for_every_byte() {
        let buckets = Buckets::with_keys(1000);
        let keys = keys(&buckets, 50);
        let pace = Pace::new(1_000_000_000, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in keys.iter().cycle().take(50 * 200) {
                        buckets.pay(*key, pace, 7, 1).unwrap();
                    }
                });
            }
        });
        for key in keys {
            assert_eq!(buckets.pay(key, pace, 0, 1), Some(1 + 4 * 200 * 7));
        }
    }

    #[test]
    fn a_key_whose_time_is_over_makes_room_and_one_without_room_is_told_so() {
        let buckets = Buckets::with_keys(10);
        let pace = Pace::new(1_000, 0);
        let keys = keys(&buckets, 1000);
        let found = |now| {
            let keys = keys.iter();
            keys.filter(|key| buckets.pay(**key, pace, 1, now).is_some())
                .count()
        };
        let fit = found(1);
        assert!((10..1000).contains(&fit), "{fit}");
        // A byte takes a millisecond.
        assert_eq!(found(1_500_000_000), fit);
    }
}
