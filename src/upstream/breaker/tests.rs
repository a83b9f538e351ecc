use super::*;

pub(super) const RULE: CircuitBreaker = CircuitBreaker {
    failure_rate: 50,
    slow_call: Some(Duration::from_secs(2)),
    slow_call_rate: 80,
    minimum: 20,
    open_for: Duration::from_secs(5),
    probes: 3,
    max_in_flight: 10,
    is_adaptive: false,
    max_pending: Some(2),
    max_connections: None,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn observe(circuit: &Circuit, outcome: Outcome, now: Duration) -> Option<Turn> {
    circuit.observe(&RULE, outcome, Some(Duration::ZERO), true, now, 0.5)
}

pub(super) fn opened(now: Duration) -> Arc<Circuit> {
    let circuit = Arc::new(Circuit::default());
    for _ in 0..19 {
        assert_eq!(observe(&circuit, Outcome::Failure, now), None);
    }
    let turn = observe(&circuit, Outcome::Failure, now);
    assert_eq!(turn, Some(Turn::Opened(at(5))));
    circuit
}

fn is_granted(circuit: &Arc<Circuit>, now: Duration) -> bool {
    matches!(circuit.admit(Some(&RULE), now), Admission::Granted(_))
}

#[test]
fn it_opens_at_the_rate_and_not_before() {
    let circuit = Circuit::default();
    for turn in 0..100 {
        let outcome = if turn % 100 < 51 {
            Outcome::Success
        } else {
            Outcome::Failure
        };
        assert_eq!(observe(&circuit, outcome, at(1)), None);
    }
    observe(&circuit, Outcome::Failure, at(1));
    let turn = observe(&circuit, Outcome::Failure, at(1));
    assert_eq!(turn, Some(Turn::Opened(at(5))));
    // Errors of the application are answers.
    let circuit = Circuit::default();
    for _ in 0..100 {
        assert_eq!(observe(&circuit, Outcome::ApplicationError, at(1)), None);
    }
}

#[test]
fn nothing_passes_while_it_is_open_and_a_few_when_it_is_half_open() {
    let circuit = opened(at(100));
    assert_eq!(circuit.state(at(104)), CircuitState::Open);
    let refused = circuit.admit(Some(&RULE), at(102));
    assert!(matches!(refused, Admission::Open(rest) if rest == at(3)));
    assert_eq!(circuit.state(at(105)), CircuitState::HalfOpen);
    let probes: Vec<_> = (0..4)
        .map(|_| circuit.admit(Some(&RULE), at(105)))
        .collect();
    let granted = probes
        .iter()
        .filter(|it| matches!(it, Admission::Granted(_)));
    assert_eq!(granted.count(), 3);
}

#[test]
fn it_closes_after_its_probes_and_opens_for_longer_after_a_failure() {
    let circuit = opened(at(100));
    assert_eq!(observe(&circuit, Outcome::Success, at(106)), None);
    assert_eq!(observe(&circuit, Outcome::Success, at(106)), None);
    assert_eq!(
        observe(&circuit, Outcome::Success, at(106)),
        Some(Turn::Closed)
    );
    assert!(is_granted(&circuit, at(106)));
    let circuit = opened(at(100));
    let mut lengths = Vec::new();
    let mut now = at(106);
    for _ in 0..6 {
        let Some(Turn::Opened(length)) = observe(&circuit, Outcome::Failure, now) else {
            panic!("a failure opens it again");
        };
        lengths.push(length.as_secs());
        now += length;
    }
    assert_eq!(lengths, [10, 20, 40, 60, 60, 60]);
}

#[test]
fn a_probe_that_ends_without_an_answer_makes_room_for_another() {
    let circuit = opened(at(100));
    for _ in 0..10 {
        assert!(is_granted(&circuit, at(105)));
    }
    for _ in 0..3 {
        let Admission::Granted(permit) = circuit.admit(Some(&RULE), at(105)) else {
            panic!("there is room");
        };
        permit.settle();
    }
    assert!(!is_granted(&circuit, at(105)));
}

#[test]
fn slow_answers_open_it_too() {
    let circuit = Circuit::default();
    let mut turn = None;
    for answer in 0..20 {
        let took = if answer < 4 { at(1) } else { at(3) };
        turn = turn.or(circuit.observe(&RULE, Outcome::Success, Some(took), false, at(1), 0.5));
    }
    assert_eq!(turn, Some(Turn::Opened(at(5))));
}

#[test]
fn no_more_wait_for_a_connection_than_may() {
    let circuit = Arc::new(Circuit::default());
    let permit = || match circuit.admit(Some(&RULE), at(1)) {
        Admission::Granted(permit) => permit,
        refused => panic!("{refused:?}"),
    };
    let (one, two, three) = (permit(), permit(), permit());
    assert!(one.wait(Some(&RULE)) && two.wait(Some(&RULE)));
    assert!(one.wait(Some(&RULE)));
    assert!(!three.wait(Some(&RULE)));
    assert!(three.wait(None));
    one.connected();
    assert!(three.wait(Some(&RULE)));
    drop((one, two, three));
    assert_eq!(circuit.pending.load(Ordering::Relaxed), 0);
}

#[test]
fn no_more_are_under_way_than_it_bears() {
    let circuit = Arc::new(Circuit::default());
    let mut permits: Vec<_> = (0..10).map(|_| circuit.admit(Some(&RULE), at(1))).collect();
    assert!(permits.iter().all(|it| matches!(it, Admission::Granted(_))));
    assert!(matches!(circuit.admit(Some(&RULE), at(1)), Admission::Full));
    permits.pop();
    assert!(is_granted(&circuit, at(1)));
    drop(permits);
    assert_eq!(circuit.in_flight.load(Ordering::Relaxed), 0);
}
