//! Services as a whole: who gets which request.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::{Choice, Tried};
use super::{Admission, Outcome, Retry, Service};
use crate::config::{self, Diagnostics, HedgeAfter, Spanned, Target, TargetFields, Toggle};
use crate::telemetry::Meters;

mod draining;

fn choice(service: &Service, index: usize) -> Choice {
    Choice::new(service.endpoints()[index].clone(), index)
}

fn service(targets: &[(&str, u32)]) -> (Option<Service>, Diagnostics) {
    let targets: Vec<Spanned<Target>> = targets
        .iter()
        .map(|(url, weight)| {
            Target::Detailed(TargetFields {
                url: Some((*url).to_owned().into()),
                weight: Some((*weight).into()),
                ..TargetFields::default()
            })
            .into()
        })
        .collect();
    let section = config::Service {
        targets: Some(targets.into()),
        ..config::Service::default()
    };
    let mut diagnostics = Diagnostics::default();
    let service = Service::compile(
        "s",
        &section.into(),
        Path::new("."),
        &Meters::default(),
        &mut diagnostics,
    );
    (service, diagnostics)
}

#[test]
fn endpoints_take_turns_by_weight() {
    let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 3)]);
    let service = service.unwrap();
    let visits: Vec<_> = (0..8)
        .map(|_| {
            service
                .choose(Tried::default(), None, Instant::now())
                .unwrap()
                .index
        })
        .collect();
    assert_eq!(visits.iter().filter(|index| **index == 1).count(), 6);
}

#[test]
fn a_second_attempt_goes_elsewhere() {
    let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 1000)]);
    let service = service.unwrap();
    for _ in 0..100 {
        let mut tried = Tried::default();
        let first = service.choose(tried, None, Instant::now()).unwrap();
        tried.insert(&first);
        let second = service.choose(tried, None, Instant::now()).unwrap();
        assert_ne!(first.index, second.index);
        tried.insert(&second);
        assert!(service.choose(tried, None, Instant::now()).is_ok());
    }
}

#[test]
fn unresolved_endpoints_are_passed_over() {
    let (service, _) = service(&[("http://name.example:1", 1), ("http://10.0.0.2:1", 1)]);
    let service = service.unwrap();
    assert!((0..4).all(|_| {
        service
            .choose(Tried::default(), None, Instant::now())
            .unwrap()
            .index
            == 1
    }));
}

#[test]
fn a_successor_keeps_what_is_known_of_the_endpoints_that_stay() {
    let known = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
    let known = Arc::new(known.0.unwrap());
    known.endpoints()[1].publish(&["10.0.0.1".parse().unwrap()]);
    known
        .choose(Tried::default(), None, Instant::now())
        .unwrap();
    let same = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
    assert!(Arc::ptr_eq(&same.0.unwrap().succeed(&known), &known));
    let edited = service(&[("http://b.example:1", 1), ("http://c.example:1", 1)]);
    let edited = edited.0.unwrap().succeed(&known);
    assert!(Arc::ptr_eq(&edited.endpoints()[0], &known.endpoints()[1]));
    assert!(edited.endpoints()[0].is_resolved() && !edited.endpoints()[1].is_resolved());
}

#[test]
fn every_bad_target_is_reported() {
    let (service, diagnostics) = service(&[("host:1", 1), ("http://h", 0), ("http://h", 1)]);
    assert!(service.is_none());
    assert_eq!(diagnostics.as_slice().len(), 3);
}

pub(super) fn three() -> Service {
    let targets = [
        "http://10.0.0.1:1",
        "http://10.0.0.2:1",
        "http://10.0.0.3:1",
    ];
    service(&targets.map(|url| (url, 1))).0.unwrap()
}

