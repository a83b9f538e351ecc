use proptest::prelude::*;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::super::algorithm::Algorithm;
use super::*;

const START: u64 = 3_600_000_000;
/// With a life of 500 ms.
const WINDOW: u64 = 10_000_000;
const LIFE: u64 = WINDOW / 20;
const RULE: Rule = Rule {
    algorithm: Algorithm::FixedWindow,
    limit: 1000,
    window: WINDOW,
    burst: 1000,
};

struct Office {
    desk: Desk,
    leases: Leases,
}

impl Office {
    fn new() -> Self {
        Self {
            desk: Desk::default(),
            leases: Leases::new(64),
        }
    }

    /// Somebody waits for so many tokens.
    fn wait(&mut self, number: u64, cost: u64, now: u64) -> oneshot::Receiver<u64> {
        let (waiter, answered) = oneshot::channel();
        let demand = Demand {
            waiter: Some((cost, waiter)),
            ..demand(number, 0)
        };
        self.desk.take(demand, now);
        answered
    }

    fn owe(&mut self, number: u64, owed: u64, now: u64) {
        let demand = Demand {
            is_lease: false,
            ..demand(number, owed)
        };
        self.desk.take(demand, now);
    }

    fn question(&mut self, now: u64) -> Option<Question> {
        self.desk.question(&self.leases, 2, now)
    }

    fn answer(&mut self, question: Question, taken: u64, now: u64) {
        self.answer_until(77, question, taken, now);
    }

    /// What was taken is counted until then.
    fn answer_until(&mut self, ends: u64, question: Question, taken: u64, now: u64) {
        let grant = Grant {
            taken,
            left: 0,
            reset: WINDOW,
            wait: u64::from(taken == 0),
            ends,
        };
        self.desk.answered(question, &grant, &self.leases, now);
    }

    fn fail(&mut self, question: Question) {
        self.desk.failed(question, &self.leases);
    }
}

fn demand(number: u64, owed: u64) -> Demand {
    Demand {
        key: key(number),
        shared: SharedKey {
            limit: 1,
            key: u128::from(number),
        },
        rule: RULE,
        lending: Lending::new(&RULE, 1),
        owed,
        is_lease: true,
        waiter: None,
    }
}

fn key(number: u64) -> KeyHash {
    KeyHash {
        place: number << 32,
        fingerprint: number + 2,
    }
}

#[test]
fn what_is_needed_of_a_key_is_one_question_at_a_time() {
    let mut office = Office::new();
    let _one = office.wait(1, 3, START);
    let _other = office.wait(1, 2, START);
    office.desk.take(demand(1, 10), START);
    let question = office.question(START).unwrap();
    let Ask {
        need, urgent, owed, ..
    } = question.ask;
    assert_eq!((need, urgent, owed), (Need::Tokens(2), 5, 10));
    let _late = office.wait(1, 1, START);
    let _another_key = office.wait(2, 1, START);
    assert_eq!(office.question(START).unwrap().key, key(2));
    assert!(office.question(START).is_none(), "the first is on its way");
    office.answer(question, 5, START);
    assert_eq!(office.question(START).unwrap().ask.urgent, 1);
}

#[test]
fn who_waits_is_told_when_what_was_asked_for_has_come() {
    let mut office = Office::new();
    let mut first = office.wait(1, 1, START);
    let question = office.question(START).unwrap();
    let mut second = office.wait(1, 1, START);
    office.answer(question, 1, START);
    assert_eq!(first.try_recv(), Ok(0));
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    let question = office.question(START).unwrap();
    office.answer(question, 0, START);
    assert_eq!(second.try_recv(), Ok(1), "how long it will not be there");
    assert!(office.question(START).is_none());
    assert_eq!(office.desk.pending(), 0);
}

