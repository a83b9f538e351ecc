//! When endpoints are checked, and what the results come to.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;

use super::millis;
use crate::config::{self, Diagnostics, HealthProtocol, Spanned};

/// The shortest time between two checks: what asks more often is load, not a question.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Checks that began together do not stay together.
const JITTER: f64 = 0.15;

/// How the endpoints of a service are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    pub(super) question: Question,
    pub(super) timeout: Duration,
    interval: Duration,
    healthy_after: u32,
    unhealthy_after: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// A path, and the statuses that mean well; none for any from 200 to 299.
    Http(PathAndQuery, Box<[StatusCode]>),
    Tcp,
    /// The name of a service; empty for the server.
    Grpc(Box<str>),
}

/// The checks of one endpoint. Moments are durations since a fixed one.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Checks {
    /// In milliseconds; 0 before the first was planned.
    due: AtomicU64,
    good: AtomicU32,
    bad: AtomicU32,
}

impl Checks {
    /// Whether it is time for a check; if so, the next is planned. `random` is in 0..1.
    pub(in crate::upstream) fn is_due(
        &self,
        rule: &HealthCheck,
        now: Duration,
        random: f64,
    ) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let is_due = due != 0 && millis(now) >= due;
        if due == 0 || is_due {
            // The first ones are spread over the whole interval.
            let wait = match due {
                0 => rule.interval.mul_f64(random),
                _ => rule.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random),
            };
            self.due.store(millis(now + wait).max(1), Ordering::Relaxed);
        }
        is_due
    }

    /// Learns a result; says whether the endpoint is down, once that is certain.
    pub(in crate::upstream) fn learn(&self, rule: &HealthCheck, is_good: bool) -> Option<bool> {
        let (count, other, enough) = match is_good {
            true => (&self.good, &self.bad, rule.healthy_after),
            false => (&self.bad, &self.good, rule.unhealthy_after),
        };
        other.store(0, Ordering::Relaxed);
        let in_a_row = count.load(Ordering::Relaxed).saturating_add(1);
        count.store(in_a_row, Ordering::Relaxed);
        (in_a_row >= enough).then_some(!is_good)
    }
}

impl HealthCheck {
    /// The rule as written.
    pub(in crate::upstream) fn compile(
        written: &config::HealthCheck,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        for (name, number) in [
            ("healthy_after", &written.healthy_after),
            ("unhealthy_after", &written.unhealthy_after),
        ] {
            if number.value == 0 {
                diagnostics
                    .error(number.span, format!("`{name}` is zero"))
                    .help("write after how many checks in a row, at least 1");
            }
        }
        if written.interval.0 < SHORTEST_INTERVAL {
            diagnostics
                .error(
                    written.interval.span,
                    format!("an interval of {} is too short", written.interval.value),
                )
                .help("100ms at least; 5s is usual");
        }
        if let Some(timeout) = &written.timeout {
            if timeout.0.is_zero() {
                diagnostics.error(timeout.span, "`timeout` is zero, so every check would fail");
            } else if timeout.0 > written.interval.0 {
                diagnostics
                    .error(
                        timeout.span,
                        format!("a timeout of {} is longer than the interval", timeout.value),
                    )
                    .help(format!("at most {}", written.interval.value));
            }
        }
        Self {
            question: question(written, diagnostics),
            timeout: match &written.timeout {
                Some(timeout) => timeout.0,
                None => TIMEOUT.min(written.interval.0),
            },
            interval: written.interval.0,
            healthy_after: written.healthy_after.value,
            unhealthy_after: written.unhealthy_after.value,
        }
    }
}

fn question(written: &config::HealthCheck, diagnostics: &mut Diagnostics) -> Question {
    let protocol = written.protocol;
    let mut no_use = |key: &str, span, of: &str| {
        diagnostics
            .error(span, format!("`{key}` has no use with this `protocol`"))
            .help(format!("leave it out, or write `protocol: {of}`"));
    };
    if protocol != HealthProtocol::Http {
        if let Some(path) = &written.path {
            no_use("path", path.span, "http");
        }
        if let Some(status) = written.statuses.first() {
            no_use("statuses", status.span, "http");
        }
    }
    if let Some(service) = &written.service
        && protocol != HealthProtocol::Grpc
    {
        no_use("service", service.span, "grpc");
    }
    match protocol {
        HealthProtocol::Tcp => Question::Tcp,
        HealthProtocol::Grpc => {
            let service = written.service.as_deref().map_or("", String::as_str);
            if let (Some(written), 128..) = (&written.service, service.len()) {
                diagnostics.error(written.span, "the name has more than 127 bytes");
            }
            Question::Grpc(service.into())
        }
        HealthProtocol::Http => Question::Http(
            path(written.path.as_ref(), diagnostics),
            statuses(&written.statuses, diagnostics),
        ),
    }
}

fn path(written: Option<&Spanned<String>>, diagnostics: &mut Diagnostics) -> PathAndQuery {
    let root = PathAndQuery::from_static("/");
    let Some(written) = written else { return root };
    match written.parse::<PathAndQuery>() {
        Ok(path) if written.starts_with('/') => path,
        _ => {
            diagnostics
                .error(written.span, format!("`{written}` is not a path"))
                .help("write it as the backend knows it, such as `/healthz`");
            root
        }
    }
}

fn statuses(written: &[Spanned<u16>], diagnostics: &mut Diagnostics) -> Box<[StatusCode]> {
    let mut statuses = Vec::with_capacity(written.len());
    for status in written {
        match StatusCode::from_u16(status.value) {
            Ok(known) if known.as_u16() >= 200 => statuses.push(known),
            _ => {
                diagnostics.error(status.span, format!("{status} is not a final status"));
            }
        }
    }
    statuses.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> HealthCheck {
        HealthCheck::compile(&config::HealthCheck::default(), &mut Diagnostics::default())
    }

    #[test]
    fn checks_come_at_their_interval_and_not_together() {
        let (rule, checks) = (rule(), Checks::default());
        let at = Duration::from_millis;
        assert!(!checks.is_due(&rule, at(1000), 0.5));
        assert!(!checks.is_due(&rule, at(3499), 0.5));
        assert!(checks.is_due(&rule, at(3500), 0.0));
        assert!(!checks.is_due(&rule, at(3500 + 4249), 0.5));
        assert!(checks.is_due(&rule, at(3500 + 4250), 1.0));
        assert!(!checks.is_due(&rule, at(7750 + 5749), 0.5));
        assert!(checks.is_due(&rule, at(7750 + 5750), 0.5));
    }

    #[test]
    fn only_several_in_a_row_count() {
        let (rule, checks) = (rule(), Checks::default());
        let learn = |is_good| checks.learn(&rule, is_good);
        assert_eq!([learn(false), learn(false)], [None, None]);
        assert_eq!(learn(true), None);
        assert_eq!([learn(false), learn(false)], [None, None]);
        assert_eq!(learn(false), Some(true));
        assert_eq!(learn(true), None);
        assert_eq!(learn(false), None);
        assert_eq!([learn(true), learn(true)], [None, Some(false)]);
    }
}
