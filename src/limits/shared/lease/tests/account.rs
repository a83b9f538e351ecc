//! Whatever happens to keys, and in whichever order: none spends more than it had.

use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;

use super::*;

/// What happens to a key.
#[derive(Debug, Clone)]
enum Event {
    Spend(u64),
    PutBack,
    /// Tokens, and how long ago they were asked for.
    Receive(u64, u64),
    Refuse(u64),
    Reclaim,
    Fail,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..4u64).prop_map(Event::Spend),
        1 => Just(Event::PutBack),
        3 => (0..30u64, 0..900 * MILLI).prop_map(|(tokens, ago)| Event::Receive(tokens, ago)),
        1 => (1..2 * WINDOW).prop_map(Event::Refuse),
        1 => Just(Event::Reclaim),
        1 => Just(Event::Fail),
    ]
}

/// What became of a key.
#[derive(Debug, Clone, Default)]
struct Account {
    /// Given by the store, or owed to it.
    had: u64,
    spent: u64,
    /// The last request that was admitted, and when the last tokens came.
    last: (u64, u64),
    since: u64,
    /// When there may be credit again.
    more_at: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// In a table with room for fewer keys, whose entries are used again.
    #[test]
    fn no_key_spends_more_than_it_was_given_and_owes(
        is_fixed in prop::bool::ANY,
        events in prop::collection::vec((0..9usize, any_event(), 0..200 * MILLI), 1..600),
        pause in 0..2 * WINDOW,
    ) {
        let algorithm = if is_fixed { Algorithm::FixedWindow } else { Algorithm::SlidingWindow };
        let lending = lending(algorithm, 300);
        let leases = Leases::new(1);
        let mut accounts = vec![Account::default(); 9];
        let (half, mut now) = (events.len() / 2, START);
        for (number, (index, event, step)) in events.into_iter().enumerate() {
            now += if number == half { pause } else { step };
            let (key, account) = (key(index as u64), &mut accounts[index]);
            match event {
                Event::Spend(cost) => {
                    if let Ok(Spending::Spent { ask, .. }) = leases.spend(key, &lending, cost, now) {
                        if let Some(owed) = ask.filter(|owed| *owed > 0) {
                            prop_assert!(now >= account.more_at, "{index}: {account:?}");
                            account.had += owed;
                            account.more_at = now + if is_fixed { 0 } else { lending.pause() };
                        }
                        account.spent += cost;
                        account.last = (cost, now);
                    }
                }
                Event::PutBack => {
                    let (cost, spent_at) = std::mem::take(&mut account.last);
                    leases.put_back(key, cost, spent_at);
                    account.spent -= cost;
                }
                Event::Receive(tokens, ago) => {
                    let given = Given { reset: WINDOW / 3, ..given(tokens, now - ago) };
                    leases.receive(key, &lending, &given, now);
                    account.had += tokens;
                    account.since = now;
                }
                Event::Refuse(wait) => {
                    let given = Given { wait, ..given(0, now) };
                    leases.receive(key, &lending, &given, now);
                }
                Event::Reclaim => {
                    account.had -= leases.reclaim(key, &lending, account.since, u64::MAX);
                }
                Event::Fail => leases.forget_asking(key),
            }
            prop_assert!(account.spent <= account.had, "{index}: {account:?}");
        }
    }
}

#[test]
fn threads_together_spend_no_more_than_was_given_while_more_comes() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let lending = lending(algorithm, 300);
        let (leases, key) = (Leases::new(64), key(1));
        let (clock, is_over) = (AtomicU64::new(START), AtomicBool::new(false));
        let (had, spent) = (AtomicU64::new(0), AtomicU64::new(0));
        let spend = || {
            let mut cost = 0;
            while !is_over.load(Ordering::Acquire) {
                cost = cost % 3 + 1;
                let now = clock.load(Ordering::Acquire);
                let Spending::Spent { ask, .. } = leases.spend(key, &lending, cost, now).unwrap()
                else {
                    continue;
                };
                had.fetch_add(ask.unwrap_or(0), Ordering::AcqRel);
                match cost == 2 && now % 5 == 0 {
                    true => leases.put_back(key, cost, now),
                    false => {
                        spent.fetch_add(cost, Ordering::AcqRel);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(spend);
            }
            for round in 0..30_000 {
                let asked_at = clock.fetch_add(300, Ordering::AcqRel);
                let now = asked_at + 300;
                let tokens = round % 7;
                let given = match round % 50 {
                    49 => Given {
                        wait: 1,
                        ..given(0, asked_at)
                    },
                    _ => Given {
                        reset: WINDOW / 3,
                        ..given(tokens, asked_at)
                    },
                };
                had.fetch_add(given.tokens, Ordering::AcqRel);
                leases.receive(key, &lending, &given, now);
                if round % 11 == 0 {
                    let back = leases.reclaim(key, &lending, now, u64::MAX);
                    had.fetch_sub(back, Ordering::AcqRel);
                }
            }
            is_over.store(true, Ordering::Release);
        });
        let (had, spent) = (had.into_inner(), spent.into_inner());
        assert!(spent <= had, "{spent} > {had}");
        assert!(2 * spent > had, "hardly any was spent: {spent} of {had}");
    }
}
