//! A lease through its life: credit, tokens, refusals, and what is put back.

mod account;

use super::super::super::algorithm::{Algorithm, Rule};
use super::*;

const START: u64 = 3_600_000_000;
const MILLI: u64 = 1_000;
/// With a life of 500 ms.
const WINDOW: u64 = 10_000 * MILLI;

/// The lease of one key.
struct Lease {
    leases: Leases,
    lending: Lending,
    key: KeyHash,
}

impl Lease {
    /// Of a limit of a thousand, so that credit is ten.
    fn of(algorithm: Algorithm) -> Self {
        Self {
            leases: Leases::new(64),
            lending: lending(algorithm, 1000),
            key: key(1),
        }
    }

    fn spend(&self, cost: u64, now: u64) -> Spending {
        self.leases
            .spend(self.key, &self.lending, cost, now)
            .unwrap()
    }

    /// Spends one by one until there is none. Returns how many.
    fn spend_all(&self, now: u64) -> u64 {
        let is_spent = |it: &Spending| matches!(it, Spending::Spent { .. });
        std::iter::repeat_with(|| self.spend(1, now))
            .take_while(is_spent)
            .count() as u64
    }

    /// The store was asked then and has given so many.
    fn receive(&self, tokens: u64, asked_at: u64, now: u64) -> u64 {
        let given = given(tokens, asked_at);
        self.leases.receive(self.key, &self.lending, &given, now)
    }

    /// The store was asked then and has refused for so long.
    fn refuse(&self, wait: u64, asked_at: u64, now: u64) {
        let given = Given {
            wait,
            ..given(0, asked_at)
        };
        self.leases.receive(self.key, &self.lending, &given, now);
    }

    fn wanted(&self, now: u64) -> u64 {
        self.leases.wanted(self.key, &self.lending, now)
    }
}

fn lending(algorithm: Algorithm, limit: u64) -> Lending {
    let rule = Rule {
        algorithm,
        limit,
        window: WINDOW,
        burst: limit,
    };
    Lending::new(&rule, 1)
}

fn key(number: u64) -> KeyHash {
    let mut bits = fastrand::Rng::with_seed(number);
    KeyHash {
        place: bits.u64(..),
        fingerprint: bits.u64(2..),
    }
}

/// A window that began when the store was asked.
fn given(tokens: u64, asked_at: u64) -> Given {
    Given {
        tokens,
        remaining: 100,
        reset: WINDOW,
        wait: 0,
        need: 1,
        asked_at,
    }
}

fn asks(spending: Spending) -> Option<u64> {
    match spending {
        Spending::Spent { ask, .. } => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_request_is_admitted_on_credit_and_all_of_it_is_owed() {
    let lease = Lease::of(Algorithm::FixedWindow);
    assert_eq!(asks(lease.spend(1, START)), Some(10));
    // The rest is owed already.
    assert_eq!(asks(lease.spend(1, START)), None);
    assert_eq!(lease.spend_all(START), 8);
    assert_eq!(lease.spend(1, START), Spending::Dry);
}

#[test]
fn a_request_that_costs_more_than_credit_waits() {
    let lease = Lease::of(Algorithm::FixedWindow);
    assert_eq!(lease.spend(11, START), Spending::Dry);
    assert_eq!(asks(lease.spend(10, START)), Some(10));
}

#[test]
fn nothing_is_had_on_credit_of_a_quota_of_days() {
    let mut lease = Lease::of(Algorithm::FixedWindow);
    lease.lending.window = 86_400_000 * MILLI;
    assert_eq!(lease.spend(1, START), Spending::Dry);
}

#[test]
fn what_is_left_of_credit_goes_with_the_tokens_of_its_window() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.spend(4, START);
    lease.receive(20, START, START + MILLI);
    assert_eq!(lease.spend_all(START + WINDOW - 1), 26);
    // The store may have begun the window when it answered: until it has ended there is no more.
    assert_eq!(lease.spend(1, START + WINDOW), Spending::Dry);
    assert_eq!(asks(lease.spend(1, START + WINDOW + MILLI)), Some(10));
}

#[test]
fn there_is_no_more_credit_for_a_window_and_a_life_where_windows_have_no_end() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.spend(1, START);
    lease.receive(0, START, START + MILLI);
    assert_eq!(lease.spend_all(START + 2 * MILLI), 9);
    let pause = WINDOW + 500 * MILLI;
    assert_eq!(lease.spend(1, START + pause - 1), Spending::Dry);
    assert_eq!(asks(lease.spend(1, START + pause)), Some(10));
}

