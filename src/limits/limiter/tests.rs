use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderName;

use super::*;
use crate::config::{LimitAlgorithm, LimitAmount, LimitKey, Period};

struct Client {
    ip: IpAddr,
    subject: Option<&'static str>,
}

impl KeySource for Client {
    fn client_ip(&self) -> IpAddr {
        self.ip
    }
    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        self.subject
            .map(|subject| Cow::Borrowed(subject.as_bytes()))
    }
    fn consumer(&self) -> Option<(&str, &str)> {
        self.subject.map(|subject| ("main", subject))
    }
    fn route(&self) -> u64 {
        1
    }
}

fn client(last: u8) -> Client {
    Client {
        ip: IpAddr::from([192, 0, 2, last]),
        subject: Some("alice"),
    }
}

fn limit(limit: u64, seconds: u64, by: LimitKey) -> config::RateLimit {
    config::RateLimit {
        by: OneOrMany(vec![by.into()]),
        algorithm: LimitAlgorithm::FixedWindow.into(),
        ..config::RateLimit::new(limit, Period::seconds(seconds))
    }
}

fn scope(identity: &str) -> Scope<'_> {
    Scope {
        identity,
        name: "orders",
        has_identity: true,
        decisions: None,
    }
}

fn compile(limits: Vec<config::RateLimit>, identity: &str, store: &Counters) -> RateLimits {
    let mut diagnostics = Diagnostics::default();
    let limits = RateLimits::compile(&OneOrMany(limits), scope(identity), store, &mut diagnostics);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    limits.unwrap()
}

fn admits(limits: &RateLimits, phase: Phase, now: Instant, client: &Client) -> bool {
    matches!(limits.decide(phase, now, client), Verdict::Admit(_))
}

#[test]
fn ten_pass_the_eleventh_waits_and_another_address_is_untouched() {
    let store = Counters::local(1000);
    let limits = compile(vec![limit(10, 300, LimitKey::ClientIp)], "top", &store);
    let now = Instant::now();
    let before = Phase::BeforeAuthentication;
    assert!((0..10).all(|_| admits(&limits, before, now, &client(1))));
    let Verdict::Refuse(refusal) = limits.decide(before, now, &client(1)) else {
        unreachable!()
    };
    assert_eq!(refusal.retry_after, Some(300));
    assert!(admits(&limits, before, now, &client(2)));
    assert!(admits(
        &limits,
        before,
        now + Duration::from_secs(300),
        &client(1)
    ));
}

#[test]
fn places_do_not_spend_each_others_budget_and_reloads_keep_counts() {
    let store = Counters::local(1000);
    let one = || vec![limit(1, 60, LimitKey::ClientIp)];
    let now = Instant::now();
    let before = Phase::BeforeAuthentication;
    assert!(admits(
        &compile(one(), "route a", &store),
        before,
        now,
        &client(1)
    ));
    assert!(admits(
        &compile(one(), "route b", &store),
        before,
        now,
        &client(1)
    ));
    assert!(!admits(
        &compile(one(), "route a", &store),
        before,
        now,
        &client(1)
    ));
}

#[test]
fn a_refusal_takes_back_what_other_limits_counted() {
    let store = Counters::local(1000);
    let limits = vec![
        limit(5, 60, LimitKey::Everyone),
        limit(1, 60, LimitKey::ClientIp),
    ];
    let limits = compile(limits, "top", &store);
    let now = Instant::now();
    let before = Phase::BeforeAuthentication;
    for _ in 0..10 {
        admits(&limits, before, now, &client(1));
    }
    let admitted = (2..20)
        .filter(|last| admits(&limits, before, now, &client(*last)))
        .count();
    assert_eq!(admitted, 4);
}

#[test]
fn limits_by_claim_are_decided_after_authentication() {
    let store = Counters::local(1000);
    let limits = vec![
        limit(1, 60, LimitKey::Claim("sub".into())),
        limit(9, 60, LimitKey::ClientIp),
    ];
    let limits = compile(limits, "top", &store);
    let now = Instant::now();
    for _ in 0..3 {
        assert!(admits(
            &limits,
            Phase::BeforeAuthentication,
            now,
            &client(1)
        ));
    }
    assert!(admits(&limits, Phase::AfterAuthentication, now, &client(1)));
    assert!(!admits(
        &limits,
        Phase::AfterAuthentication,
        now,
        &client(2)
    ));
}

