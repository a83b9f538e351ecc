//! When a certificate is asked for: at first, before it ends, and after an attempt that failed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::issued::Issued;

const DAY: Duration = Duration::from_secs(86_400);
/// Certificates that are good for less than this are renewed at half of their time, others at two thirds: who
/// asks for the next one then has as long to mend what is wrong.
const SHORT: Duration = Duration::from_secs(10 * 86_400);
/// Of a certificate's time, by which others that were got together with it are renewed earlier than it.
const SPREAD: f64 = 1.0 / 30.0;
/// How long after the first failure it is tried again; twice as long after each other. In the first hour that is
/// five times, the most that authorities put up with.
const FIRST_PAUSE: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(12 * 3600);
/// How often an authority is asked when it wants certificates to be renewed (RFC 9773 §4.3), whatever it says.
const ASK: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=DAY;

/// What came of attempts, and what the authority said. It is kept beside the certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    /// Attempts since the last one that succeeded.
    pub(super) failures: u32,
    /// Why the last one failed.
    pub(super) error: Option<String>,
    /// Until then nothing is tried.
    paused_until: Option<SystemTime>,
    /// When the authority wants this certificate to be renewed.
    window: Option<Window>,
    /// When it is asked for that again.
    ask_at: Option<SystemTime>,
}

/// A time that an authority suggests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
}

impl Progress {
    /// Where that of a certificate is kept.
    pub(super) fn file(certificate: &Path) -> PathBuf {
        certificate.with_extension("json")
    }

    /// When a certificate is asked for; it may have passed.
    pub(super) fn due(&self, issued: Option<&Issued>, now: SystemTime) -> SystemTime {
        let due = issued.map_or(now, |issued| match &self.window {
            // At any time in it, for it is for many (§4.2).
            Some(window) => between(window.start, window.end, issued.lot),
            None => late(issued),
        });
        self.paused_until.map_or(due, |until| due.max(until))
    }

    /// Whether it is time to ask the authority when it wants this certificate to be renewed.
    pub(super) fn is_to_ask(&self, now: SystemTime) -> bool {
        self.ask_at.is_none_or(|at| at <= now)
    }

    /// The authority said when, or does not say such things, and may be asked again after a while.
    pub(super) fn answered(&mut self, window: Option<Window>, after: Duration, now: SystemTime) {
        self.window = window.filter(|it| it.start < it.end).or(self.window.take());
        self.ask_at = Some(now + after.clamp(*ASK.start(), *ASK.end()));
    }

    /// An attempt failed; `random` is from 0 to 1.
    pub(super) fn failed(&mut self, error: String, now: SystemTime, random: f64) {
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        let pause = doubled.min(LONGEST_PAUSE);
        self.failures += 1;
        self.error = Some(error);
        self.paused_until = Some(now + pause.mul_f64(1.0 + random / 5.0));
    }
}

fn late(issued: &Issued) -> SystemTime {
    let time = issued.until.duration_since(issued.from).unwrap_or_default();
    let part = if time < SHORT { 1.0 / 2.0 } else { 2.0 / 3.0 };
    issued.from + time.mul_f64(part - SPREAD * issued.lot)
}

fn between(start: SystemTime, end: SystemTime, lot: f64) -> SystemTime {
    start + end.duration_since(start).unwrap_or_default().mul_f64(lot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(number: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + number * DAY
    }

    fn issued(days: u32, lot: f64) -> Issued {
        Issued {
            from: day(1000),
            until: day(1000 + days),
            id: None,
            lot,
        }
    }

    #[test]
    fn one_that_is_not_there_is_asked_for_at_once() {
        assert_eq!(Progress::default().due(None, day(7)), day(7));
    }

    #[test]
    fn it_is_renewed_at_two_thirds_of_its_time_and_short_ones_at_half() {
        let due = |days, lot| Progress::default().due(Some(&issued(days, lot)), day(0));
        assert_eq!(due(90, 0.0), day(1060));
        assert_eq!(due(90, 1.0), day(1057));
        assert_eq!(due(6, 0.0), day(1003));
    }

    #[test]
    fn the_authority_says_when_and_goes_on_being_asked() {
        let mut progress = Progress::default();
        assert!(progress.is_to_ask(day(1001)));
        let window = |start, end| {
            Some(Window {
                start: day(start),
                end: day(end),
            })
        };
        progress.answered(window(1010, 1014), Duration::from_secs(6 * 3600), day(1001));
        let due = |progress: &Progress, lot| progress.due(Some(&issued(90, lot)), day(1001));
        assert_eq!(due(&progress, 0.0), day(1010));
        assert_eq!(due(&progress, 0.5), day(1012));
        assert!(!progress.is_to_ask(day(1001) + Duration::from_secs(5 * 3600)));
        assert!(progress.is_to_ask(day(1002)));
        // What makes no sense changes nothing, and one that was revoked is renewed at once.
        progress.answered(window(1009, 1008), Duration::ZERO, day(1002));
        assert_eq!(due(&progress, 0.0), day(1010));
        assert!(!progress.is_to_ask(day(1002) + Duration::from_secs(59)));
        progress.answered(window(900, 901), Duration::from_secs(u64::MAX), day(1003));
        assert!(due(&progress, 1.0) < day(1003));
        assert!(progress.is_to_ask(day(1004)));
    }

    #[test]
    fn it_is_tried_five_times_in_the_first_hour_and_then_twice_a_day() {
        let (mut progress, mut now) = (Progress::default(), day(1000));
        let mut tried = Vec::new();
        for _ in 0..20 {
            tried.push(now.duration_since(day(1000)).unwrap().as_secs() / 60);
            progress.failed("no".to_owned(), now, 0.0);
            now = progress.due(None, now);
        }
        assert_eq!(tried.iter().filter(|minute| **minute < 60).count(), 5);
        assert_eq!(tried[19] - tried[18], 12 * 60);
    }

    proptest! {
        #[test]
        fn there_is_always_time_left_to_try_again(days in 1_u32..400, lot in 0.0..=1.0_f64) {
            let issued = issued(days, lot);
            let due = Progress::default().due(Some(&issued), day(0));
            prop_assert!(due > issued.from);
            let left = issued.until.duration_since(due).unwrap();
            let time = issued.until.duration_since(issued.from).unwrap();
            prop_assert!(left >= time / 3);
        }

        #[test]
        fn a_pause_is_never_over_before_its_time(failures in 1_u32..100, random in 0.0..=1.0_f64) {
            let mut progress = Progress::default();
            for _ in 0..failures {
                progress.failed(String::new(), day(1), random);
            }
            let pause = progress.due(None, day(1)).duration_since(day(1)).unwrap();
            prop_assert!(pause >= FIRST_PAUSE && pause <= LONGEST_PAUSE.mul_f64(1.2));
        }
    }
}