#[test]
fn credit_that_the_store_has_not_heard_of_is_spent_within_a_life() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.spend(1, START);
    assert_eq!(lease.spend(1, START + 500 * MILLI), Spending::Dry);
}

#[test]
fn tokens_end_with_their_window() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.receive(50, START, START + MILLI);
    assert_eq!(lease.spend(50, START + WINDOW), Spending::Dry);
    assert!(matches!(
        lease.spend(50, START + WINDOW - 1),
        Spending::Spent { .. }
    ));
}

#[test]
fn tokens_without_a_window_live_for_a_life_but_for_what_a_key_keeps() {
    let lease = Lease::of(Algorithm::TokenBucket);
    lease.receive(50, START, START + MILLI);
    assert!(matches!(
        lease.spend(5, START + 499 * MILLI),
        Spending::Spent { .. }
    ));
    assert_eq!(lease.spend(11, START + 500 * MILLI), Spending::Dry);
    assert_eq!(asks(lease.spend(10, START + 500 * MILLI)), Some(0));
}

#[test]
fn older_tokens_live_on_with_new_ones_once() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    let time = |millis| START + millis * MILLI;
    lease.receive(50, time(0), time(1));
    lease.receive(50, time(400), time(401));
    // The first fifty are among them, and end with the second.
    assert!(matches!(lease.spend(20, time(899)), Spending::Spent { .. }));
    lease.receive(50, time(880), time(899));
    // Thirty of the first are older than one life now: what came with them ends at once.
    assert_eq!(lease.spend(11, time(900)), Spending::Dry);
}

#[test]
fn more_is_asked_for_once_when_half_is_left() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.receive(20, START, START);
    assert_eq!(asks(lease.spend(10, START + 1)), None);
    assert_eq!(asks(lease.spend(1, START + 1)), Some(0));
    assert_eq!(asks(lease.spend(1, START + 1)), None);
    lease.leases.forget_asking(lease.key);
    assert_eq!(asks(lease.spend(1, START + 1)), Some(0));
}

#[test]
fn what_is_left_is_spent_before_a_refusal_holds() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.receive(20, START, START);
    assert_eq!(asks(lease.spend(15, START + 1)), Some(0));
    lease.refuse(5_000 * MILLI, START + 1, START + MILLI);
    // Nobody asks again, for there is none.
    assert_eq!(asks(lease.spend(5, START + MILLI)), None);
    assert_eq!(lease.spend(1, START + MILLI), Spending::Dry);
    lease.refuse(4_999 * MILLI, START + MILLI, START + 2 * MILLI);
    let wait = 4_998 * MILLI;
    assert_eq!(lease.spend(1, START + 2 * MILLI), Spending::Denied { wait });
    // A request that costs less than what was refused may fare better.
    lease.refuse(1_000 * MILLI, START, START);
}

#[test]
fn a_refusal_ends_and_leaves_no_credit() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.refuse(1_000 * MILLI, START, START + MILLI);
    let denied = Spending::Denied { wait: MILLI };
    assert_eq!(lease.spend(1, START + 999 * MILLI), denied);
    assert_eq!(lease.spend(1, START + 1_000 * MILLI), Spending::Dry);
    let pause = WINDOW + 500 * MILLI;
    assert_eq!(
        lease.spend(1, START + 1_000 * MILLI + pause - 1),
        Spending::Dry
    );
    assert_eq!(
        asks(lease.spend(1, START + 1_000 * MILLI + pause)),
        Some(10)
    );
}

#[test]
fn a_cheaper_request_than_the_refused_one_asks() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    let given = Given {
        wait: 1_000 * MILLI,
        need: 5,
        ..given(0, START)
    };
    lease
        .leases
        .receive(lease.key, &lease.lending, &given, START);
    assert_eq!(lease.spend(4, START), Spending::Dry);
    assert!(matches!(lease.spend(5, START), Spending::Denied { .. }));
}