#[test]
fn after_a_failure_nobody_waits_and_what_is_owed_is_told_again() {
    let mut office = Office::new();
    let mut asked = office.wait(1, 1, START);
    office.owe(1, 4, START);
    let question = office.question(START).unwrap();
    let mut later = office.wait(1, 1, START + 1);
    office.owe(1, 2, START + 1);
    office.fail(question);
    assert_eq!(asked.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(later.try_recv(), Err(TryRecvError::Closed));
    let again = office.question(START + 2).unwrap();
    assert_eq!((again.ask.owed, again.ask.urgent), (6, 0));
    office.answer(again, 0, START + 2);
    assert!(office.question(START + 2).is_none());
}

#[test]
fn what_was_owed_a_window_ago_is_not_told() {
    let mut office = Office::new();
    office.owe(1, 4, START);
    let question = office.question(START).unwrap();
    office.fail(question);
    office.owe(1, 3, START + WINDOW);
    assert_eq!(office.question(START + WINDOW).unwrap().ask.owed, 3);
    office.owe(2, 4, START);
    assert_eq!(office.question(START + WINDOW).unwrap().ask.owed, 0);
}

#[test]
fn what_nobody_spends_in_a_life_goes_back_to_where_it_was_counted() {
    let mut office = Office::new();
    office.desk.take(demand(1, 0), START);
    let question = office.question(START).unwrap();
    office.answer(question, 100, START);
    office.desk.reclaim(&office.leases, START + LIFE - 1);
    assert!(office.question(START + LIFE - 1).is_none());
    office.desk.reclaim(&office.leases, START + LIFE);
    let ask = office.question(START + LIFE).unwrap().ask;
    // A key keeps ten.
    assert_eq!((ask.back, ask.before, ask.need), (90, 77, Need::Nothing));
    office.desk.reclaim(&office.leases, START + 2 * LIFE);
    assert_eq!(office.desk.pending(), 1, "only the question");
}

#[test]
fn what_goes_back_together_is_believed_as_long_as_the_first_of_it() {
    for (ends, other) in [(77, 60), (60, 77)] {
        let mut office = Office::new();
        for (ends, now) in [(ends, START), (other, START + LIFE)] {
            office.desk.take(demand(1, 0), now - 1);
            let question = office.question(now - 1).unwrap();
            // While the second question is on its way, what the first one got goes back.
            office.desk.reclaim(&office.leases, now);
            office.answer_until(ends, question, 100, now);
        }
        office.desk.reclaim(&office.leases, START + 2 * LIFE);
        let ask = office.question(START + 2 * LIFE).unwrap().ask;
        assert_eq!((ask.back, ask.before), (190, 60));
    }
}

#[test]
fn what_is_older_than_the_tokens_that_go_back_is_lost() {
    let rule = Rule {
        algorithm: Algorithm::SlidingWindow,
        ..RULE
    };
    let mut office = Office::new();
    for now in [START, START + LIFE / 2] {
        let lending = Lending::new(&rule, 1);
        office.desk.take(
            Demand {
                rule,
                lending,
                ..demand(1, 0)
            },
            now,
        );
        let question = office.question(now).unwrap();
        office.answer(question, 50, now);
    }
    office.desk.reclaim(&office.leases, START + LIFE / 2 + LIFE);
    assert_eq!(office.question(START + 2 * LIFE).unwrap().ask.back, 50);
}

#[test]
fn a_lease_that_is_in_use_does_not_go_back() {
    let mut office = Office::new();
    for now in [START, START + LIFE / 2] {
        office.desk.take(demand(1, 0), now);
        let question = office.question(now).unwrap();
        office.answer(question, 100, now);
    }
    office.desk.reclaim(&office.leases, START + LIFE);
    assert!(office.question(START + LIFE).is_none());
}

#[test]
fn when_too_many_keys_are_waited_for_another_is_told_at_once() {
    let mut office = Office::new();
    for number in 0..MOST_KEYS as u64 {
        office.owe(number, 1, START);
    }
    let mut one_more = office.wait(MOST_KEYS as u64, 1, START);
    assert_eq!(one_more.try_recv(), Err(TryRecvError::Closed));
    let mut known = office.wait(1, 1, START);
    assert_eq!(known.try_recv(), Err(TryRecvError::Empty));
}

/// What happens at the desk.
#[derive(Debug, Clone)]
enum Event {
    Wait(u64, u64),
    Owe(u64, u64),
    Ask,
    /// The question with this number, of those on their way, and how many tokens it gets.
    Answer(usize, u64),
    Fail(usize),
    Reclaim,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..4u64, 0..4u64).prop_map(|(key, cost)| Event::Wait(key, cost)),
        1 => (0..4u64, 1..4u64).prop_map(|(key, owed)| Event::Owe(key, owed)),
        4 => Just(Event::Ask),
        3 => (0..9usize, 0..50u64).prop_map(|(number, taken)| Event::Answer(number, taken)),
        1 => (0..9usize).prop_map(Event::Fail),
        1 => Just(Event::Reclaim),
    ]
}

proptest! {
    #[test]
    fn all_who_wait_are_told_and_all_debts_within_a_window(
        events in prop::collection::vec((any_event(), 0..WINDOW / 400), 1..300),
    ) {
        let mut office = Office::new();
        let (mut now, mut asked, mut waiting) = (START, Vec::new(), Vec::new());
        let (mut owed, mut told) = (0, 0);
        for (event, step) in events {
            now += step;
            match event {
                Event::Wait(key, cost) => waiting.push(office.wait(key, cost, now)),
                Event::Owe(key, tokens) => {
                    office.owe(key, tokens, now);
                    owed += tokens;
                }
                Event::Ask => asked.extend(office.question(now)),
                Event::Answer(number, taken) if number < asked.len() => {
                    let question = asked.remove(number);
                    told += question.ask.owed;
                    office.answer(question, taken, now);
                }
                Event::Fail(number) if number < asked.len() => office.fail(asked.remove(number)),
                Event::Answer(..) | Event::Fail(_) => {}
                Event::Reclaim => office.desk.reclaim(&office.leases, now),
            }
            let keys: std::collections::HashSet<KeyHash> = asked.iter().map(|it| it.key).collect();
            prop_assert_eq!(keys.len(), asked.len(), "two questions of one key");
        }
        loop {
            asked.extend(std::iter::from_fn(|| office.question(now)));
            let Some(question) = asked.pop() else { break };
            told += question.ask.owed;
            office.answer(question, 1, now);
        }
        for mut answered in waiting {
            prop_assert!(answered.try_recv() != Err(TryRecvError::Empty), "one waits for ever");
        }
        prop_assert_eq!(told, owed);
    }
}
