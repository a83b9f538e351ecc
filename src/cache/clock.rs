//! Dates as they stand in header fields.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::AsHeaderName;

/// As the forms of dates name the days.
const WEEKDAYS: [&str; 14] = [
    "Mon",
    "Tue",
    "Wed",
    "Thu",
    "Fri",
    "Sat",
    "Sun",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// The date in a field (RFC 9110 §5.6.7), if there is one and it stands there once.
pub(super) fn date(headers: &HeaderMap, name: impl AsHeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    parse(value.to_str().ok()?.trim())
}

fn parse(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text)
        .ok()
        .or_else(|| parse_leniently(text))
}

/// The same in letters of any case, as caches should take it (RFC 9111 §4.2), and with a day of the week
/// that is not the day's.
fn parse_leniently(text: &str) -> Option<SystemTime> {
    let (said, rest) = text.split_at(text.find([',', ' '])?);
    if !WEEKDAYS.iter().any(|it| it.eq_ignore_ascii_case(said)) {
        return None;
    }
    let mut follows_letter = false;
    let rest = rest.chars().map(|it| {
        let follows = std::mem::replace(&mut follows_letter, it.is_ascii_alphabetic());
        match follows {
            true => it.to_ascii_lowercase(),
            false => it.to_ascii_uppercase(),
        }
    });
    let rest = rest.collect::<String>().replace("Gmt", "GMT");
    let dates = WEEKDAYS.iter().map(|weekday| format!("{weekday}{rest}"));
    dates.flat_map(|it| httpdate::parse_http_date(&it)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_all_three_forms_and_in_any_case() {
        let date = httpdate::parse_http_date("Thu, 18 Aug 2050 02:01:18 GMT").ok();
        assert!(date.is_some());
        for text in [
            "Thu, 18 Aug 2050 02:01:18 GMT",
            "THU, 18 AUG 2050 02:01:18 gmt",
            "thursday, 18-aug-50 02:01:18 Gmt",
            "Thu Aug 18 02:01:18 2050",
            "tHU aUG 18 02:01:18 2050",
            "Mon, 18 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(parse(text), date, "{text}");
        }
    }

    #[test]
    fn what_has_no_form_of_a_date_is_none() {
        for text in [
            "",
            "0",
            "Thu",
            "Thu, ",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18  Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Tho, 18 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