#[test]
fn a_request_that_costs_nothing_asks_whether_there_is_any() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.receive(1, START, START);
    assert!(matches!(lease.spend(0, START), Spending::Spent { .. }));
    lease.spend(1, START);
    lease.refuse(WINDOW, START, START);
    assert!(matches!(lease.spend(0, START), Spending::Denied { .. }));
}

#[test]
fn what_is_put_back_is_spent_again_unless_younger_tokens_have_come() {
    let lease = Lease::of(Algorithm::FixedWindow);
    lease.receive(20, START, START);
    lease.spend(20, START + 1);
    lease.leases.put_back(lease.key, 5, START + 1);
    assert_eq!(lease.spend_all(START + 2), 5);
    lease.receive(1, START + 2, START + 3);
    lease.leases.put_back(lease.key, 5, START + 1);
    assert_eq!(lease.spend_all(START + 4), 1);
}

#[test]
fn credit_beside_what_was_put_back_late_is_no_more_than_a_key_keeps() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.receive(20, START, START);
    lease.spend(20, START + 1);
    let later = START + 600 * MILLI;
    assert_eq!(asks(lease.spend(1, later)), Some(10));
    lease.leases.put_back(lease.key, 20, START + 1);
    lease.receive(0, later, later + 1);
    assert_eq!(lease.spend_all(later + 2), 10);
}

#[test]
fn what_nobody_spends_is_reclaimed_but_for_what_a_key_keeps() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.receive(50, START, START + 1);
    let reclaim = |since| lease.leases.reclaim(lease.key, &lease.lending, since, 50);
    assert_eq!(reclaim(START), 0, "others have come since");
    assert_eq!(reclaim(START + 1), 40);
    assert_eq!(asks(lease.spend(10, START + 2)), Some(0));
    assert_eq!(asks(lease.spend(1, START + 2)), Some(10), "on credit");
}

#[test]
fn a_lease_lasts_for_200_ms_and_grows_no_more_than_four_times() {
    let lease = Lease::of(Algorithm::FixedWindow);
    assert_eq!(lease.wanted(START), 1, "one request is no rate");
    lease.receive(100, START, START);
    lease.spend(100, START + 1);
    assert_eq!(lease.wanted(START + 400 * MILLI), 50);
    assert_eq!(lease.wanted(START + 10 * MILLI), 400);
}

#[test]
fn a_lease_lasts_for_a_tenth_of_the_window_if_the_key_may_keep_it() {
    let lease = Lease::of(Algorithm::SlidingWindow);
    lease.receive(10, START, START);
    lease.spend(4, START + 1);
    assert_eq!(lease.wanted(START + 2000 * MILLI), 2);
    assert_eq!(lease.wanted(START + 500 * MILLI), 8);
    assert_eq!(
        lease.wanted(START + 100 * MILLI),
        10,
        "all that it may keep"
    );
    assert_eq!(lease.wanted(START + 20 * MILLI), 40);
}

#[test]
fn what_is_left_is_what_the_store_had_and_this_gateway_has() {
    let lease = Lease::of(Algorithm::FixedWindow);
    let remaining = |spending| match spending {
        Spending::Spent { remaining, .. } => remaining,
        other => panic!("{other:?}"),
    };
    assert_eq!(remaining(lease.spend(10, START)), None);
    lease.receive(20, START, START);
    assert_eq!(remaining(lease.spend(1, START)), Some(119));
}

#[test]
fn tokens_that_find_no_room_are_lost() {
    let lease = Lease::of(Algorithm::FixedWindow);
    let leases = Leases::new(1);
    let mut keys = 0;
    while leases.spend(key(keys), &lease.lending, 1, START).is_ok() {
        keys += 1;
    }
    assert!(keys > 1);
    assert!(!leases.has_room(key(keys), START));
    assert_eq!(
        leases.receive(key(keys), &lease.lending, &given(9, START), START),
        0
    );
    assert!(leases.has_room(key(keys), START + 2 * WINDOW));
}
