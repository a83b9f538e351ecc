//! What the store does (`take.lua`), without a server: for simulations, and to compare the two.

use ahash::AHashMap;

use super::super::algorithm::{Algorithm, Rule};
use super::ask::{Ask, Grant, Need, SharedKey};

/// A store.
#[derive(Debug, Default)]
pub(super) struct Model(AHashMap<SharedKey, State>);

/// What is kept of a key, by its algorithm.
#[derive(Debug, Clone, Copy)]
enum State {
    /// When it ends, or which period it is; how much is spent.
    Window(u64, u64),
    /// Which window, what was spent in the one before, and in it.
    Sliding(u64, u64, u64),
    /// Tokens that were used, at that time.
    Bucket(u64, f64),
}

/// A key as it stands when it is asked about.
struct View {
    room: f64,
    reset: u64,
    ends: u64,
    state: State,
}

impl Model {
    /// Answers questions about one or several keys at once.
    pub(super) fn take(&mut self, asks: &[Ask], now: u64) -> Vec<Grant> {
        let views: Vec<View> = asks.iter().map(|ask| self.view(ask, now)).collect();
        let is_met = |ask: &Ask, view: &View| match ask.need {
            Need::Tokens(need) => view.room >= need.max(1) as f64,
            Need::Nothing => true,
        };
        let are_all_met = asks.iter().zip(&views).all(|(ask, view)| is_met(ask, view));
        let answers = asks.iter().zip(views).map(|(ask, view)| {
            let taken = match ask.need {
                Need::Tokens(need) if are_all_met => {
                    let room = view.room.floor() as u64;
                    let given = need.max(ask.urgent.min(room)).max(room / ask.share.max(1));
                    ask.want.min(given)
                }
                _ => 0,
            };
            let wait = match (ask.need, is_met(ask, &view)) {
                (Need::Tokens(need), false) => wait(&ask.rule, &view, need.max(1), now).max(1),
                _ => 0,
            };
            self.0.insert(ask.key, spend(view.state, taken));
            Grant {
                taken,
                left: (view.room - taken as f64).floor().max(0.0) as u64,
                reset: view.reset,
                wait,
                ends: view.ends,
            }
        });
        answers.collect()
    }

    fn view(&self, ask: &Ask, now: u64) -> View {
        let Rule {
            algorithm,
            limit,
            window,
            burst,
        } = ask.rule;
        let known = self.0.get(&ask.key).copied();
        let back = if now < ask.before { ask.back } else { 0 };
        match algorithm {
            Algorithm::FixedWindow => {
                let (ends, count) = match known {
                    Some(State::Window(ends, count)) if now < ends && count > 0 => {
                        (ends, count.saturating_sub(back))
                    }
                    _ => (now + window, 0),
                };
                let count = count + ask.owed;
                View {
                    room: limit as f64 - count as f64,
                    reset: ends - now,
                    ends,
                    state: State::Window(ends, count),
                }
            }
            Algorithm::Calendar(period) => {
                let rest = period.left;
                let (number, count) = match known {
                    Some(State::Window(number, count)) if number >= period.number => {
                        (number, count.saturating_sub(back))
                    }
                    _ => (period.number, 0),
                };
                let count = count + ask.owed;
                View {
                    room: limit as f64 - count as f64,
                    reset: rest,
                    ends: now + rest,
                    state: State::Window(number, count),
                }
            }
            Algorithm::SlidingWindow => {
                let index = now / window;
                let elapsed = now % window;
                let (last, current) = match known {
                    Some(State::Sliding(of, last, current)) if of == index => {
                        (last, current.saturating_sub(back))
                    }
                    Some(State::Sliding(of, _, current)) if of + 1 == index => (current, 0),
                    _ => (0, 0),
                };
                let current = current + ask.owed;
                let faded = last as f64 * (window - elapsed) as f64 / window as f64;
                View {
                    room: limit as f64 - current as f64 - faded,
                    reset: window - elapsed,
                    ends: (index + 1) * window,
                    state: State::Sliding(index, last, current),
                }
            }
            Algorithm::TokenBucket => {
                // In the order of the script, for the last digit's sake.
                let (limit, length) = (limit as f64, window as f64);
                let used = match known {
                    Some(State::Bucket(at, used)) => {
                        (used - (now - at) as f64 * limit / length).max(0.0) - back as f64
                    }
                    _ => 0.0,
                };
                let used = used.max(0.0) + ask.owed as f64;
                let more = (used - used.ceil() + 1.0) * length / limit;
                View {
                    room: burst as f64 - used,
                    reset: if used > 0.0 { more.ceil() as u64 } else { 0 },
                    ends: now + window,
                    state: State::Bucket(now, used),
                }
            }
        }
    }
}

fn spend(state: State, taken: u64) -> State {
    match state {
        State::Window(ends, count) => State::Window(ends, count + taken),
        State::Sliding(index, last, current) => State::Sliding(index, last, current + taken),
        State::Bucket(at, used) => State::Bucket(at, used + taken as f64),
    }
}

/// Microseconds until a need that is not met would be.
fn wait(rule: &Rule, view: &View, need: u64, now: u64) -> u64 {
    let (limit, window) = (rule.limit as f64, rule.window as f64);
    match view.state {
        State::Window(..) => view.reset,
        State::Sliding(_, last, current) => {
            let over = need as f64 - view.room;
            if current + need <= rule.limit {
                return (over * window / last as f64).ceil() as u64;
            }
            let current = current as f64;
            let rest = window - (now % rule.window) as f64;
            rest as u64 + (window * (current + need as f64 - limit) / current).ceil() as u64
        }
        State::Bucket(_, used) => {
            ((used + need as f64 - rule.burst as f64) * window / limit).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_model_answers_as_the_server_does() {
        let server = RefCell::new(Server::start());
        let rules = prop::collection::vec(any_rule(), 3);
        let questions = rules.prop_flat_map(|rules| {
            let ask = any_ask(rules);
            prop::collection::vec(prop::collection::vec(ask, 1..3), 1..25)
        });
        let round = Cell::new(0);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(150));
        let result = runner.run(&questions, |questions| {
            round.set(round.get() + 1);
            let scripts = Scripts::new(&format!("test-{}", round.get()));
            let mut model = Model::default();
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
}
