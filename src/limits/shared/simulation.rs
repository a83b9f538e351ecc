//! A fleet of gateways with a simulated store, over the same bookkeeping: what all of them together admit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use tokio::sync::oneshot;

use super::super::algorithm::{Algorithm, Rule};
use super::super::key::{Hashing, KeyHash, Parts};
use super::ask::{Grant, SharedKey};
use super::desk::{Demand, Desk, Question};
use super::lease::{Leases, Lending, Spending};
use super::model::Model;

const SHARED: SharedKey = SharedKey { limit: 1, key: 1 };

/// A gateway, and who waits there.
struct Gateway {
    leases: Leases,
    desk: Desk,
    waiting: Vec<(u64, oneshot::Receiver<u64>)>,
    is_dead: bool,
}

/// Something on its way between a gateway and the store.
enum Trip {
    There(usize, Question),
    Back(usize, Question, Grant),
}

/// The fleet, all of whose requests are of one key.
struct Fleet {
    rule: Rule,
    lending: Lending,
    key: KeyHash,
    gateways: Vec<Gateway>,
    store: Model,
    trips: Vec<Option<Trip>>,
    arrivals: BinaryHeap<Reverse<(u64, usize)>>,
    /// Microseconds of one way; each takes the next.
    delays: Vec<u64>,
    admitted: Vec<u64>,
    refused: Vec<u64>,
}

impl Fleet {
    fn new(rule: Rule, gateways: usize, delays: Vec<u64>) -> Self {
        let gateway = || Gateway {
            leases: Leases::new(64),
            desk: Desk::default(),
            waiting: Vec::new(),
            is_dead: false,
        };
        Self {
            rule,
            lending: Lending {
                window: rule.window,
                credit: (rule.limit / (100 * gateways as u64)).max(1),
                is_for_window: rule.algorithm == Algorithm::FixedWindow,
            },
            key: Hashing::default().key(1, |parts| parts.number(1)),
            gateways: std::iter::repeat_with(gateway).take(gateways).collect(),
            store: Model::default(),
            trips: Vec::new(),
            arrivals: BinaryHeap::new(),
            delays,
            admitted: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn send(&mut self, trip: Trip, now: u64) {
        let delay = self.delays[self.trips.len() % self.delays.len()];
        self.arrivals.push(Reverse((now + delay, self.trips.len())));
        self.trips.push(Some(trip));
    }

    /// Lets everything happen until then.
    fn pass(&mut self, until: u64) {
        while let Some(Reverse((at, number))) = self.arrivals.peek().copied() {
            if at > until {
                break;
            }
            self.arrivals.pop();
            match self.trips[number].take() {
                Some(Trip::There(gateway, question)) => {
                    let grant = self.store.take(&[question.ask], at)[0];
                    self.send(Trip::Back(gateway, question, grant), at);
                }
                Some(Trip::Back(gateway, question, grant)) => {
                    self.receive(gateway, question, &grant, at)
                }
                None => {}
            }
        }
    }

    fn receive(&mut self, number: usize, question: Question, grant: &Grant, now: u64) {
        let gateway = &mut self.gateways[number];
        if gateway.is_dead {
            return;
        }
        gateway.desk.answered(question, grant, &gateway.leases, now);
        let waiting = std::mem::take(&mut gateway.waiting);
        for (cost, mut answered) in waiting {
            match answered.try_recv() {
                Ok(_) => self.request(number, cost, now),
                Err(_) => self.gateways[number].waiting.push((cost, answered)),
            }
        }
        self.ask(number, now);
    }

    fn ask(&mut self, number: usize, now: u64) {
        let share = 2 * self.gateways.len() as u64;
        loop {
            let gateway = &mut self.gateways[number];
            gateway.desk.reclaim(&gateway.leases, now);
            let Some(question) = gateway.desk.question(&gateway.leases, share, now) else {
                return;
            };
            self.send(Trip::There(number, question), now);
        }
    }

    /// A request of so many tokens comes to a gateway.
    fn request(&mut self, number: usize, cost: u64, now: u64) {
        let gateway = &mut self.gateways[number];
        if gateway.is_dead {
            return;
        }
        let demand = |owed, waiter| Demand {
            key: self.key,
            shared: SHARED,
            rule: self.rule,
            lending: self.lending,
            owed,
            is_lease: true,
            waiter,
        };
        match gateway.leases.spend(self.key, &self.lending, cost, now) {
            Ok(Spending::Spent { ask, .. }) => {
                self.admitted.extend((0..cost).map(|_| now));
                if let Some(owed) = ask {
                    gateway.desk.take(demand(owed, None), now);
                }
            }
            Ok(Spending::Denied { .. }) => self.refused.push(now),
            Ok(Spending::Dry) | Err(_) => {
                let (waiter, answered) = oneshot::channel();
                gateway.waiting.push((cost, answered));
                gateway.desk.take(demand(0, Some((cost, waiter))), now);
            }
        }
        self.ask(number, now);
    }

    /// The most that was admitted in any interval of this length.
    fn densest(&self, length: u64) -> u64 {
        let mut start = 0;
        let counts = self.admitted.iter().enumerate().map(|(end, time)| {
            while self.admitted[start] + length <= *time {
                start += 1;
            }
            end - start + 1
        });
        counts.max().unwrap_or(0) as u64
    }
}

/// What the algorithm itself admits at most in an interval of `length`, as long as the store is asked.
fn promised(rule: &Rule, length: u64) -> u64 {
    let windows = length.div_ceil(rule.window);
    match rule.algorithm {
        // An interval touches one window more than it is long.
        Algorithm::TokenBucket => rule.burst + (rule.limit * length).div_ceil(rule.window),
        _ => (windows + 1) * rule.limit,
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let algorithm = prop::sample::select(vec![
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ]);
    let limit = prop_oneof![1..30u64, 100..2000u64];
    (algorithm, limit, 1..10u64, 1..30u64).prop_map(|(algorithm, limit, tenths, burst)| Rule {
        algorithm,
        limit,
        window: tenths * 500_000,
        burst,
    })
}

/// Which gateway gets a request, and how long after the one before.
fn any_traffic() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let step = prop_oneof![3 => 0..300u64, 2 => 0..20_000u64, 1 => 0..900_000u64];
    prop::collection::vec((0..5usize, step), 1..1500)
}

fn any_delays() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![50..800u64, 50..30_000u64], 1..20)
}

