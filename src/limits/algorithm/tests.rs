use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::TokenBucket,
    Algorithm::Calendar(CalendarPeriod {
        number: 20_000,
        end: u64::MAX / 2,
        left: 1,
    }),
];

fn rule(algorithm: Algorithm, limit: u64, window: u64, burst: u64) -> Rule {
    Rule {
        algorithm,
        limit,
        window,
        burst,
    }
}

/// A rule whose period of the calendar is the one at `now`, as callers keep it.
fn at(rule: &Rule, now: u64) -> Rule {
    let mut rule = *rule;
    if let Algorithm::Calendar(period) = &mut rule.algorithm {
        period.number = now / rule.window;
        period.end = (period.number + 1) * rule.window;
    }
    rule
}

/// The requests that are admitted of those that come at `times`, with what they cost.
fn admitted(rule: &Rule, requests: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut state = 0;
    requests
        .iter()
        .filter(
            |(now, cost)| match at(rule, *now).decide(state, *now, *cost) {
                Ok(admitted) => {
                    state = admitted.state;
                    true
                }
                Err(_) => false,
            },
        )
        .copied()
        .collect()
}

/// The most that was admitted in any interval of a length.
fn densest(requests: &[(u64, u64)], length: u64) -> u64 {
    let from = |start: usize| {
        let end = requests[start].0 + length;
        let within = requests[start..].iter().take_while(|(now, _)| *now < end);
        within.map(|(_, cost)| cost).sum::<u64>()
    };
    (0..requests.len()).map(from).max().unwrap_or(0)
}

#[test]
fn a_fixed_window_starts_with_the_first_request_and_ends_on_time() {
    let rule = rule(Algorithm::FixedWindow, 10, 300 * SECOND, 10);
    let start = 77 * SECOND;
    let mut times = vec![start; 11];
    times.push(start + 300 * SECOND - 1);
    times.push(start + 300 * SECOND);
    let mut state = 0;
    let verdicts: Vec<_> = times
        .iter()
        .map(|now| rule.decide(state, *now, 1).inspect(|a| state = a.state))
        .collect();
    let refused = |retry| {
        Err(Refused {
            remaining: 0,
            retry: Some(retry),
        })
    };
    assert!(verdicts[..10].iter().all(Result::is_ok));
    assert_eq!(verdicts[10], refused(300 * SECOND));
    assert_eq!(verdicts[11], refused(1));
    assert_eq!(verdicts[12].unwrap().remaining, 9);
}

#[test]
fn one_a_minute_is_not_one_a_second() {
    for algorithm in ALGORITHMS {
        let rule = rule(algorithm, 1, 60 * SECOND, 1);
        let requests: Vec<_> = (0..59).map(|second| (second * SECOND, 1)).collect();
        assert_eq!(admitted(&rule, &requests).len(), 1, "{algorithm:?}");
    }
}

#[test]
fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
    let rule = rule(Algorithm::TokenBucket, 10, SECOND, 5);
    assert_eq!(admitted(&rule, &[(SECOND, 1); 20]).len(), 5);
    let steady: Vec<_> = (0..100).map(|i| (SECOND + i * SECOND / 20, 1)).collect();
    assert_eq!(admitted(&rule, &steady).len(), 5 + 49);
}

#[test]
fn a_period_of_the_calendar_ends_whenever_the_key_was_first_seen() {
    let period = |number, end| {
        Algorithm::Calendar(CalendarPeriod {
            number,
            end,
            left: 1,
        })
    };
    let today = rule(period(20_000, 100), 1, 100, 1);
    let spent = today.decide(0, 99, 1).unwrap();
    assert_eq!(spent.reset, 1);
    let refused = Refused {
        remaining: 0,
        retry: Some(1),
    };
    assert_eq!(today.decide(spent.state, 99, 1), Err(refused));
    let tomorrow = rule(period(20_001, 200), 1, 100, 1);
    assert!(tomorrow.decide(spent.state, 100, 1).is_ok());
}

#[test]
fn the_largest_limits_fit() {
    for algorithm in ALGORITHMS {
        for window in [SECOND / 10, 86_400 * SECOND] {
            let rule = rule(algorithm, LARGEST_LIMIT, window, LARGEST_LIMIT);
            let now = 30 * 365 * 86_400 * SECOND;
            let mut state = 0;
            for _ in 0..LARGEST_LIMIT {
                state = rule.decide(state, now, 1).unwrap().state;
            }
            assert!(rule.decide(state, now, 1).is_err(), "{algorithm:?}");
            let state = rule.decide(0, now, LARGEST_LIMIT).unwrap().state;
            assert!(rule.decide(state, now, 1).is_err(), "{algorithm:?}");
        }
    }
}