/// The endpoints that get requests.
fn chosen(service: &Service, tried: Tried, now: Instant) -> Vec<usize> {
    let mut chosen: Vec<_> = (0..30)
        .map(|_| service.choose(tried, None, now).unwrap().index)
        .collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

fn fail(service: &Service, index: usize, now: Instant) {
    for _ in 0..5 {
        service.observe(
            &choice(service, index),
            Outcome::Failure,
            (None, false),
            now,
        );
    }
}

#[test]
fn who_fails_gets_no_requests_until_its_time_is_over() {
    let service = three();
    let now = Instant::now();
    fail(&service, 1, now);
    assert_eq!(chosen(&service, Tried::default(), now), [0, 2]);
    let ejected = service.ejected_endpoints(now);
    assert_eq!(ejected.len(), 1);
    assert_eq!(ejected[0].as_str(), "http://10.0.0.2:1");
    let later = now + Duration::from_secs(45);
    assert_eq!(chosen(&service, Tried::default(), later), [0, 1, 2]);
}

#[test]
fn who_comes_back_gets_more_and_more() {
    let service = three();
    let now = Instant::now();
    fail(&service, 1, now);
    // It is out for 27 to 33 seconds, and warms up in 10.
    let shares: Vec<_> = [26_000, 33_500, 36_500, 44_000]
        .map(|millis| {
            let then = now + Duration::from_millis(millis);
            let chosen = (0..3000)
                .filter(|_| service.choose(Tried::default(), None, then).unwrap().index == 1);
            chosen.count()
        })
        .into();
    assert_eq!((shares[0], shares[3]), (0, 1000));
    assert!(
        25 < shares[1] && shares[1] < shares[2] && shares[2] < 999,
        "{shares:?}"
    );
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let service = three();
    let now = Instant::now();
    for index in [0, 1, 2] {
        fail(&service, index, now);
    }
    assert_eq!(chosen(&service, Tried::default(), now), [1, 2]);
}

#[test]
fn the_only_endpoint_is_never_ejected() {
    let service = service(&[("http://10.0.0.1:1", 1)]).0.unwrap();
    let now = Instant::now();
    fail(&service, 0, now);
    assert!(service.ejected_endpoints(now).is_empty());
    assert!(service.choose(Tried::default(), None, now).is_ok());
}

#[test]
fn a_repetition_goes_where_it_has_the_best_chance() {
    let service = three();
    let now = Instant::now();
    fail(&service, 2, now);
    let mut tried = Tried::default();
    tried.insert(&choice(&service, 0));
    assert_eq!(chosen(&service, tried, now), [1]);
    // All that are well failed this request: rather one of them again than who fails everybody.
    tried.insert(&choice(&service, 1));
    assert_ne!(chosen(&service, tried, now), [2]);
    tried.insert_unreachable(&choice(&service, 0));
    assert_eq!(chosen(&service, tried, now), [1]);
    tried.insert_unreachable(&choice(&service, 1));
    assert_eq!(chosen(&service, tried, now), [2]);
}

#[test]
fn an_ejection_outlives_a_reload() {
    let known = Arc::new(three());
    let now = Instant::now();
    fail(&known, 1, now);
    let targets = [
        "http://10.0.0.1:1",
        "http://10.0.0.2:1",
        "http://10.0.0.4:1",
    ];
    let edited = service(&targets.map(|url| (url, 1)))
        .0
        .unwrap()
        .succeed(&known);
    assert_eq!(chosen(&edited, Tried::default(), now), [0, 2]);
}

#[test]
fn a_second_attempt_beside_the_first_is_only_made_where_it_can_help() {
    let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 1)]);
    let service = service.unwrap();
    let section = config::Retry {
        hedge_after: Toggle::On(HedgeAfter::Fixed(Duration::from_millis(5))).into(),
        ..config::Retry::default()
    };
    let mut diagnostics = Diagnostics::default();
    let retry = Retry::compile(Some(&Toggle::On(section)), &mut diagnostics).unwrap();
    let hedge = retry.hedge.unwrap();
    let now = Instant::now();
    assert!(service.hedge_delay(&hedge, now).is_some());
    let requests: Vec<_> = (0..100).map(|_| service.admit(now)).collect();
    // Two of a hundred, and each is a request under way.
    let admitted: Vec<_> = (0..4)
        .map(|_| service.admit_hedge(&retry, now).is_some())
        .collect();
    assert_eq!(admitted, [true, true, false, false]);
    drop(requests);
    // As soon as the circuit is not closed, there are none.
    for _ in 0..20 {
        service.observe(&choice(&service, 0), Outcome::Failure, (None, false), now);
    }
    assert!(matches!(service.admit(now), Admission::Open(_)));
    let later = now + Duration::from_secs(30);
    assert!(service.hedge_delay(&hedge, now).is_none());
    assert!(service.hedge_delay(&hedge, later).is_none());
    assert!(service.admit_hedge(&retry, later).is_none());
}

#[test]
fn a_second_attempt_counts_among_the_requests_under_way() {
    let section = config::Service {
        base_url: Some("http://10.0.0.1:1".to_owned().into()),
        circuit_breaker: Some(
            Toggle::On(config::CircuitBreaker {
                max_in_flight: 2.into(),
                ..config::CircuitBreaker::default()
            })
            .into(),
        ),
        ..config::Service::default()
    };
    let mut diagnostics = Diagnostics::default();
    let service = Service::compile(
        "s",
        &section.into(),
        Path::new("."),
        &Meters::default(),
        &mut diagnostics,
    );
    let service = service.unwrap();
    let section = config::Retry {
        hedge_after: Toggle::On(HedgeAfter::Percentile(95)).into(),
        hedge_budget: config::Share(100).into(),
        ..config::Retry::default()
    };
    let retry = Retry::compile(Some(&Toggle::On(section)), &mut diagnostics).unwrap();
    let now = Instant::now();
    let first = service.admit(now);
    let second = service.admit_hedge(&retry, now);
    assert!(matches!(first, Admission::Granted(_)) && second.is_some());
    assert!(service.admit_hedge(&retry, now).is_none());
    drop(second);
    let third = service.admit(now);
    assert!(matches!(third, Admission::Granted(_)));
    assert!(service.admit_hedge(&retry, now).is_none());
}
