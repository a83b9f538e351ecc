//! What is charged by answers, and by which calendar.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::super::clock::Clock;
use super::super::limiter::{Counters, Scope};
use super::super::store::Store;
use super::super::verdict::{Passed, Verdict};
use super::*;
use crate::config::{
    ByteSize, Diagnostics, LimitAmount, LimitCost, LimitKey, LimitWindow, OneOrMany, Period,
    RateLimit,
};

/// Somebody who comes from one address.
#[derive(Default)]
struct Client {
    consumer: Option<&'static str>,
    home: Option<Arc<Zone>>,
    cost: Option<u64>,
}

impl KeySource for Client {
    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    fn consumer(&self) -> Option<(&str, &str)> {
        self.consumer.map(|name| ("", name))
    }
    fn route(&self) -> u64 {
        0
    }
    fn cost(&self) -> Option<u64> {
        self.cost
    }
    fn time_zone(&self) -> Option<&Arc<Zone>> {
        self.home.as_ref()
    }
}

fn limit(limit: LimitAmount, window: LimitWindow, cost: LimitCost) -> RateLimit {
    RateLimit {
        limit: limit.into(),
        window: window.into(),
        cost: cost.into(),
        ..RateLimit::new(1, Period::seconds(1))
    }
}

fn compile(limits: Vec<RateLimit>, store: &Arc<Store>) -> RateLimits {
    let scope = Scope {
        identity: "test",
        name: "test",
        has_identity: true,
        decisions: None,
    };
    let counters = Counters {
        local: store.clone(),
        shared: None,
        has_store: false,
        has_top_keys: false,
    };
    let mut diagnostics = Diagnostics::default();
    let limits = RateLimits::compile(&OneOrMany(limits), scope, &counters, &mut diagnostics);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    limits.unwrap()
}

fn minute() -> LimitWindow {
    LimitWindow::Length(Period::seconds(60))
}

fn mib(count: u64) -> LimitAmount {
    LimitAmount::Bytes(ByteSize::mib(count))
}

/// Lets a request in, if it may come, and says what is left after its answer.
fn pass(limits: &RateLimits, now: Instant, client: &Client, answers: &[Answer<'_>]) -> Option<u64> {
    let Verdict::Admit(passed) = limits.decide_all(now, client) else {
        return None;
    };
    let mut remaining = passed.tightest.unwrap().remaining;
    for due in limits.dues(None, client) {
        let charged = answers
            .iter()
            .map(|answer| limits.charge(&due, now, *answer));
        let mut left = charged.filter_map(|charged| match charged {
            Charged::NotYet => None,
            Charged::Counted(left) => Some(left.unwrap()),
        });
        remaining = left.next().unwrap().remaining;
        assert!(left.next().is_none(), "charged twice");
    }
    Some(remaining)
}

#[test]
fn bytes_are_charged_when_they_are_sent_and_may_be_more_than_is_left() {
    for window in [minute(), LimitWindow::Day] {
        let store = Arc::new(Store::new(1000));
        let limits = compile(
            vec![limit(mib(8), window, LimitCost::ResponseBytes)],
            &store,
        );
        let (now, client) = (Instant::now(), Client::default());
        let headers = HeaderMap::new();
        let pass = |bytes| {
            let answers = [Answer::Begun(&headers), Answer::Sent { bytes }];
            pass(&limits, now, &client, &answers)
        };
        // To a millionth of the limit for each answer.
        let left = pass(5 << 20).unwrap();
        assert!((3 << 20) - left <= 16, "{left}");
        assert_eq!(pass(50 << 20), Some(0));
        assert_eq!(pass(0), None);
    }
}

#[test]
fn what_is_only_tried_out_is_charged_and_nobody_told() {
    let store = Arc::new(Store::new(1000));
    let tried = RateLimit {
        enforce: false,
        ..limit(mib(1), minute(), LimitCost::ResponseBytes)
    };
    let limits = compile(vec![tried], &store);
    let (now, client) = (Instant::now(), Client::default());
    let would_be_refused = || {
        let Verdict::Admit(passed) = limits.decide_all(now, &client) else {
            unreachable!()
        };
        for due in limits.dues(None, &client) {
            let charged = limits.charge(&due, now, Answer::Sent { bytes: 1 << 19 });
            assert_eq!(charged, Charged::Counted(None));
        }
        passed.would_refuse.is_some()
    };
    assert!(!would_be_refused() && !would_be_refused() && would_be_refused());
}

#[test]
fn bytes_of_a_day_are_counted_one_by_one() {
    let store = Arc::new(Store::new(1000));
    let limits = compile(
        vec![limit(
            mib(1 << 20),
            LimitWindow::Day,
            LimitCost::ResponseBytes,
        )],
        &store,
    );
    let (now, client) = (Instant::now(), Client::default());
    let pass = |bytes| pass(&limits, now, &client, &[Answer::Sent { bytes }]);
    assert_eq!(pass((1 << 40) - 1), Some(1));
    assert_eq!(pass(1), Some(0));
    assert_eq!(pass(1), None);
}

#[test]
fn a_header_says_what_was_spent() {
    let name = HeaderName::from_static("x-cost");
    let store = Arc::new(Store::new(1000));
    let cost = LimitCost::ResponseHeader(name.to_string());
    let limits = compile(vec![limit(10.into(), minute(), cost)], &store);
    let (now, client) = (Instant::now(), Client::default());
    let pass = |value: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.extend(value.map(|value| (name.clone(), HeaderValue::from_static(value))));
        pass(&limits, now, &client, &[Answer::Begun(&headers)])
    };
    assert_eq!(pass(Some("4")), Some(6));
    assert_eq!(pass(Some("0")), Some(6));
    assert_eq!(pass(Some("four")), Some(5));
    assert_eq!(pass(None), Some(4));
    assert_eq!(pass(Some("100")), Some(0));
    assert_eq!(pass(Some("0")), None);
}

