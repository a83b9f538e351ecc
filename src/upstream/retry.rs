//! When a failed attempt may be repeated, and how many repetitions a service can bear.

use std::time::Duration;

use http::StatusCode;

use super::hedge::Hedge;
use super::window::{Kind, WINDOW, Window};
use crate::config::{self, Diagnostics, RetryOn, Toggle};

/// Repetitions a second that are allowed however few requests there are.
const FLOOR: u64 = 3;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Most attempts of one request.
pub const MOST_ATTEMPTS: u32 = 10;

/// Which attempts of a route are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Repetitions as a share of the service's requests, in percent.
    pub budget: u8,
    on_connect_failure: bool,
    on_reset: bool,
    on_timeout: bool,
    statuses: Box<[u16]>,
    pause: Duration,
    all_methods: bool,
    /// How long one attempt may take to the first byte.
    pub per_try: Option<Duration>,
    /// When a second attempt begins while the first goes on.
    pub hedge: Option<Hedge>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection; nothing was sent.
    Connect,
    /// The connection broke before the answer's header.
    Reset,
    /// No answer in time.
    Timeout,
    /// This answer.
    Status(StatusCode),
}

impl Retry {
    /// The rule of a route whose nearest `retry` is `policy`; `None` repeats nothing.
    pub fn compile(
        policy: Option<&Toggle<config::Retry>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let defaults = config::Retry::default();
        let retry = match policy {
            Some(Toggle::Off) => return None,
            None => &defaults,
            Some(Toggle::On(retry)) => retry,
        };
        if !(1..=MOST_ATTEMPTS).contains(&retry.attempts.value) {
            diagnostics
                .error(
                    retry.attempts.span,
                    format!("`attempts` of {} is out of range", retry.attempts),
                )
                .help(format!(
                    "1 to {MOST_ATTEMPTS}, the first attempt included; `retry: off` for no repetition"
                ));
        }
        if let Some(limit) = &retry.per_try_timeout
            && limit.0.is_zero()
        {
            diagnostics
                .error(
                    limit.span,
                    "`per_try_timeout` is zero, so every attempt would fail",
                )
                .help("write how long one attempt may take, such as `2s`");
        }
        let mut statuses = Vec::new();
        for condition in &retry.on {
            if let RetryOn::Status(status) = condition.value {
                if (500..=599).contains(&status) {
                    statuses.push(status);
                } else {
                    diagnostics
                        .error(
                            condition.span,
                            format!("{status} is no status to repeat on"),
                        )
                        .help("500 to 599: what a backend answers otherwise is its answer");
                }
            }
        }
        let on = |wanted: &RetryOn| retry.on.iter().any(|condition| condition.value == *wanted);
        Some(Self {
            attempts: retry.attempts.value,
            budget: retry.budget.0,
            on_connect_failure: on(&RetryOn::ConnectFailure),
            on_reset: on(&RetryOn::Reset),
            on_timeout: on(&RetryOn::Timeout),
            statuses: statuses.into(),
            pause: retry.backoff.0,
            all_methods: retry.all_methods,
            per_try: retry.per_try_timeout.as_ref().map(|limit| limit.0),
            hedge: Hedge::compile(retry, diagnostics),
        })
    }

    /// Whether methods that are not idempotent are repeated too.
    pub fn is_for_all_methods(&self) -> bool {
        self.all_methods
    }

    /// Whether this failure of a request's latest attempt is a reason for another one.
    /// Connections that failed are repeated whatever the method, since nothing was sent.
    pub fn covers(&self, failure: Failure, is_idempotent: bool, attempts: u32) -> bool {
        let is_covered = match failure {
            Failure::Connect => self.on_connect_failure,
            Failure::Reset => self.on_reset,
            Failure::Timeout => self.on_timeout,
            Failure::Status(status) => self.statuses.contains(&status.as_u16()),
        };
        let is_safe = failure == Failure::Connect || is_idempotent || self.all_methods;
        is_covered && is_safe && attempts < self.attempts
    }

    /// How long to wait before the attempt after so many: anything up to a bound that doubles
    /// ("full jitter", Brooker, *Exponential Backoff And Jitter*). `random` is in 0..1.
    pub fn pause(&self, attempts: u32, random: f64) -> Duration {
        let doubled = self
            .pause
            .saturating_mul(1 << attempts.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE.max(self.pause)).mul_f64(random)
    }
}

