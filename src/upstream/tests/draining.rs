//! Endpoints that operators take out of service.

use super::*;
use crate::upstream::{EndpointState, NoChoice};

const NAMES: [&str; 3] = [
    "http://10.0.0.1:1",
    "http://10.0.0.2:1",
    "http://10.0.0.3:1",
];

/// The endpoints that get requests.
fn serving(service: &Service, tried: Tried, now: Instant) -> Vec<String> {
    let name = |_| service.choose(tried, None, now).unwrap();
    let mut names: Vec<_> = (0..60)
        .map(|turn| name(turn).endpoint.as_str().to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn first(service: &Service, now: Instant) -> Vec<String> {
    serving(service, Tried::default(), now)
}

#[test]
fn a_drained_endpoint_gets_nothing_however_few_are_left() {
    let service = three();
    let now = Instant::now();
    assert!(service.drain(NAMES[0]));
    assert_eq!(first(&service, now), NAMES[1..]);
    assert!(service.drain("10.0.0.2:1") && !service.drain("10.0.0.9:1"));
    // Less than half of them are left, and the last one fails: still nobody else is asked.
    for index in [0, 0, 0, 0, 0] {
        let choice = choice(&service, index);
        service.observe(&choice, Outcome::Failure, (None, false), now);
    }
    assert_eq!(first(&service, now), NAMES[2..]);
    let mut tried = Tried::default();
    tried.insert(&service.choose(tried, None, now).unwrap());
    assert_eq!(serving(&service, tried, now), NAMES[2..]);
    assert!(!service.has_untried(tried));

    assert!(service.drain(NAMES[2]));
    let chosen = service.choose(Tried::default(), None, now);
    assert_eq!(chosen.unwrap_err(), NoChoice::Drained);
    assert!(!service.has_healthy_endpoint(now));
    let states = service.standings(now).into_iter().map(|it| it.state);
    assert!(states.into_iter().all(|it| it == EndpointState::Drained));

    assert!(service.enable(NAMES[1], now));
    assert_eq!(first(&service, now), NAMES[1..2]);
}

#[test]
fn what_goes_wrong_at_a_drained_endpoint_ejects_nobody() {
    let service = three();
    let now = Instant::now();
    let under_way = choice(&service, 0);
    service.drain(NAMES[0]);
    for _ in 0..20 {
        service.observe(&under_way, Outcome::Failure, (None, false), now);
    }
    service.enable(NAMES[0], now);
    assert!(service.ejected_endpoints(now).is_empty());
}

#[test]
fn enabling_ends_an_ejection_and_warms_up() {
    let service = three();
    let now = Instant::now() + Duration::from_secs(1);
    fail(&service, 1, now);
    assert_eq!(first(&service, now).len(), 2);
    assert!(service.enable(NAMES[1], now));
    assert!(service.ejected_endpoints(now).is_empty());
    let at_once = (0..3000)
        .filter(|_| service.choose(Tried::default(), None, now).unwrap().index == 1)
        .count();
    assert!((25..300).contains(&at_once), "{at_once}");
}

#[test]
fn a_drained_endpoint_stays_so_over_reloads_and_whatever_is_built_meanwhile() {
    let known = Arc::new(three());
    let now = Instant::now();
    let edited = |weight| {
        let targets = [(NAMES[0], 1), (NAMES[1], weight)];
        service(&targets).0.unwrap()
    };
    known.drain(NAMES[0]);
    let next = edited(2).succeed(&known);
    assert_eq!(first(&next, now), NAMES[1..2]);
    // A reload is under way, and what it leads to is not in force yet.
    let after = edited(3).succeed(&next);
    next.drain(NAMES[1]);
    next.enable(NAMES[0], now);
    after.follow_names();
    assert_eq!(first(&after, now), NAMES[..1]);
    // It has gone and come back.
    let without = service(&[(NAMES[0], 1)]).0.unwrap().succeed(&after);
    let again = edited(1).succeed(&without);
    assert_eq!(first(&again, now), NAMES[..1]);
    assert!(without.enable(NAMES[1], now) && !without.enable(NAMES[1], now));
}

#[test]
fn only_the_keys_of_a_drained_endpoint_move_and_they_come_back() {
    let targets = NAMES.map(|url| Target::Url(url.to_owned().into()).into());
    let key = config::HashKey::Path;
    let section = config::Service {
        targets: Some(targets.to_vec().into()),
        load_balancing: Some(config::LoadBalancing::Hash(key).into()),
        slow_start: Some(Toggle::Off.into()),
        ..config::Service::default()
    };
    let mut diagnostics = Diagnostics::default();
    let base = Path::new(".");
    let meters = Meters::default();
    let service = Service::compile("s", &section.into(), base, &meters, &mut diagnostics);
    let service = service.unwrap();
    let places = || -> Vec<String> {
        (0..500_u32)
            .map(|key| {
                let key = key.to_be_bytes();
                let choice = service.choose(Tried::default(), Some(&key), Instant::now());
                choice.unwrap().endpoint.as_str().to_owned()
            })
            .collect()
    };
    let before = places();
    service.drain(NAMES[1]);
    for (was, is) in std::iter::zip(&before, places()) {
        assert_ne!(is, NAMES[1]);
        assert!(*was == is || was == NAMES[1], "{was} {is}");
    }
    service.enable(NAMES[1], Instant::now());
    assert_eq!(places(), before);
}