#[test]
fn a_quota_of_a_million_millions_is_exact() {
    let [.., algorithm] = ALGORITHMS;
    let rule = rule(algorithm, LARGEST_QUOTA, 31 * 86_400 * SECOND, 1);
    let nearly = rule.charge(0, 1, LARGEST_QUOTA - 1);
    assert_eq!(nearly.remaining, 1);
    assert!(rule.decide(nearly.state, 1, 2).is_err());
    let spent = rule.decide(nearly.state, 1, 1).unwrap();
    assert!(rule.decide(spent.state, 1, 0).is_err());
}

#[test]
fn no_charge_is_so_large_that_it_counts_as_less() {
    for algorithm in ALGORITHMS {
        for window in [SECOND / 10, 86_400 * SECOND] {
            let rule = rule(algorithm, 366, window, 366);
            let now = 30 * 365 * 86_400 * SECOND;
            let mut state = 0;
            for _ in 0..3 {
                let charged = rule.charge(state, now, u64::MAX);
                assert!(charged.expires > now);
                state = charged.state;
                let refused = rule.decide(state, now, 1).unwrap_err();
                assert_eq!(refused.remaining, 0, "{algorithm:?}");
                assert!(refused.retry > Some(0), "{algorithm:?}");
            }
        }
    }
}

/// A debt of ten limits: it ends with a fixed window and with a period, fades with a sliding window,
/// and has to be paid back to a bucket.
#[test]
fn a_debt_is_over_when_its_window_says_so() {
    let minute = 60 * SECOND;
    let retry = |algorithm| {
        let rule = at(&rule(algorithm, 10, minute, 10), minute);
        let state = rule.charge(0, minute, 100).state;
        rule.decide(state, minute, 1).unwrap_err().retry.unwrap()
    };
    let [fixed, sliding, bucket, calendar] = ALGORITHMS;
    assert_eq!(retry(fixed), minute);
    assert_eq!(retry(sliding), minute + minute * 91 / 100);
    assert_eq!(retry(bucket), minute * 91 / 10);
    assert_eq!(retry(calendar), minute);
}

