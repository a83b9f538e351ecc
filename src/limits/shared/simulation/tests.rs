use proptest::prelude::*;

use super::super::super::algorithm::{Algorithm, Rule};
use super::*;

/// A request, and how long after the one before it comes.
type Traffic = Vec<(Request, u64)>;

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

fn any_traffic() -> impl Strategy<Value = Traffic> {
    let step = prop_oneof![3 => 0..300u64, 2 => 0..20_000u64, 1 => 0..900_000u64];
    let cost = prop_oneof![6 => Just(1), 1 => 0..6u64];
    // Another limit knows at once, or is waited for.
    let refused_after = prop_oneof![
        8 => Just(None),
        1 => Just(Some(0)),
        1 => (0..300_000u64).prop_map(Some),
    ];
    let request =
        (0..5usize, cost, refused_after).prop_map(|(gateway, cost, refused_after)| Request {
            gateway,
            key: 0,
            cost,
            refused_after,
        });
    prop::collection::vec((request, step), 1..1500)
}

fn any_ways() -> impl Strategy<Value = Vec<Way>> {
    let micros = prop_oneof![50..800u64, 50..30_000u64];
    let way = (micros, prop::bool::weighted(0.02));
    let way = way.prop_map(|(micros, is_lost)| Way { micros, is_lost });
    prop::collection::vec(way, 1..60)
}

/// A request that comes to this gateway.
fn of(gateway: usize) -> Request {
    Request {
        gateway,
        key: 0,
        cost: 1,
        refused_after: None,
    }
}

fn fleet(rule: Rule, gateways: usize, ways: Vec<Way>) -> Fleet {
    let mut ways = ways.into_iter().cycle();
    let ways = move || ways.next().unwrap();
    Fleet::new(
        rule,
        (gateways, 64),
        Box::new(ways),
        Ledger::new(1, 1),
        START,
    )
}

fn run(rule: Rule, gateways: usize, ways: Vec<Way>, traffic: &Traffic) -> Fleet {
    let mut fleet = fleet(rule, gateways, ways);
    let mut now = START;
    for (request, step) in traffic {
        now += step;
        fleet.pass(now);
        let request = Request {
            gateway: request.gateway % gateways,
            cost: request.cost.min(rule.most()),
            ..*request
        };
        fleet.request(request, now);
    }
    fleet.pass(now + 1_000_000);
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_together_admit_no_more_than_is_promised(
        rule in any_rule(),
        gateways in 1..5usize,
        ways in any_ways(),
        traffic in any_traffic(),
    ) {
        let fleet = run(rule, gateways, ways, &traffic);
        let most = match rule.algorithm {
            Algorithm::FixedWindow => fleet.ledger.fullest(rule.window),
            _ => fleet.ledger.densest(rule.window),
        };
        let promised = fleet.promised(LimitMode::Fast);
        prop_assert!(most <= promised, "{most} > {promised}: {rule:?}");
        prop_assert_eq!(fleet.waiting(), 0, "some wait for ever");
    }

    #[test]
    fn nobody_is_refused_while_half_of_the_limit_is_left(
        limit in prop_oneof![1..30u64, 100..2000u64],
        gateways in 1..5usize,
        delays in prop::collection::vec(50..30_000u64, 1..20),
        traffic in prop::collection::vec((0..5usize, 0..2_000u64), 1..3000),
    ) {
        // One window is longer than all of it.
        let rule = Rule {
            algorithm: Algorithm::FixedWindow,
            limit,
            window: 3_600_000_000,
            burst: limit,
        };
        let ways = delays.into_iter().map(|micros| Way { micros, is_lost: false });
        let traffic: Traffic = traffic.iter().map(|(gateway, step)| (of(*gateway), *step)).collect();
        let fleet = run(rule, gateways, ways.collect(), &traffic);
        let admitted = u64::from(fleet.ledger.admitted()[0]);
        prop_assert!(fleet.ledger.refused() == 0 || 2 * admitted >= limit, "{admitted} of {limit}");
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
    let way = Way {
        micros: 300,
        is_lost: false,
    };
    let mut fleet = fleet(rule, 3, vec![way]);
    let mut now = START;
    let mut send = |fleet: &mut Fleet, gateway| {
        now += 500;
        fleet.pass(now);
        fleet.request(of(gateway), now);
    };
    for number in 0..600 {
        send(&mut fleet, number % 3);
    }
    fleet.kill(0);
    let before = fleet.ledger.admitted()[0];
    for number in 0..3000 {
        send(&mut fleet, 1 + number % 2);
    }
    assert!(before >= 590, "{before}");
    let admitted = fleet.ledger.admitted()[0];
    // A lease is at most a sixth of what is left, and lasts for a fifth of a second: 133 tokens.
    assert!(
        (1000 - 134..=1000 + 3 * 3).contains(&admitted),
        "{admitted}"
    );
}

fn small(algorithm: LimitAlgorithm, mode: LimitMode) -> Scenario {
    Scenario {
        algorithm,
        mode,
        limit: 400,
        window: Duration::from_secs(2),
        burst: 100,
        gateways: 20,
        leases: 4096,
        keys: 10_000,
        watched: 10_000,
        requests: 60_000,
        rate: 20_000,
        delay: 100..400,
        seed: 1,
    }
}

const ALGORITHMS: [LimitAlgorithm; 3] = [
    LimitAlgorithm::FixedWindow,
    LimitAlgorithm::SlidingWindow,
    LimitAlgorithm::TokenBucket,
];

#[test]
fn a_fleet_with_many_keys_admits_of_each_what_is_promised_and_hardly_less() {
    for algorithm in ALGORITHMS {
        let outcome = small(algorithm, LimitMode::Fast).run();
        let Outcome {
            most,
            promised,
            over,
            under,
            exact,
            ..
        } = outcome;
        assert!(most <= promised, "{algorithm:?}: {outcome:?}");
        assert!(100 * (over + under) < exact, "{algorithm:?}: {outcome:?}");
        assert!(exact < 55_000, "the limit is not reached: {outcome:?}");
    }
}

#[test]
fn a_strict_limit_admits_exactly_what_it_says_and_asks_about_all() {
    for algorithm in ALGORITHMS {
        let outcome = small(algorithm, LimitMode::Strict).run();
        assert!(
            outcome.most <= outcome.promised,
            "{algorithm:?}: {outcome:?}"
        );
        assert_eq!(outcome.questions, 60_000);
    }
}

#[test]
fn leases_save_questions_about_keys_that_come_often() {
    for algorithm in ALGORITHMS {
        let scenario = Scenario {
            limit: 100_000,
            burst: 100_000,
            watched: 3,
            ..small(algorithm, LimitMode::Fast)
        };
        let outcome = scenario.run();
        let (questions, requests) = outcome.questions_of_first;
        assert!(5 * questions < requests, "{algorithm:?}: {outcome:?}");
    }
}