const START: u64 = 3_600_000_000;

fn run(rule: Rule, gateways: usize, delays: Vec<u64>, traffic: &[(usize, u64)]) -> Fleet {
    let mut fleet = Fleet::new(rule, gateways, delays);
    let mut now = START;
    for (gateway, step) in traffic {
        now += step;
        fleet.pass(now);
        fleet.request(gateway % gateways, 1, now);
    }
    fleet.pass(u64::MAX);
    fleet.admitted.sort_unstable();
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn all_together_admit_no_more_than_is_promised(
        rule in any_rule(),
        gateways in 1..5usize,
        delays in any_delays(),
        traffic in any_traffic(),
    ) {
        let fleet = run(rule, gateways, delays, &traffic);
        let credit = 2 * fleet.lending.credit * gateways as u64;
        // An interval as long as the window, and two lives of a lease.
        let length = rule.window + 2 * fleet.lending.life();
        let most = fleet.densest(rule.window);
        let promised = promised(&rule, length) + credit;
        prop_assert!(most <= promised, "{most} > {promised}: {rule:?}");
    }

    #[test]
    fn a_window_admits_the_limit_and_what_each_may_have_on_credit(
        limit in prop_oneof![1..30u64, 100..2000u64],
        gateways in 1..5usize,
        delays in any_delays(),
        requests in prop::collection::vec((0..5usize, 0..2_000u64), 1..3000),
    ) {
        // One window is longer than all of it.
        let rule = Rule {
            algorithm: Algorithm::FixedWindow,
            limit,
            window: 3_600_000_000,
            burst: limit,
        };
        let fleet = run(rule, gateways, delays, &requests);
        let most = limit + fleet.lending.credit * gateways as u64;
        let admitted = fleet.admitted.len() as u64;
        prop_assert!(admitted <= most, "{admitted} > {most}");
        // And nobody is refused as long as there is something left that no other holds.
        let waiting: usize = fleet.gateways.iter().map(|it| it.waiting.len()).sum();
        prop_assert_eq!(waiting, 0, "some wait for ever");
        prop_assert!(fleet.refused.is_empty() || 2 * admitted >= limit, "{admitted} of {limit}");
    }
}

#[test]
fn a_gateway_that_dies_takes_no_more_with_it_than_it_had_ahead() {
    let rule = Rule {
        algorithm: Algorithm::FixedWindow,
        limit: 1000,
        window: 60_000_000,
        burst: 1000,
    };
    let mut fleet = Fleet::new(rule, 3, vec![300]);
    let mut now = START;
    for number in 0..600 {
        now += 500;
        fleet.pass(now);
        fleet.request(number % 3, 1, now);
    }
    fleet.gateways[0].is_dead = true;
    let before = fleet.admitted.len();
    for number in 0..3000 {
        now += 500;
        fleet.pass(now);
        fleet.request(1 + number % 2, 1, now);
    }
    fleet.pass(now + 1_000_000);
    assert!(before >= 590, "{before}");
    let admitted = fleet.admitted.len();
    // A lease is at most a sixth of what is left, and lasts for a fifth of a second: 133 tokens.
    assert!(
        (1000 - 134..=1000 + 3 * 3).contains(&admitted),
        "{admitted}"
    );
}