#[test]
fn a_late_request_does_not_reopen_a_window() {
    // Which period it is, is said by whoever keeps the calendar.
    let [by_themselves @ .., _] = ALGORITHMS;
    for algorithm in by_themselves {
        let rule = rule(algorithm, 3, SECOND, 3);
        let mut state = 0;
        for now in [SECOND, SECOND + 1, SECOND + 2] {
            state = rule.decide(state, now, 1).unwrap().state;
        }
        let refused = rule.decide(state, SECOND - 500, 1).unwrap_err();
        let retry = refused.retry.unwrap();
        assert!(rule.decide(state, SECOND - 500 + retry, 1).is_ok());
        assert!(rule.decide(state, SECOND - 500 + retry - 1, 1).is_err());
        let charged = rule.charge(state, SECOND - 500, 1);
        assert!(rule.decide(charged.state, SECOND + 3, 1).is_err());
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (
        prop::sample::select(ALGORITHMS.to_vec()),
        1..20u64,
        100..2000u64,
        1..20u64,
    )
        .prop_map(|(algorithm, limit, window, burst)| rule(algorithm, limit, window * 1000, burst))
}

/// Steps between requests, with what these cost.
fn requests(longest: u64, most: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..longest, 0..8u64), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_window_admits_more_than_promised(
        rule in any_rule(),
        start in 0..10_000_000u64,
        steps in requests(200_000, 200),
    ) {
        let mut now = start;
        let requests: Vec<_> = steps
            .iter()
            .map(|(step, cost)| { now += step; (now, *cost) })
            .collect();
        let admitted = admitted(&rule, &requests);
        // A fixed window starts on a whole millisecond, up to one early.
        let most = densest(&admitted, rule.window - 1000);
        let promised = match rule.algorithm {
            Algorithm::TokenBucket => rule.burst + rule.limit,
            _ => 2 * rule.limit,
        };
        prop_assert!(most <= promised, "{most} > {promised}");
    }

    #[test]
    fn a_refused_request_is_admitted_after_the_wait_and_not_before(
        rule in any_rule(),
        start in 0..10_000_000u64,
        steps in requests(100_000, 100),
        charges in prop::collection::vec(0..60u64, 100),
    ) {
        let (mut state, mut now, mut expires) = (0, start, 0);
        for ((step, cost), charge) in steps.into_iter().zip(charges) {
            now += step;
            if now >= expires {
                state = 0;
            }
            let decide = |now| at(&rule, now).decide(state, now, cost);
            match decide(now) {
                Ok(admitted) => {
                    prop_assert!(cost <= rule.most());
                    prop_assert!(admitted.expires >= now);
                    prop_assert!(admitted.remaining <= rule.most() - cost);
                    (state, expires) = (admitted.state, admitted.expires);
                }
                Err(Refused { remaining, retry: Some(retry) }) => {
                    prop_assert!(retry > 0);
                    prop_assert!(remaining < cost.max(1));
                    prop_assert!(decide(now + retry).is_ok());
                    prop_assert!(decide(now + retry - 1).is_err());
                }
                Err(Refused { retry: None, .. }) => prop_assert!(cost > rule.most()),
            }
            // Few answers cost something, but those may cost more than is left.
            if charge % 5 == 0 {
                let charged = at(&rule, now).charge(state, now, charge);
                (state, expires) = (charged.state, charged.expires);
            }
        }
    }

    #[test]
    fn a_charge_counts_as_much_as_an_admission(
        rule in any_rule(),
        now in 0..10_000_000u64,
        costs in prop::collection::vec(0..8u64, 1..10),
    ) {
        let rule = at(&rule, now);
        let mut state = 0;
        for cost in costs {
            let charged = rule.charge(state, now, cost);
            if let Ok(admitted) = rule.decide(state, now, cost) {
                prop_assert_eq!(admitted, charged);
            }
            state = charged.state;
        }
    }

    #[test]
    fn what_remains_is_admitted_at_once_and_no_more(
        rule in any_rule(),
        now in 0..10_000_000u64,
        charge in 0..30u64,
    ) {
        let rule = at(&rule, now);
        let charged = rule.charge(0, now, charge);
        let remaining = charged.remaining;
        prop_assert_eq!(rule.decide(charged.state, now, 0).is_ok(), remaining > 0);
        prop_assert!(remaining == 0 || rule.decide(charged.state, now, remaining).is_ok());
        prop_assert!(rule.decide(charged.state, now, remaining + 1).is_err());
    }

    #[test]
    fn what_is_used_and_what_remains_are_all_there_is(
        rule in any_rule(),
        start in 0..10_000_000u64,
        charge in 0..60u64,
        step in 0..2_000_000u64,
    ) {
        let charged = at(&rule, start).charge(0, start, charge);
        prop_assert_eq!(at(&rule, start).used(charged.state, start), charge);
        let now = (start + step).min(charged.expires.max(start + 1) - 1);
        let rule = at(&rule, now);
        let used = rule.used(charged.state, now);
        let remaining = rule.charge(charged.state, now, 0).remaining;
        prop_assert_eq!(remaining, rule.most().saturating_sub(used));
    }

    #[test]
    fn an_expired_state_is_that_of_a_key_never_seen(
        rule in any_rule(),
        start in 0..10_000_000u64,
        charge in 1..60u64,
        cost in 0..8u64,
    ) {
        let charged = at(&rule, start).charge(0, start, charge);
        let rule = at(&rule, charged.expires);
        let decide = |state| rule.decide(state, charged.expires, cost);
        prop_assert_eq!(decide(charged.state), decide(0));
    }

    #[test]
    fn a_refund_undoes_a_charge(
        rule in any_rule(),
        start in 0..10_000_000u64,
        before in prop::collection::vec(0..8u64, 0..5),
        step in 0..100_000u64,
        cost in 0..30u64,
        next in 0..8u64,
    ) {
        let mut state = 0;
        for cost in before {
            state = at(&rule, start).charge(state, start, cost).state;
        }
        let now = start + step;
        let rule = at(&rule, now);
        let refunded = rule.refund(rule.charge(state, now, cost).state, cost);
        prop_assert_eq!(rule.decide(refunded, now, next), rule.decide(state, now, next));
    }
}
