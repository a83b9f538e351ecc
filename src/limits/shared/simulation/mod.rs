//! A fleet of gateways that share a limit, without sockets and with a clock of its own: the gateways' leases
//! and desks are those that serve, the store is a [`Model`](super::model::Model).
//!
//! For tests and `benches/fleet`. Nothing that serves uses it.

mod fleet;
mod gateway;
mod ledger;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use self::fleet::{Fleet, Way};
use self::gateway::Request;
use self::ledger::Ledger;
use super::super::algorithm::Rule;
use crate::config::{LimitAlgorithm, LimitMode};

/// When simulations begin, in microseconds.
const START: u64 = 3_600_000_000;

/// Keys that come most often.
pub const FIRST: usize = 10;

/// A fleet, its limit, and its traffic.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How windows are kept.
    pub algorithm: LimitAlgorithm,
    /// How the store is asked.
    pub mode: LimitMode,
    /// Requests of a key that a window admits.
    pub limit: u64,
    /// Its length.
    pub window: Duration,
    /// Of a token bucket.
    pub burst: u64,
    /// Gateways; each request comes to any of them.
    pub gateways: usize,
    /// Keys that a gateway may have leases of.
    pub leases: usize,
    /// Keys. The k-th has a share of the traffic as ln(1 + 1/k), as good as 1/k (Zipf's law).
    pub keys: u32,
    /// The first so many are held to what is promised.
    pub watched: usize,
    /// Requests, which come independently of each other.
    pub requests: u64,
    /// So many in a second, on average.
    pub rate: u64,
    /// How long a question takes to the store, and an answer back, in microseconds.
    pub delay: Range<u64>,
    /// The same seed gives the same run.
    pub seed: u64,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long it took on its own clock.
    pub elapsed: Duration,
    /// Keys that came at all.
    pub keys: u64,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that one exact counter would have admitted.
    pub exact: u64,
    /// What was admitted more than that, over all keys of which it was more.
    pub over: u64,
    /// The most of one key, and what the exact counter had admitted of it.
    pub most_over: (u64, u64),
    /// What was admitted less, over all keys of which it was less.
    pub under: u64,
    /// The most of one key, and what the exact counter had admitted of it.
    pub most_under: (u64, u64),
    /// The most of a watched key: in a window of the store's if those are fixed, or else in any time as long.
    pub most: u64,
    /// What is promised of that.
    pub promised: u64,
    /// What the store was asked.
    pub questions: u64,
    /// What it was asked about the first [`FIRST`] keys, and their requests.
    pub questions_of_first: (u64, u64),
    /// The most keys that it kept.
    pub stored: usize,
    /// Bytes of a gateway's leases.
    pub lease_bytes: usize,
    /// The most keys that a gateway knew at the end.
    pub leased: usize,
    /// The most questions and returns that were pending in one gateway.
    pub pending: usize,
}

impl Scenario {
    /// Runs it.
    pub fn run(&self) -> Outcome {
        let rule = Rule {
            algorithm: self.algorithm.into(),
            limit: self.limit,
            window: self.window.as_micros() as u64,
            burst: self.burst,
        };
        let mut delays = fastrand::Rng::with_seed(self.seed);
        let mut traffic = delays.fork();
        let delay = self.delay.clone();
        let ways = move || Way {
            micros: delays.u64(delay.clone()),
            is_lost: false,
        };
        let ledger = Ledger::new(self.keys as usize, self.watched);
        let fleet = (self.gateways, self.leases);
        let mut fleet = Fleet::new(rule, fleet, Box::new(ways), ledger, START);
        let mut exact = Exact::new(rule, self.keys);
        let between = 1_000_000.0 / self.rate as f64;
        let mut time = START as f64;
        for _ in 0..self.requests {
            time += -(1.0 - traffic.f64()).ln() * between;
            let now = time as u64;
            let request = Request {
                gateway: traffic.usize(..self.gateways),
                key: rank(traffic.f64(), self.keys),
                cost: 1,
                refused_after: None,
            };
            fleet.pass(now);
            exact.request(request.key, Fleet::store_time(now));
            match self.mode {
                LimitMode::Fast => fleet.request(request, now),
                LimitMode::Strict => fleet.request_strictly(request, now),
            }
        }
        let end = time as u64;
        // Nobody waits longer for the store.
        fleet.pass(end + 4 * self.delay.end);
        self.outcome(rule, &fleet, &exact, end)
    }

    fn outcome(&self, rule: Rule, fleet: &Fleet, exact: &Exact, end: u64) -> Outcome {
        let admitted = fleet.ledger.admitted();
        let both = || admitted.iter().zip(&exact.admitted);
        let pairs = || both().map(|(ours, exact)| (u64::from(*ours), u64::from(*exact)));
        let over = || pairs().map(|(ours, exact)| (ours.saturating_sub(exact), exact));
        let under = || pairs().map(|(ours, exact)| (exact.saturating_sub(ours), exact));
        let (lease_bytes, leased) = fleet.leases(end);
        Outcome {
            elapsed: Duration::from_micros(end - START),
            keys: exact.states.iter().filter(|state| **state > 0).count() as u64,
            admitted: pairs().map(|(ours, _)| ours).sum(),
            refused: fleet.ledger.refused(),
            exact: pairs().map(|(_, exact)| exact).sum(),
            over: over().map(|(more, _)| more).sum(),
            most_over: over().max().unwrap_or_default(),
            under: under().map(|(less, _)| less).sum(),
            most_under: under().max().unwrap_or_default(),
            most: match self.algorithm {
                LimitAlgorithm::FixedWindow => fleet.ledger.fullest(rule.window),
                _ => fleet.ledger.densest(rule.window),
            },
            promised: fleet.promised(self.mode),
            questions: fleet.ledger.asked(),
            questions_of_first: fleet.ledger.asked_of_first(FIRST),
            stored: fleet.most_stored(),
            lease_bytes,
            leased,
            pending: fleet.most_pending(),
        }
    }
}

/// The key at this point between zero and one, by the logarithm of its number.
fn rank(point: f64, keys: u32) -> u32 {
    let number = (f64::from(keys) + 1.0).powf(point) as u32;
    number.clamp(1, keys) - 1
}

/// One counter that all requests come to, at once, by the store's clock.
struct Exact {
    rule: Rule,
    states: Vec<u64>,
    admitted: Vec<u32>,
}

impl Exact {
    fn new(rule: Rule, keys: u32) -> Self {
        Self {
            rule,
            states: vec![0; keys as usize],
            admitted: vec![0; keys as usize],
        }
    }

    fn request(&mut self, key: u32, now: u64) {
        let state = &mut self.states[key as usize];
        if let Ok(admitted) = self.rule.decide(*state, now, 1) {
            *state = admitted.state;
            self.admitted[key as usize] += 1;
        }
    }
}
