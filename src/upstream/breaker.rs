//! A service that fails gets no requests until a few have shown that it is well again (circuit
//! breaker: Nygard, *Release It!*), and never more at once than it bears.

mod forced;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::adaptive::Adaptive;
use super::health::Outcome;
use super::window::{Kind, Window};
use crate::config::{self, Diagnostics, Toggle};
pub use forced::CircuitMode;
use forced::{CLOSED, FIRST_MOMENT, FORCED_CLOSED, FORCED_OPEN, LAST_MOMENT};

/// The circuit is never open for longer at a time.
const LONGEST: Duration = Duration::from_secs(60);
/// How long it is open differs by so much in both directions, so that many do not close together.
const JITTER: f64 = 0.2;

/// When the circuit of a service opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CircuitBreaker {
    failure_rate: u64,
    slow_call: Option<Duration>,
    slow_call_rate: u64,
    minimum: u64,
    open_for: Duration,
    probes: u32,
    max_in_flight: u32,
    is_adaptive: bool,
    max_pending: Option<u32>,
    max_connections: Option<u32>,
}

/// Where the circuit of a service stands. Moments are durations since a fixed one.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    answers: Window,
    speeds: Window,
    /// In milliseconds. Past: half open. Closed, and what operators want, are values that no moment has:
    /// see [`forced`].
    open_until: AtomicU64,
    /// Openings one after the other.
    openings: AtomicU32,
    probes_sent: AtomicU32,
    probes_passed: AtomicU32,
    in_flight: AtomicU32,
    adaptive: Adaptive,
    pending: AtomicU32,
}

/// Whether a request may go to the service.
#[derive(Debug)]
pub enum Admission {
    /// It may, and counts as long as this lives.
    Granted(Permit),
    /// The circuit is open, at least for so long.
    Open(Duration),
    /// Operators have it be open.
    ForcedOpen,
    /// As many are under way as the service bears.
    Full,
}

/// A request under way.
#[derive(Debug)]
pub struct Permit {
    circuit: Arc<Circuit>,
    is_probe: bool,
    is_settled: AtomicBool,
    /// Whether it counts among those that wait for a connection.
    is_pending: AtomicBool,
}

/// What became of the circuit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn {
    /// It opened, for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

/// Where a circuit stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// All requests pass.
    Closed,
    /// A few pass, to see how it is.
    HalfOpen,
    /// None passes.
    Open,
}

impl Circuit {
    pub(super) fn state(&self, now: Duration) -> CircuitState {
        state(self.open_until.load(Ordering::Relaxed), now)
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many requests may be under way.
    pub(super) fn most(&self, rule: &CircuitBreaker) -> u32 {
        match rule.is_adaptive {
            true => self.adaptive.limit().min(rule.max_in_flight),
            false => rule.max_in_flight,
        }
    }

    /// Lets a request pass, or not.
    pub(super) fn admit(
        self: &Arc<Self>,
        rule: Option<&CircuitBreaker>,
        now: Duration,
    ) -> Admission {
        let most = rule.map_or(u32::MAX, |rule| self.most(rule));
        let permit = |is_probe| Permit {
            circuit: self.clone(),
            is_probe,
            is_settled: AtomicBool::new(false),
            is_pending: AtomicBool::new(false),
        };
        let until = self.open_until.load(Ordering::Relaxed);
        if until == FORCED_OPEN {
            return Admission::ForcedOpen;
        }
        let state = rule.map_or(CircuitState::Closed, |_| state(until, now));
        if state == CircuitState::Open {
            return Admission::Open(Duration::from_millis(until).saturating_sub(now));
        }
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Admission::Full;
        }
        let Some(rule) = rule.filter(|_| state == CircuitState::HalfOpen) else {
            return Admission::Granted(permit(false));
        };
        if self.probes_sent.fetch_add(1, Ordering::Relaxed) < rule.probes {
            return Admission::Granted(permit(true));
        }
        self.probes_sent.fetch_sub(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Admission::Open(Duration::from_secs(1))
    }

    /// Learns how an attempt went, and how long its answer took. `random` is in 0..1.
    pub(super) fn observe(
        &self,
        rule: &CircuitBreaker,
        outcome: Outcome,
        took: Option<Duration>,
        is_probe: bool,
        now: Duration,
        random: f64,
    ) -> Option<Turn> {
        let is_failure = outcome == Outcome::Failure;
        if rule.is_adaptive {
            let in_flight = self.in_flight.load(Ordering::Relaxed);
            self.adaptive
                .learn(took, is_failure, in_flight, rule.max_in_flight, now);
        }
        let is_slow = match (rule.slow_call, took) {
            (Some(slow), Some(took)) => took > slow,
            _ => false,
        };
        let until = self.open_until.load(Ordering::Relaxed);
        match state(until, now) {
            // What was under way when it opened says nothing new.
            CircuitState::Open => None,
            CircuitState::HalfOpen if !is_probe => None,
            CircuitState::HalfOpen if is_failure || is_slow => self.open(until, rule, now, random),
            CircuitState::HalfOpen => {
                let passed = self.probes_passed.fetch_add(1, Ordering::Relaxed) + 1;
                let is_well = passed >= rule.probes && self.close(until);
                is_well.then_some(Turn::Closed)
            }
            CircuitState::Closed if until == FORCED_CLOSED => None,
            CircuitState::Closed => {
                self.answers.add(kind(is_failure), now);
                if rule.slow_call.is_some() && took.is_some() {
                    self.speeds.add(kind(is_slow), now);
                }
                // A good answer never opens it, so that the counts are only summed up after bad ones.
                let is_over = (is_failure
                    && rule.is_over(rule.failure_rate, self.answers.counts(now)))
                    || (is_slow && rule.is_over(rule.slow_call_rate, self.speeds.counts(now)));
                if is_over {
                    self.open(until, rule, now, random)
                } else {
                    None
                }
            }
        }
    }

    /// Opens it, unless it is not where it was `seen` any more.
    fn open(&self, seen: u64, rule: &CircuitBreaker, now: Duration, random: f64) -> Option<Turn> {
        let openings = self.openings.load(Ordering::Relaxed);
        let length = rule
            .open_for
            .saturating_mul(1 << openings.min(16))
            .min(LONGEST.max(rule.open_for))
            .mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
        let until = millis(now + length).clamp(FIRST_MOMENT, LAST_MOMENT);
        if !self.turn(seen, until) {
            return None;
        }
        self.openings.store(openings + 1, Ordering::Relaxed);
        self.probes_sent.store(0, Ordering::Relaxed);
        self.probes_passed.store(0, Ordering::Relaxed);
        self.answers.clear();
        self.speeds.clear();
        Some(Turn::Opened(length))
    }

    /// Closes it, whatever was seen of the service, unless operators have said what it is.
    pub(super) fn reset(&self) {
        if self.mode() == CircuitMode::Automatic {
            self.close(self.open_until.load(Ordering::Relaxed));
        }
        self.answers.clear();
        self.speeds.clear();
    }

    /// Closes it, unless it is not where it was `seen` any more.
    fn close(&self, seen: u64) -> bool {
        let is_closed = self.turn(seen, CLOSED);
        if is_closed {
            self.openings.store(0, Ordering::Relaxed);
        }
        is_closed
    }

    fn turn(&self, seen: u64, next: u64) -> bool {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let turned = self
            .open_until
            .compare_exchange(seen, next, success, failure);
        turned.is_ok()
    }
}

impl Permit {
    /// Whether it is one of the few that show how the service is.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The request waits for a connection, unless as many do as may; without a rule it is not counted.
    pub(super) fn wait(&self, rule: Option<&CircuitBreaker>) -> bool {
        let Some(most) = rule.and_then(|rule| rule.max_pending) else {
            return true;
        };
        if self.is_pending.swap(true, Ordering::Relaxed) {
            return true;
        }
        if self.circuit.pending.fetch_add(1, Ordering::Relaxed) < most {
            return true;
        }
        self.connected();
        false
    }