#[test]
fn a_limit_that_is_tried_out_counts_and_nobody_notices() {
    let store = Counters::local(1000);
    let tried = config::RateLimit {
        enforce: false,
        ..limit(2, 60, LimitKey::ClientIp)
    };
    let limits = vec![tried.clone(), limit(8, 60, LimitKey::ClientIp)];
    let limits = compile(limits, "top", &store);
    let now = Instant::now();
    for round in 1..3 {
        let now = now + Duration::from_secs(60 * round);
        let verdicts = (0..9).map(|_| limits.decide_all(now, &client(1)));
        let passed: Vec<Passed> = verdicts
            .filter_map(|verdict| match verdict {
                Verdict::Admit(passed) => Some(passed),
                Verdict::Refuse(_) | Verdict::Wait(_) | Verdict::Unavailable(_) => None,
            })
            .collect();
        // What it would refuse it does not count, so the next window is as good as this one.
        let refused = passed.iter().map(|it| it.would_refuse.is_some());
        let expected = [false, false, true, true, true, true, true, true];
        assert!(refused.eq(expected), "{passed:?}");
        let left = passed.iter().map(|it| it.tightest.unwrap().remaining);
        assert!(left.eq((0..8).rev()), "{passed:?}");
    }
    assert_eq!(limits.policy().unwrap(), "\"orders-2\";q=8;w=60");
    assert_eq!(compile(vec![tried], "top", &store).policy(), None);
}

#[test]
fn what_is_given_back_was_not_counted_by_a_limit_that_is_tried_out() {
    let store = Counters::local(1000);
    let tried = config::RateLimit {
        enforce: false,
        ..limit(3, 60, LimitKey::Everyone)
    };
    let limits = vec![tried, limit(1, 60, LimitKey::ClientIp)];
    let limits = compile(limits, "top", &store);
    let now = Instant::now();
    let would_refuse = |client: &Client| match limits.decide_all(now, client) {
        Verdict::Admit(passed) => passed.would_refuse.is_some(),
        Verdict::Refuse(_) | Verdict::Wait(_) | Verdict::Unavailable(_) => false,
    };
    (0..10).for_each(|_| assert!(!would_refuse(&client(1))));
    assert!(!would_refuse(&client(2)) && !would_refuse(&client(3)));
    assert!(would_refuse(&client(4)));
}

#[test]
fn each_decision_is_counted_once_and_only_where_it_stands() {
    let store = Counters::local(1000);
    let decisions = LimitDecisions::default();
    let scope = Scope {
        decisions: Some(&decisions),
        ..scope("top")
    };
    let tried = config::RateLimit {
        enforce: false,
        ..limit(2, 60, LimitKey::Everyone)
    };
    let list = vec![
        limit(9, 60, LimitKey::Everyone),
        limit(4, 60, LimitKey::Everyone),
        tried,
    ];
    let mut diagnostics = Diagnostics::default();
    let limits = RateLimits::compile(&OneOrMany(list), scope, &store, &mut diagnostics);
    let limits = limits.unwrap();
    let now = Instant::now();
    for _ in 0..6 {
        let _ = limits.decide_all(now, &client(1));
    }
    for (limit, decision, count) in [
        ("orders", Decision::Admitted, 4),
        ("orders", Decision::Refused, 0),
        ("orders-2", Decision::Admitted, 4),
        ("orders-2", Decision::Refused, 2),
        ("orders-3", Decision::Admitted, 2),
        ("orders-3", Decision::WouldRefuse, 2),
        ("orders-3", Decision::Refused, 0),
    ] {
        let counted = decisions.of(limit).total(decision);
        assert_eq!(counted, count, "{limit} {decision:?}");
    }
}

#[test]
fn clients_are_put_off_at_random_and_never_too_early() {
    let store = Counters::local(1000);
    let jittery = config::RateLimit {
        retry_jitter: Period::seconds(5).into(),
        ..limit(1, 60, LimitKey::ClientIp)
    };
    let limits = compile(vec![jittery], "top", &store);
    let now = Instant::now();
    let _ = limits.decide_all(now, &client(1));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let Verdict::Refuse(refusal) = limits.decide_all(now, &client(1)) else {
            unreachable!("one was admitted")
        };
        assert_eq!(refusal.tightest.reset, 60);
        seen.insert(refusal.retry_after.unwrap());
    }
    assert!(seen.iter().all(|wait| (60..=65).contains(wait)), "{seen:?}");
    assert!(seen.len() > 3, "{seen:?}");
}

#[test]
fn every_mistake_is_reported() {
    let store = Counters::local(1000);
    let mut wrong = limit(0, 0, LimitKey::Claim("sub".into()));
    wrong.burst = Some(LimitAmount::Units(5).into());
    wrong.ipv6_prefix = 129.into();
    wrong.retry_jitter = Period::seconds(3601).into();
    let mut diagnostics = Diagnostics::default();
    let scope = Scope {
        has_identity: false,
        ..scope("top")
    };
    assert!(
        RateLimits::compile(&OneOrMany(vec![wrong]), scope, &store, &mut diagnostics).is_none()
    );
    assert_eq!(diagnostics.as_slice().len(), 6);
}