#[test]
fn a_refused_request_gives_back_what_it_cost() {
    let store = Arc::new(Store::new(1000));
    let limits = compile(
        vec![
            limit(10.into(), LimitWindow::Month, LimitCost::Fixed(3)),
            limit(5.into(), minute(), LimitCost::Fixed(3)),
        ],
        &store,
    );
    let (now, client) = (Instant::now(), Client::default());
    assert!(matches!(limits.decide_all(now, &client), Verdict::Admit(_)));
    for _ in 0..9 {
        let Verdict::Refuse(refusal) = limits.decide_all(now, &client) else {
            unreachable!()
        };
        assert_eq!(limits.name(refusal.tightest.limit), "test-2");
        assert_eq!(refusal.tightest.remaining, 2);
    }
    let later = now + Duration::from_secs(120);
    assert!(matches!(
        limits.decide_all(later, &client),
        Verdict::Admit(_)
    ));
}

#[test]
fn a_route_says_what_its_requests_cost_unless_their_answers_do() {
    let store = Arc::new(Store::new(1000));
    let limits = compile(
        vec![
            limit(10.into(), minute(), LimitCost::Fixed(1)),
            limit(mib(1), minute(), LimitCost::ResponseBytes),
        ],
        &store,
    );
    let now = Instant::now();
    let costing = |cost| Client {
        cost: Some(cost),
        ..Client::default()
    };
    assert!(matches!(
        limits.decide_all(now, &costing(7)),
        Verdict::Admit(_)
    ));
    let Verdict::Refuse(refusal) = limits.decide_all(now, &costing(4)) else {
        unreachable!()
    };
    assert_eq!(refusal.tightest.remaining, 3);
    let Verdict::Refuse(refusal) = limits.decide_all(now, &costing(11)) else {
        unreachable!()
    };
    assert_eq!(refusal.retry_after, None);
    assert!(matches!(
        limits.decide_all(now, &costing(3)),
        Verdict::Admit(_)
    ));
    assert_eq!(limits.too_small_for(11), Some("test"));
    assert_eq!(limits.too_small_for(10), None);
}

/// A store whose wall clock the test sets, in seconds since 1970.
fn store_at(time: &str) -> (Arc<Store>, Arc<AtomicI64>) {
    let seconds = time.parse::<Timestamp>().unwrap().as_second();
    let wall = Arc::new(AtomicI64::new(seconds));
    let shown = wall.clone();
    let read = move || Timestamp::from_second(shown.load(Ordering::Relaxed)).unwrap();
    let clock = Clock::with_wall(Box::new(read));
    (Arc::new(Store::with_clock(1000, clock)), wall)
}

fn by_consumer(window: LimitWindow) -> RateLimit {
    RateLimit {
        by: OneOrMany(vec![LimitKey::Consumer.into()]),
        time_zone: Some("Asia/Tokyo".to_owned().into()),
        ..limit(2.into(), window, LimitCost::default())
    }
}

#[test]
fn a_day_is_the_consumers_own() {
    let (store, _) = store_at("2026-06-30T12:00:00Z");
    let limits = compile(vec![by_consumer(LimitWindow::Day)], &store);
    let now = Instant::now();
    let reset = |consumer, home: Option<&str>| {
        let client = Client {
            consumer: Some(consumer),
            home: home.map(|name| store.zone(name).unwrap()),
            ..Client::default()
        };
        match limits.decide_all(now, &client) {
            Verdict::Admit(Passed { tightest, .. }) => (tightest.unwrap().reset + 1800) / 3600,
            Verdict::Refuse(_) | Verdict::Wait(_) | Verdict::Unavailable(_) => 0,
        }
    };
    // Noon in Greenwich: 21:00 in Tokyo, 14:00 in Berlin, 5:00 in Los Angeles.
    assert_eq!(reset("nobody in particular", None), 3);
    assert_eq!(reset("anna", Some("Europe/Berlin")), 10);
    assert_eq!(reset("amy", Some("America/Los_Angeles")), 19);
}

#[test]
fn a_spent_month_is_over_when_the_calendar_says_so() {
    let (store, wall) = store_at("2026-06-30T14:59:58Z");
    let limits = compile(vec![by_consumer(LimitWindow::Month)], &store);
    let now = Instant::now();
    let client = Client {
        consumer: Some("anna"),
        ..Client::default()
    };
    let admits = |now| matches!(limits.decide_all(now, &client), Verdict::Admit(_));
    assert!(admits(now) && admits(now));
    let Verdict::Refuse(refusal) = limits.decide_all(now, &client) else {
        unreachable!()
    };
    assert!(matches!(refusal.retry_after, Some(2..=3)), "{refusal:?}");
    // July in Tokyo; by the clock, not because two seconds have passed.
    let later = now + Duration::from_secs(10);
    assert!(!admits(later));
    wall.fetch_add(2, Ordering::Relaxed);
    store.tick(later);
    assert!(admits(now) && admits(later) && !admits(later));
    // Back in June, the quota of June stays spent.
    wall.fetch_sub(2, Ordering::Relaxed);
    store.tick(later);
    assert!(!admits(later));
}
