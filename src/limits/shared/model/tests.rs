use std::cell::{Cell, RefCell};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::FromRedisValue;

use super::super::super::algorithm::CalendarPeriod;
use super::super::script::{Scripts, read};
use super::*;

/// A server of the test's own.
struct Server {
    connection: redis::Connection,
    _process: Process,
}

/// Ends with the test.
struct Process(Child);

impl Server {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        let process = Process(process.expect("redis-server is installed by `make test`"));
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let connection = loop {
            if let Ok(connection) = client.get_connection() {
                break connection;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            connection,
            _process: process,
        }
    }

    /// Writes what another server would have left of a key, or this one, had its clock been ahead.
    fn leave(&mut self, name: &str, state: State) {
        let text = match state {
            State::Window(ends, count) => format!("{ends}:{count}"),
            State::Sliding(index, last, current) => format!("{index}:{last}:{current}"),
            State::Bucket(at, used) => format!("{at}:{used}"),
        };
        let mut set = redis::cmd("SET");
        set.arg(name).arg(text).exec(&mut self.connection).unwrap();
    }

    /// What it answers, and at what time.
    fn take(&mut self, scripts: &Scripts, asks: &[Ask]) -> (u64, Vec<Grant>) {
        let answer = scripts.take(asks, false).query(&mut self.connection);
        let numbers = Vec::<i64>::from_redis_value(answer.unwrap()).unwrap();
        (numbers[0] as u64, read(&numbers, asks.len()).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let algorithm = prop::sample::select(vec![
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::TokenBucket,
    ]);
    // Windows that a sequence of questions may outlast, and some that it does not.
    let window = prop::sample::select(vec![700, 3_000, 60_000_000]);
    (algorithm, 1..30u64, window, 1..30u64).prop_map(|(algorithm, limit, window, burst)| Rule {
        algorithm,
        limit,
        window,
        burst,
    })
}

fn any_ask(rules: Vec<Rule>) -> impl Strategy<Value = Ask> {
    let need = prop_oneof![
        Just(Need::Nothing),
        (0..8u64).prop_map(Need::Tokens),
        (0..8u64).prop_map(Need::Tokens)
    ];
    let numbers = (
        0..4u64,
        0..4u64,
        prop::bool::ANY,
        0..12u64,
        0..40u64,
        1..8u64,
    );
    (0..rules.len(), need, numbers).prop_map(move |(index, need, numbers)| {
        let (owed, back, is_late, urgent, want, share) = numbers;
        // Whoever needs more than there ever is does not ask.
        let most = rules[index].most();
        let (need, least) = match need {
            Need::Tokens(tokens) => (Need::Tokens(tokens.min(most)), tokens.min(most)),
            Need::Nothing => (need, 0),
        };
        Ask {
            key: SharedKey {
                limit: index as u64,
                key: 7,
            },
            rule: rules[index],
            owed,
            back,
            before: if is_late { 1 } else { u64::MAX >> 12 },
            need,
            urgent: urgent.max(least),
            want: want.max(least),
            share,
        }
    })
}

/// How far a key's time is ahead of the clock, in tenths of a window, and what was counted.
fn any_past() -> impl Strategy<Value = Option<(i64, u64, u64)>> {
    prop::option::weighted(0.3, (-25..25i64, 0..30u64, 0..30u64))
}

fn state(rule: &Rule, now: u64, (tenths, last, current): (i64, u64, u64)) -> State {
    let time = now.saturating_add_signed(tenths * (rule.window / 10) as i64);
    match rule.algorithm {
        Algorithm::SlidingWindow => State::Sliding(time / rule.window, last, current),
        Algorithm::TokenBucket => State::Bucket(time, current as f64),
        _ => State::Window(time, current),
    }
}

#[test]
fn the_model_answers_as_the_server_does() {
    let server = RefCell::new(Server::start());
    let rules = prop::collection::vec((any_rule(), any_past()), 3);
    let questions = rules.prop_flat_map(|rules| {
        let ask = any_ask(rules.iter().map(|(rule, _)| *rule).collect());
        let asks = prop::collection::vec(prop::collection::vec(ask, 1..3), 1..25);
        (Just(rules), asks)
    });
    let round = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(150));
    let result = runner.run(&questions, |(rules, questions)| {
        round.set(round.get() + 1);
        let scripts = Scripts::new(&format!("test-{}", round.get()));
        let mut model = Model::default();
        let (now, _) = server.borrow_mut().take(&scripts, &[]);
        for (limit, (rule, past)) in (0..).zip(&rules) {
            let key = SharedKey { limit, key: 7 };
            if let Some(state) = past.map(|past| state(rule, now, past)) {
                server.borrow_mut().leave(&scripts.name(key), state);
                model.0.insert(key, state);
            }
        }
        for mut asks in questions {
            asks.dedup_by_key(|ask| ask.key);
            let (now, grants) = server.borrow_mut().take(&scripts, &asks);
            let expected = model.take(&asks, now);
            for (grant, expected) in grants.iter().zip(&expected) {
                // The last digit of a fraction may be another.
                prop_assert!(
                    grant.wait.abs_diff(expected.wait) <= 1,
                    "{grant:?} {expected:?} {asks:?}"
                );
                let same = |it: &Grant| Grant { wait: 0, ..*it };
                prop_assert_eq!(same(grant), same(expected), "{:?}", asks);
            }
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_period_of_the_calendar_is_over_when_a_gateway_says_so() {
    let mut server = Server::start();
    let (scripts, mut model) = (Scripts::new("test"), Model::default());
    let key = SharedKey { limit: 1, key: 7 };
    let rule = |number, left| Rule {
        algorithm: Algorithm::Calendar(CalendarPeriod {
            number,
            left,
            end: 0,
        }),
        limit: 5,
        window: 90_000_000_000,
        burst: 0,
    };
    let mut ask = |number, left, tokens, owed| {
        let ask = Ask {
            owed,
            ..Ask::exactly(key, rule(number, left), tokens)
        };
        let (now, grants) = server.take(&scripts, &[ask]);
        assert_eq!(grants, model.take(&[ask], now));
        assert_eq!(grants[0].reset, left);
        (grants[0].left, grants[0].wait)
    };
    assert_eq!(ask(20, 9_000_000, 3, 0), (2, 0));
    assert_eq!(ask(20, 8_000_000, 3, 0), (2, 8_000_000));
    // Nothing is taken of what is left, if there is something.
    assert_eq!(ask(20, 8_000_000, 0, 1), (1, 0));
    assert_eq!(ask(20, 8_000_000, 0, 100), (0, 8_000_000));
    // The debt ends with the period.
    assert_eq!(ask(21, 86_400_000_000, 4, 0), (1, 0));
    // A gateway whose clock is behind does not bring the last one back.
    assert_eq!(ask(20, 1, 1, 0), (0, 0));
    assert_eq!(ask(21, 86_399_000_000, 1, 0), (0, 86_399_000_000));
}

#[test]
fn a_clock_that_is_set_back_gives_nothing_away() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    let steps = prop::collection::vec((0..400u64, 1..4u64), 1..200);
    let set_back = (0..200usize, 1..=20u64);
    let result = runner.run(&(any_rule(), steps, set_back), |(rule, steps, set_back)| {
        let rule = Rule {
            window: 20_000,
            ..rule
        };
        let key = SharedKey { limit: 1, key: 1 };
        let (mut model, mut clock, mut time) = (Model::default(), 3_600_000_000, 0);
        let mut spent = Vec::new();
        for (number, (step, cost)) in steps.into_iter().enumerate() {
            time += step * 100;
            clock += step * 100;
            if number == set_back.0 {
                clock -= set_back.1 * 1000;
            }
            let cost = cost.min(rule.most());
            let grant = model.take(&[Ask::exactly(key, rule, cost)], clock)[0];
            spent.extend((0..grant.taken).map(|_| time));
        }
        let within = |from: u64| {
            spent
                .iter()
                .filter(move |it| (from..from + 20_000).contains(*it))
        };
        let most = spent.iter().map(|from| within(*from).count()).max();
        let promised = rule.most() + rule.limit;
        prop_assert!(
            most.unwrap_or(0) as u64 <= promised,
            "{most:?} > {promised}: {rule:?}"
        );
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_shared_limit_means_what_a_local_one_does() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    let steps = prop::collection::vec((0..400u64, 1..4u64), 1..80);
    let result = runner.run(&(any_rule(), steps), |(rule, steps)| {
        // A grid that both share, and no fraction of a millisecond.
        let rule = Rule {
            window: 20_000,
            ..rule
        };
        let key = SharedKey { limit: 1, key: 1 };
        let (mut model, mut state, mut now) = (Model::default(), 0, 3_600_000_000);
        for (step, cost) in steps {
            now += step * 1000;
            let local = rule.decide(state, now, cost);
            if cost > rule.most() {
                continue;
            }
            let shared = model.take(&[Ask::exactly(key, rule, cost)], now)[0];
            prop_assert_eq!(local.is_ok(), shared.wait == 0, "{:?} {}", rule, cost);
            match local {
                Ok(admitted) => state = admitted.state,
                Err(refused) => {
                    let wait = refused.retry.unwrap();
                    prop_assert!(wait.abs_diff(shared.wait) <= 2, "{wait} {shared:?}");
                }
            }
        }
        Ok(())
    });
    result.unwrap();
}