/// How many repetitions a service still bears: a share of its requests of the last ten seconds, and
/// some a second beside (Finagle's retry budget, counted in a window instead of a bucket).
#[derive(Debug, Default)]
pub(super) struct Budget(Window);

impl Budget {
    /// A request came.
    pub(super) fn request(&self, now: Duration) {
        self.0.add(Kind::Plain, now);
    }

    /// Requests of the last ten seconds.
    pub(super) fn requests(&self, now: Duration) -> u64 {
        self.0.counts(now).0
    }

    /// Takes one repetition, if `percent` of the requests leaves one.
    pub(super) fn take(&self, percent: u8, now: Duration) -> bool {
        let (requests, repeated) = self.0.counts(now);
        let floor = FLOOR * WINDOW.as_secs();
        let is_left = repeated < requests * u64::from(percent) / 100 + floor;
        if is_left {
            self.0.add(Kind::Marked, now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retry(edit: impl FnOnce(&mut config::Retry)) -> Retry {
        let mut section = config::Retry::default();
        edit(&mut section);
        let mut diagnostics = Diagnostics::default();
        let compiled = Retry::compile(Some(&Toggle::On(section)), &mut diagnostics);
        assert!(diagnostics.as_slice().is_empty());
        compiled.unwrap()
    }

    #[test]
    fn only_what_is_safe_is_repeated() {
        let retry = retry(|_| ());
        assert!(retry.covers(Failure::Connect, false, 1));
        assert!(!retry.covers(Failure::Reset, false, 1));
        assert!(retry.covers(Failure::Reset, true, 1));
        assert!(retry.covers(Failure::Status(StatusCode::SERVICE_UNAVAILABLE), true, 1));
        assert!(!retry.covers(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR), true, 1));
        assert!(!retry.covers(Failure::Timeout, true, 1));
        assert!(!retry.covers(Failure::Connect, true, retry.attempts));
        assert_eq!(
            Retry::compile(Some(&Toggle::Off), &mut Diagnostics::default()),
            None
        );
    }

    #[test]
    fn what_the_operator_vouches_for_is_repeated() {
        let retry = retry(|section| {
            section.all_methods = true;
            section.on = vec![RetryOn::Timeout.into(), RetryOn::Status(500).into()];
        });
        assert!(retry.covers(Failure::Timeout, false, 1));
        assert!(retry.covers(Failure::Status(StatusCode::INTERNAL_SERVER_ERROR), false, 1));
        assert!(!retry.covers(Failure::Connect, true, 1));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let retry = retry(|_| ());
        let longest: Vec<_> = (1..8)
            .map(|attempt| retry.pause(attempt, 1.0).as_millis())
            .collect();
        assert_eq!(longest, [25, 50, 100, 200, 250, 250, 250]);
        assert!(retry.pause(3, 0.5) == Duration::from_millis(50));
        assert_eq!(retry.pause(u32::MAX, 0.0), Duration::ZERO);
    }

    proptest! {
        /// It gives as long as the share and the floor leave something, and then no more.
        #[test]
        fn the_budget_is_what_the_last_ten_seconds_leave(
            percent in 0..=100u8,
            steps in prop::collection::vec((0..300u64, 0..4u32), 1..400),
        ) {
            let budget = Budget::default();
            let mut now = 0;
            let mut seen: Vec<(u64, bool)> = Vec::new();
            for (step, wanted) in steps {
                now += step;
                let at = Duration::from_millis(now);
                budget.request(at);
                seen.push((now / 1000, false));
                for _ in 0..wanted {
                    let recent = seen.iter().filter(|(second, _)| second + 10 > now / 1000);
                    let (repeated, requests): (Vec<&(u64, bool)>, Vec<_>) = recent.partition(|(_, it)| *it);
                    let bound = requests.len() * usize::from(percent) / 100 + 30;
                    let is_given = budget.take(percent, at);
                    prop_assert_eq!(is_given, repeated.len() < bound);
                    if is_given {
                        seen.push((now / 1000, true));
                    }
                }
            }
        }
    }
}
