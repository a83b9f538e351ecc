//! Endpoints that fail more than they should get no requests for a while (passive outlier detection).
//!
//! Two signs, as in Envoy and Linkerd: failures in a row, which find an outage at once, and the share
//! of failures in the last ten seconds, which finds what fails only sometimes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Health, Outcome, millis};
use crate::config::{self, Diagnostics, Toggle};
use crate::upstream::window::Kind;

/// Answers in the window below which a share says nothing.
const LEAST_ANSWERS: u64 = 20;
/// The share of failures, in percent, from which on an endpoint is out of line…
const FAILING: u64 = 50;
/// …if it is so much, in percent, above the share of the whole service: one bad route, which fails
/// everywhere, is not an endpoint's fault.
const ABOVE_OTHERS: u64 = 20;
/// An ejection is never longer.
const LONGEST: Duration = Duration::from_secs(300);

/// When an endpoint is out of line, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierDetection {
    consecutive: u32,
    ejection: Duration,
    most_ejected: u8,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Reason {
    /// So many failures in a row.
    Consecutive(u32),
    /// This share of failures, in percent.
    Share(u64),
}

impl Health {
    /// Counts how an attempt ended. `Some` if it is a reason for ejection; `service` are the answers
    /// and failures of all endpoints together.
    pub(in crate::upstream) fn observe(
        &self,
        outcome: Outcome,
        rule: &OutlierDetection,
        service: impl FnOnce() -> (u64, u64),
        now: Duration,
    ) -> Option<Reason> {
        if outcome == Outcome::Success {
            self.succeeded(now);
            return None;
        }
        self.answers.add(Kind::Marked, now);
        if outcome == Outcome::Failure {
            let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
            if in_a_row >= rule.consecutive {
                return Some(Reason::Consecutive(in_a_row));
            }
        }
        let share = share(self.counts(now))?;
        let is_failing = share > FAILING && share >= self::share(service())? + ABOVE_OTHERS;
        is_failing.then_some(Reason::Share(share))
    }

    /// Counts an attempt that went well.
    pub(in crate::upstream) fn succeeded(&self, now: Duration) {
        // Mostly it is 0 already, and reading costs the other threads nothing.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        self.answers.add(Kind::Plain, now);
    }

    /// No requests from now on, for longer each time it comes to this. Returns for how long. `random`
    /// is in 0..1.
    pub(in crate::upstream) fn eject(
        &self,
        rule: &OutlierDetection,
        now: Duration,
        random: f64,
    ) -> Duration {
        let until = self.ejected_until.load(Ordering::Relaxed);
        let before = self.ejections.load(Ordering::Relaxed);
        let last = rule.length(before);
        // Who was well for as long as it was out has a clean record again.
        let is_forgiven = until == 0 || millis(now) > until + millis(last);
        let ejections = if is_forgiven {
            1
        } else {
            before.saturating_add(1)
        };
        self.ejections.store(ejections, Ordering::Relaxed);
        // Endpoints that were ejected together do not come back together.
        let length = rule.length(ejections).mul_f64(0.9 + 0.2 * random);
        self.ejected_until
            .store(millis(now + length), Ordering::Relaxed);
        self.in_a_row.store(0, Ordering::Relaxed);
        self.answers.clear();
        length
    }
}

impl OutlierDetection {
    /// The rule of a service; `None` never ejects.
    pub fn compile(
        written: Option<&Toggle<config::OutlierDetection>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let defaults = config::OutlierDetection::default();
        let section = match written {
            Some(Toggle::Off) => return None,
            None => &defaults,
            Some(Toggle::On(section)) => section,
        };
        if section.consecutive_failures.value == 0 {
            diagnostics
                .error(
                    section.consecutive_failures.span,
                    "`consecutive_failures` is zero",
                )
                .help("write after how many failures in a row, or `outlier_detection: off`");
        }
        if section.ejection.0.is_zero() {
            diagnostics
                .error(section.ejection.span, "`ejection` is zero")
                .help("write for how long, or `outlier_detection: off`");
        }
        Some(Self {
            consecutive: section.consecutive_failures.value,
            ejection: section.ejection.0,
            most_ejected: section.max_ejected.0,
        })
    }

    /// How many of so many endpoints may be ejected; one always may.
    pub(in crate::upstream) fn most_of(&self, endpoints: usize) -> usize {
        (endpoints * usize::from(self.most_ejected) / 100).max(1)
    }

    fn length(&self, ejections: u32) -> Duration {
        self.ejection
            .saturating_mul(ejections)
            .min(LONGEST.max(self.ejection))
    }
}

/// Failures of all answers, in percent; `None` for too few.
fn share((good, bad): (u64, u64)) -> Option<u64> {
    (good + bad >= LEAST_ANSWERS).then(|| bad * 100 / (good + bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: OutlierDetection = OutlierDetection {
        consecutive: 5,
        ejection: Duration::from_secs(30),
        most_ejected: 50,
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn observe(health: &Health, outcome: Outcome, service: (u64, u64)) -> Option<Reason> {
        health.observe(outcome, &RULE, || service, at(1))
    }

    #[test]
    fn failures_in_a_row_are_found_at_once() {
        let health = Health::default();
        for _ in 0..4 {
            assert_eq!(observe(&health, Outcome::Failure, (0, 0)), None);
        }
        observe(&health, Outcome::Success, (0, 0));
        for _ in 0..4 {
            assert_eq!(observe(&health, Outcome::Failure, (0, 0)), None);
        }
        // An error of the application neither ends nor lengthens the row.
        assert_eq!(observe(&health, Outcome::ApplicationError, (0, 0)), None);
        let found = observe(&health, Outcome::Failure, (0, 0));
        assert_eq!(found, Some(Reason::Consecutive(5)));
    }

    #[test]
    fn what_fails_often_but_never_in_a_row_is_found_by_its_share() {
        let health = Health::default();
        let mut found = None;
        for turn in 0..40 {
            let outcome = if turn % 4 == 0 {
                Outcome::Success
            } else {
                Outcome::Failure
            };
            found = found.or(observe(&health, outcome, (100, 20)));
        }
        assert_eq!(found, Some(Reason::Share(75)));
    }

    #[test]
    fn a_route_that_fails_everywhere_ejects_nobody() {
        let health = Health::default();
        for _ in 0..100 {
            let found = observe(&health, Outcome::ApplicationError, (100, 300));
            assert_eq!(found, None);
            observe(&health, Outcome::Success, (100, 300));
        }
    }

    #[test]
    fn each_ejection_is_longer_until_it_was_well_for_as_long() {
        let health = Health::default();
        assert!(!health.is_ejected(at(0)));
        assert_eq!(health.eject(&RULE, at(100), 0.5), at(30));
        assert!(health.is_ejected(at(129)) && !health.is_ejected(at(130)));
        assert_eq!(health.eject(&RULE, at(131), 0.5), at(60));
        assert_eq!(health.eject(&RULE, at(192), 0.5), at(90));
        // Until 282, then well for more than 90 s.
        assert_eq!(health.eject(&RULE, at(373), 0.5), at(30));
        for turn in 0..20 {
            let length = health.eject(&RULE, at(410 + turn), 0.5);
            assert!(length <= LONGEST, "{length:?}");
        }
        assert!(health.eject(&RULE, at(500), 0.0) < health.eject(&RULE, at(500), 1.0));
    }

    #[test]
    fn a_share_of_the_endpoints_stays() {
        assert_eq!(
            [1, 2, 3, 4, 10].map(|count| RULE.most_of(count)),
            [1, 1, 1, 2, 5]
        );
    }
}