    /// The request has its connection.
    pub fn connected(&self) {
        if self.is_pending.load(Ordering::Relaxed) && self.is_pending.swap(false, Ordering::Relaxed)
        {
            self.circuit.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The request said how the service is.
    pub fn settle(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.connected();
        self.circuit.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_probe && !self.is_settled.load(Ordering::Relaxed) {
            // A client that went away: somebody else may ask instead.
            let sent = &self.circuit.probes_sent;
            let _ = sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sent| {
                sent.checked_sub(1)
            });
        }
    }
}

impl CircuitBreaker {
    /// The rule of a service; `None` never opens.
    pub fn compile(
        written: Option<&Toggle<config::CircuitBreaker>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let defaults = config::CircuitBreaker::default();
        let section = match written {
            Some(Toggle::Off) => return None,
            None => &defaults,
            Some(Toggle::On(section)) => section,
        };
        for (name, number) in [
            ("minimum_requests", &section.minimum_requests),
            ("half_open_requests", &section.half_open_requests),
            ("max_in_flight", &section.max_in_flight),
        ]
        .into_iter()
        .chain(section.max_pending.iter().map(|it| ("max_pending", it)))
        .chain(
            section
                .max_connections
                .iter()
                .map(|it| ("max_connections", it)),
        ) {
            if number.value == 0 {
                diagnostics
                    .error(number.span, format!("`{name}` is zero"))
                    .help("write a number of requests, or `circuit_breaker: off`");
            }
        }
        for (name, share) in [
            ("failure_rate", &section.failure_rate),
            ("slow_call_rate", &section.slow_call_rate),
        ] {
            if share.0 == 0 {
                diagnostics
                    .error(
                        share.span,
                        format!("`{name}` is zero, so it would always open"),
                    )
                    .help("1% to 100%, or `circuit_breaker: off`");
            }
        }
        if section.open_for.0.is_zero() {
            diagnostics
                .error(section.open_for.span, "`open_for` is zero")
                .help("write for how long, or `circuit_breaker: off`");
        }
        Some(Self {
            failure_rate: section.failure_rate.0.into(),
            slow_call: section.slow_call.as_ref().map(|it| it.0),
            slow_call_rate: section.slow_call_rate.0.into(),
            minimum: section.minimum_requests.value.into(),
            open_for: section.open_for.0,
            probes: section.half_open_requests.value,
            max_in_flight: section.max_in_flight.value,
            is_adaptive: section.adaptive.is_some(),
            max_pending: section.max_pending.as_ref().map(|it| it.value),
            max_connections: section.max_connections.as_ref().map(|it| it.value),
        })
    }

    /// Connections in use to one endpoint at most.
    pub(super) fn max_connections(&self) -> Option<u32> {
        self.max_connections
    }

    fn is_over(&self, rate: u64, (good, bad): (u64, u64)) -> bool {
        good + bad >= self.minimum && bad * 100 >= rate * (good + bad)
    }
}

/// What the circuit's word means now.
fn state(open_until: u64, now: Duration) -> CircuitState {
    match open_until {
        ..FIRST_MOMENT => CircuitState::Closed,
        until if millis(now) < until => CircuitState::Open,
        _ => CircuitState::HalfOpen,
    }
}

fn kind(is_marked: bool) -> Kind {
    if is_marked { Kind::Marked } else { Kind::Plain }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
