//! Each law, by what it does to many requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::{Choice, Law, Pool, Rank, Seen, Tried};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::trust::EndpointSettings;
use crate::upstream::url::BaseUrl;

const NOW: Duration = Duration::from_secs(1);

fn endpoint(number: usize) -> Arc<Endpoint> {
    let url = format!("http://10.0.{}.{}:80", number / 256, number % 256);
    let url = BaseUrl::parse(&url).unwrap();
    Arc::new(Endpoint::new(url, &EndpointSettings::default()).unwrap())
}

fn pool(weights: &[u32], law: &Law) -> Pool {
    let members = weights.iter().enumerate();
    let members = members.map(|(number, weight)| (endpoint(number), *weight));
    Pool::new(members.collect(), law)
}

struct Drawing<'p> {
    pool: &'p Pool,
    law: Law,
    turn: AtomicUsize,
}

impl<'p> Drawing<'p> {
    fn new(pool: &'p Pool, law: Law) -> Self {
        let turn = AtomicUsize::new(0);
        Self { pool, law, turn }
    }

    fn choose(&self, key: Option<&[u8]>, now: Duration) -> Choice {
        let seen = Seen {
            law: &self.law,
            turn: &self.turn,
            key,
            tried: Tried::default(),
            now,
        };
        self.pool.choose(seen, |_, _| Rank::Fresh).unwrap()
    }

    /// How often each is chosen, if every request is over before the next one comes.
    fn spread(&self, requests: usize) -> Vec<usize> {
        let mut spread = vec![0; self.pool.endpoints().len()];
        for _ in 0..requests {
            spread[self.choose(None, NOW).index] += 1;
        }
        spread
    }
}

fn assert_near(found: usize, expected: usize, percent: usize) {
    let most = expected * percent / 100;
    assert!(
        found.abs_diff(expected) <= most,
        "{found} is not near {expected}"
    );
}

#[test]
fn weights_are_shares_under_every_law() {
    let weights = [1, 2, 3, 4];
    for law in [Law::RoundRobin, Law::LeastRequests] {
        let pool = pool(&weights, &law);
        assert_eq!(
            Drawing::new(&pool, law).spread(10_000),
            [1000, 2000, 3000, 4000]
        );
    }
    let pool = pool(&weights, &Law::Random);
    for (index, found) in Drawing::new(&pool, Law::Random)
        .spread(100_000)
        .into_iter()
        .enumerate()
    {
        assert_near(found, 10_000 * (index + 1), 5);
    }
}

#[test]
fn random_draws_spread_as_chance_would() {
    let pool = pool(&[1; 10], &Law::Random);
    let spread = Drawing::new(&pool, Law::Random).spread(100_000);
    // Chi-square with 9 degrees of freedom: above 40 once in 100,000 runs.
    let deviation = |found: &usize| (*found as f64 - 10_000.0).powi(2) / 10_000.0;
    let chi_square: f64 = spread.iter().map(deviation).sum();
    assert!(chi_square < 40.0, "{chi_square} {spread:?}");
}

/// Simulates clients that each wait for their answer; returns how many requests each endpoint got.
fn served(law: Law, takes: &[u64], clients: usize, requests: usize) -> Vec<usize> {
    let pool = pool(&vec![1; takes.len()], &law);
    let drawing = Drawing::new(&pool, law);
    let mut under_way: Vec<(u64, u64, Choice)> = Vec::new();
    let mut served = vec![0; takes.len()];
    let mut now = 1_000_000;
    for _ in 0..requests {
        if under_way.len() == clients {
            let next = (0..clients).min_by_key(|it| under_way[*it].0).unwrap();
            let (ends, took, choice) = under_way.swap_remove(next);
            now = now.max(ends);
            let (took, at) = (Duration::from_micros(took), Duration::from_micros(now));
            choice.endpoint.load.answered(took, at);
        }
        let choice = drawing.choose(None, Duration::from_micros(now));
        let took = takes[choice.index];
        served[choice.index] += 1;
        under_way.push((now + took, took, choice));
    }
    served
}

#[test]
fn a_slow_endpoint_gets_what_it_bears() {
    // One of four is twenty times as slow.
    let takes = [1000, 1000, 1000, 20_000];
    let in_turn = served(Law::RoundRobin, &takes, 16, 20_000);
    assert_eq!(in_turn[3], 5000);
    for law in [Law::LeastRequests, Law::PeakEwma] {
        let served = served(law.clone(), &takes, 16, 20_000);
        assert!(served[3] < 1000, "{law:?} {served:?}");
        let well = (20_000 - served[3]) / 3;
        for found in &served[..3] {
            assert_near(*found, well, 15);
        }
    }
    // Waiting time counts where it is known, however few requests are under way.
    let few = served(Law::PeakEwma, &takes, 2, 20_000);
    assert!(few[3] < 400, "{few:?}");
}

