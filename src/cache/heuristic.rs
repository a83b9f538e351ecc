//! How long an answer is taken for fresh that does not say so itself (RFC 9111 §4.2.2). No clock runs here:
//! all times are given.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{CACHE_CONTROL, DATE, EXPIRES, LAST_MODIFIED, PRAGMA, SET_COOKIE};
use pingora::http::ResponseHeader;

use super::clock::date;
use super::directives::ResponseDirectives;
use crate::config::{self, Diagnostics, Period, Share};

/// Statuses that may be guessed about (RFC 9110 §15.1), but 206, which is not kept.
const CACHEABLE: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// The longest time that is guessed, unless another one is written.
const LONGEST: Period = Period::seconds(86_400);

/// What has not changed for long will not change soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heuristic {
    /// The share of the time since an answer was changed.
    pub share: Share,
    /// The longest time that is guessed.
    pub most: Period,
}

impl Heuristic {
    /// Compiles it, if it is written, and reports everything that is wrong with it.
    pub(super) fn compile(section: &config::Cache, diagnostics: &mut Diagnostics) -> Option<Self> {
        let most = section.heuristic_max.as_ref();
        if let Some(most) = most
            && most.value < Period::seconds(1)
        {
            diagnostics
                .error(
                    most.span,
                    format!("`heuristic_max` of {} keeps nothing", most.value),
                )
                .help("at least `1s`");
        }
        let Some(share) = &section.heuristic else {
            if let Some(most) = most {
                diagnostics
                    .error(
                        most.span,
                        "`heuristic_max` bounds what `heuristic` guesses, and there is none",
                    )
                    .help("add `heuristic: 10%`, or leave `heuristic_max` out");
            }
            return None;
        };
        if share.value.0 == 0 {
            diagnostics
                .error(share.span, "`heuristic` of 0% keeps nothing")
                .help("leave it out to guess nothing");
        }
        Some(Self {
            share: share.value,
            most: most.map_or(LONGEST, |most| most.value),
        })
    }

    /// How long an answer is fresh, in whole seconds. `None` if nothing may be guessed, or less than a second:
    /// what is made for each request was often changed just now.
    ///
    /// That the answer has no lifetime of its own is known before.
    pub(super) fn lifetime(
        self,
        response: &ResponseHeader,
        directives: &ResponseDirectives,
        came: SystemTime,
    ) -> Option<Duration> {
        if !may_guess(response, directives) {
            return None;
        }
        let headers = &response.headers;
        let made = date(headers, DATE).unwrap_or(came);
        let unchanged = made.duration_since(date(headers, LAST_MODIFIED)?).ok()?;
        let percent = u64::from(self.share.0);
        let share = unchanged.as_secs().saturating_mul(percent) / 100;
        let lifetime = Duration::from_secs(share.min(self.most.0.as_secs()));
        (!lifetime.is_zero()).then_some(lifetime)
    }
}

fn may_guess(response: &ResponseHeader, directives: &ResponseDirectives) -> bool {
    let headers = &response.headers;
    let is_cacheable = directives.public || is_cacheable(response.status);
    // Nobody asked for a copy of what is made for one client, so it is not kept by a guess, with or without
    // its cookie.
    let is_ones_own = headers.contains_key(SET_COOKIE);
    // No rule gives it a meaning in an answer (RFC 9111 §5.4), but those who write it mean one.
    let says_pragma = headers
        .get_all(PRAGMA)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    // Fields that a targeted one overrules may have a lifetime, beside which none is guessed.
    let is_overruled = directives.are_targeted
        && (headers.contains_key(EXPIRES) || headers.contains_key(CACHE_CONTROL));
    is_cacheable && !is_ones_own && !says_pragma && !is_overruled
}

fn is_cacheable(status: StatusCode) -> bool {
    CACHEABLE.contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const TENTH: Heuristic = Heuristic {
        share: Share(10),
        most: Period::seconds(86_400),
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn http_date(seconds: u64) -> String {
        httpdate::fmt_http_date(at(seconds))
    }

    /// Seconds that are guessed of an answer with these fields.
    fn guess(heuristic: Heuristic, status: u16, fields: &[(&'static str, &str)]) -> Option<u64> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        let directives = ResponseDirectives::of(&response.headers);
        let lifetime = heuristic.lifetime(&response, &directives, at(NOW));
        lifetime.map(|lifetime| lifetime.as_secs())
    }

    fn with(field: (&'static str, &str)) -> Option<u64> {
        let changed = http_date(NOW - 1000);
        guess(TENTH, 200, &[("last-modified", &changed), field])
    }

    #[test]
    fn only_what_may_be_guessed_about_is() {
        for status in 200..600 {
            let changed = http_date(NOW - 1000);
            let fields = [("last-modified", &*changed), ("cache-control", "public")];
            let expected = CACHEABLE.contains(&status).then_some(100);
            assert_eq!(guess(TENTH, status, &fields[..1]), expected, "{status}");
            assert_eq!(guess(TENTH, status, &fields), Some(100), "{status}");
        }
        assert_eq!(guess(TENTH, 200, &[]), None);
    }

    #[test]
    fn fields_that_speak_against_it_forbid_to_guess() {
        assert_eq!(with(("x-a", "b")), Some(100));
        assert_eq!(with(("set-cookie", "a=b")), None);
        assert_eq!(with(("pragma", "No-Cache")), None);
        assert_eq!(with(("pragma", "other")), Some(100));
        assert_eq!(with(("last-modified", "soon")), None);
    }

    #[test]
    fn a_lifetime_that_is_for_other_caches_forbids_to_guess() {
        let changed = http_date(NOW - 1000);
        let guessed = |field: (&'static str, &str)| {
            let targeted = ("cdn-cache-control", "public");
            guess(TENTH, 200, &[("last-modified", &changed), targeted, field])
        };
        assert_eq!(guessed(("x-a", "b")), Some(100));
        assert_eq!(guessed(("cache-control", "max-age=5")), None);
        assert_eq!(guessed(("expires", &http_date(NOW + 5))), None);
    }

    proptest! {
        #[test]
        fn no_guess_is_above_the_share_or_the_most(
            share in 1..=100u8, most in 1..1_000_000u64, unchanged in 0..NOW, is_dated: bool, late in 0..1000u64,
        ) {
            let heuristic = Heuristic { share: Share(share), most: Period::seconds(most) };
            // Without a `Date` what counts is when the answer came.
            let made = if is_dated { NOW - late } else { NOW };
            let (changed, date) = (http_date(made.saturating_sub(unchanged)), http_date(made));
            let fields = [("last-modified", &*changed), ("date", &*date)];
            let fields = if is_dated { &fields[..] } else { &fields[..1] };
            let unchanged = unchanged.min(made);
            let exact = (unchanged * u64::from(share) / 100).min(most);
            prop_assert_eq!(guess(heuristic, 200, fields), Some(exact).filter(|it| *it > 0));
        }

        #[test]
        fn what_will_be_changed_later_is_not_guessed_about(later in 0..1_000_000u64) {
            let changed = http_date(NOW + later);
            prop_assert_eq!(guess(TENTH, 200, &[("last-modified", &changed)]), None);
        }
    }
}
