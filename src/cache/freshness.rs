//! How old an answer is, and until when it is fresh (RFC 9111 §4.2). No clock runs here: all times are
//! given.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES};

use super::clock::date;
use super::directives::ResponseDirectives;

/// When an answer was asked for, and when its header came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) asked: SystemTime,
    pub(super) came: SystemTime,
}

impl Exchange {
    /// When the answer was made: its age is the time since then. Whatever clocks and caches in between
    /// say, it is not taken for younger than the oldest of it (RFC 9111 §4.2.3).
    pub(super) fn made(self, headers: &HeaderMap) -> SystemTime {
        let since = |earlier| self.came.duration_since(earlier).unwrap_or_default();
        let apparent = date(headers, DATE).map(since).unwrap_or_default();
        let corrected = age(headers) + since(self.asked);
        self.came
            .checked_sub(apparent.max(corrected))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The first of the values counts, if it is one; an invalid one is ignored (RFC 9111 §5.1).
fn age(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(AGE).and_then(|value| {
        let first = value.to_str().ok()?.split(',').next()?.trim();
        let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| first.parse::<u32>().unwrap_or(u32::MAX))
    });
    Duration::from_secs(seconds.unwrap_or(0).into())
}

/// How long an answer is fresh, as it says itself (RFC 9111 §4.2.1); `None` if it says nothing.
pub(super) fn lifetime(
    directives: &ResponseDirectives,
    headers: &HeaderMap,
    came: SystemTime,
) -> Option<Duration> {
    let seconds = directives.s_maxage.or(directives.max_age);
    if let Some(seconds) = seconds {
        return Some(Duration::from_secs(seconds.into()));
    }
    if directives.are_targeted || !headers.contains_key(EXPIRES) {
        return None;
    }
    // What is no date is one in the past (RFC 9111 §5.3).
    let Some(expires) = date(headers, EXPIRES) else {
        return Some(Duration::ZERO);
    };
    let made = date(headers, DATE).unwrap_or(came);
    Some(expires.duration_since(made).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn http_date(seconds: u64) -> String {
        httpdate::fmt_http_date(at(seconds))
    }

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let field = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn lifetime_of(fields: &[(HeaderName, &str)]) -> Option<u64> {
        let headers = headers(fields);
        let directives = ResponseDirectives::of(&headers);
        lifetime(&directives, &headers, at(NOW)).map(|it| it.as_secs())
    }

    #[test]
    fn s_maxage_goes_before_max_age_and_that_before_expires() {
        let cache_control = http::header::CACHE_CONTROL;
        let expires = http_date(NOW + 30);
        let with = |text| lifetime_of(&[(cache_control.clone(), text), (EXPIRES, &expires)]);
        assert_eq!(with("s-maxage=10, max-age=20"), Some(10));
        assert_eq!(with("max-age=20"), Some(20));
        assert_eq!(with("public"), Some(30));
        assert_eq!(lifetime_of(&[(cache_control, "public")]), None);
    }

    #[test]
    fn expires_counts_from_the_date_of_the_answer() {
        let (expires, date) = (http_date(NOW + 30), http_date(NOW - 70));
        assert_eq!(
            lifetime_of(&[(EXPIRES, &expires), (DATE, &date)]),
            Some(100)
        );
        for never in ["0", "-1", "soon", "Thu, 01 Jan 1970 00:00:00"] {
            assert_eq!(lifetime_of(&[(EXPIRES, never)]), Some(0), "{never}");
        }
        let other = http_date(NOW + 60);
        assert_eq!(
            lifetime_of(&[(EXPIRES, &expires), (EXPIRES, &other)]),
            Some(0)
        );
        assert_eq!(lifetime_of(&[(EXPIRES, &date)]), Some(0));
        // The obsolete forms of dates mean the same (RFC 9110 §5.6.7).
        let old = "Friday, 15-Jan-27 08:00:30 GMT";
        assert_eq!(lifetime_of(&[(EXPIRES, old)]), Some(30));
    }

    proptest! {
        #[test]
        fn an_answer_is_as_old_as_the_oldest_that_anybody_says(
            date in 0..100_000u64, age in 0..100_000u64, delay in 0..1000u64, is_ahead: bool,
        ) {
            let exchange = Exchange { asked: at(NOW - delay), came: at(NOW) };
            let stamp = if is_ahead { NOW + date } else { NOW - date };
            let (stamp, age_text) = (http_date(stamp), age.to_string());
            let headers = headers(&[(DATE, &stamp), (AGE, &age_text)]);
            let made = exchange.made(&headers);
            let old = at(NOW).duration_since(made).unwrap().as_secs();
            let apparent = if is_ahead { 0 } else { date };
            prop_assert_eq!(old, apparent.max(age + delay));
        }

        #[test]
        fn no_field_makes_an_answer_younger_than_its_way(text in "[ -~]{0,20}") {
            let exchange = Exchange { asked: at(NOW - 7), came: at(NOW) };
            let mut headers = HeaderMap::new();
            for name in [DATE, AGE, EXPIRES] {
                headers.insert(name, HeaderValue::from_str(&text).unwrap());
            }
            prop_assert!(exchange.made(&headers) <= exchange.asked);
        }
    }
}