#[test]
fn the_largest_load_stays_near_the_mean() {
    // 1,000 requests that don't end on 100 endpoints: two choices keep within one or two of the mean
    // (Mitzenmacher), where chance would have 20 and more.
    let pool = pool(&[1; 100], &Law::LeastRequests);
    let drawing = Drawing::new(&pool, Law::LeastRequests);
    drawing.turn.store(17, std::sync::atomic::Ordering::Relaxed);
    let held: Vec<_> = (0..1000).map(|_| drawing.choose(None, NOW)).collect();
    let most = pool.endpoints().iter().map(|it| it.load.in_flight()).max();
    assert!(most.unwrap() <= 12, "{most:?}");
    drop(held);
    let left: u32 = pool.endpoints().iter().map(|it| it.load.in_flight()).sum();
    assert_eq!(left, 0);
}

fn placed(pool: &Pool, keys: u32) -> Vec<usize> {
    let law = Law::Hash(super::HashKey::Path);
    let drawing = Drawing::new(pool, law);
    let place = |key: u32| drawing.choose(Some(&key.to_be_bytes()), NOW).index;
    (0..keys).map(place).collect()
}

#[test]
fn keys_spread_over_the_ring_by_weight_and_stay() {
    let law = Law::Hash(super::HashKey::Path);
    let pool = pool(&[1, 1, 1, 2], &law);
    let places = placed(&pool, 50_000);
    assert_eq!(places, placed(&pool, 50_000));
    let mut spread = HashMap::new();
    for place in places {
        *spread.entry(place).or_insert(0) += 1;
    }
    for index in 0..4 {
        let expected = if index == 3 { 20_000 } else { 10_000 };
        assert_near(spread[&index], expected, 20);
    }
}

#[test]
fn only_the_share_of_who_comes_or_goes_moves() {
    let law = Law::Hash(super::HashKey::Path);
    let (nine, ten) = (pool(&[1; 9], &law), pool(&[1; 10], &law));
    let (before, after) = (placed(&nine, 20_000), placed(&ten, 20_000));
    let moved: Vec<_> = std::iter::zip(&before, &after)
        .filter(|(a, b)| a != b)
        .collect();
    // To the new one, and to nobody else.
    assert!(moved.iter().all(|(_, to)| **to == 9));
    assert_near(moved.len(), 2000, 30);
}

#[test]
fn who_is_unwell_is_passed_over_and_the_others_keep_their_keys() {
    let law = Law::Hash(super::HashKey::Path);
    let pool = pool(&[1; 5], &law);
    let turn = AtomicUsize::new(0);
    for (key, home) in placed(&pool, 5000).into_iter().enumerate() {
        let key = (key as u32).to_be_bytes();
        let seen = Seen {
            law: &law,
            turn: &turn,
            key: Some(&key),
            tried: Tried::default(),
            now: NOW,
        };
        let rank = |index, _: &Endpoint| {
            if index == 2 {
                Rank::Unwell
            } else {
                Rank::Fresh
            }
        };
        let now = pool.choose(seen, rank).unwrap().index;
        assert!(if home == 2 { now != 2 } else { now == home });
    }
}

#[test]
fn a_request_without_the_key_goes_in_turn() {
    let law = Law::Hash(super::HashKey::Path);
    let pool = pool(&[1; 4], &law);
    assert_eq!(Drawing::new(&pool, law).spread(400), [100; 4]);
}

proptest! {
    #[test]
    fn the_best_there_is_is_found_under_every_law(
        ranks in prop::collection::vec(0..5u8, 1..12),
        law in prop::sample::select(vec![
            Law::RoundRobin, Law::LeastRequests, Law::PeakEwma, Law::Random,
            Law::Hash(super::HashKey::Path),
        ]),
        key in any::<u32>(),
    ) {
        let pool = pool(&vec![1; ranks.len()], &law);
        let rank = |index: usize, _: &Endpoint| match ranks[index] {
            0 => Rank::Fresh,
            1 => Rank::Warming,
            2 => Rank::Tried,
            3 => Rank::Unwell,
            _ => Rank::Unreachable,
        };
        let turn = AtomicUsize::new(key as usize);
        let key = key.to_be_bytes();
        let seen = Seen { law: &law, turn: &turn, key: Some(&key), tried: Tried::default(), now: NOW };
        let chosen = pool.choose(seen, rank).unwrap();
        prop_assert_eq!(ranks[chosen.index], *ranks.iter().min().unwrap());
    }
}
