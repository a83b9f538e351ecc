//! `tracestate` (W3C Trace Context, section 3.3): what other systems keep for themselves along a trace.
//!
//! The gateway has no entry of its own, so that what comes passes as it is, if it is sound.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Entries at most (section 3.3.1.1).
const MOST_ENTRIES: usize = 32;
/// The longest value.
const LONGEST_VALUE: usize = 256;

/// What becomes of the `tracestate` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateFate {
    /// There is none, or it is not sound, or of no trace.
    #[default]
    Dropped,
    /// It passes as it is.
    Kept,
    /// Its lines become one.
    Joined,
}

/// What becomes of it, if its `traceparent` is sound.
pub(super) fn fate(headers: &HeaderMap) -> StateFate {
    let mut lines = 0;
    let mut count = 0;
    for line in headers.get_all(TRACESTATE) {
        lines += 1;
        for entry in entries(line) {
            count += 1;
            if count > MOST_ENTRIES || !is_sound(entry) {
                return StateFate::Dropped;
            }
        }
    }
    match (count, lines) {
        (0, _) => StateFate::Dropped,
        (_, 1) => StateFate::Kept,
        _ => StateFate::Joined,
    }
}

/// Does to it what was decided.
pub(super) fn apply(fate: StateFate, headers: &mut HeaderMap) {
    let joined = match fate {
        StateFate::Kept => return,
        StateFate::Dropped => None,
        StateFate::Joined => join(headers),
    };
    match joined {
        Some(joined) => headers.insert(TRACESTATE, joined),
        None => headers.remove(TRACESTATE),
    };
}

/// All entries in the order of the lines (RFC 9110 §5.3).
fn join(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut joined = Vec::new();
    for entry in headers.get_all(TRACESTATE).iter().flat_map(entries) {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(entry);
    }
    let is_any = !joined.is_empty();
    let joined = HeaderValue::from_maybe_shared(Bytes::from(joined)).ok();
    joined.filter(|_| is_any)
}

/// The entries of a line; empty ones are allowed, and say nothing.
fn entries(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let entries = line.as_bytes().split(|byte| *byte == b',');
    entries
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

fn is_sound(entry: &[u8]) -> bool {
    let mut parts = entry.splitn(2, |byte| *byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(key), Some(value)) => is_key(key) && is_value(value),
        _ => false,
    }
}

/// A word, or that of a tenant and of its system.
fn is_key(key: &[u8]) -> bool {
    let is_word = |word: &[u8], may_be_digit: bool, most: usize| {
        let is_first =
            |first: &u8| first.is_ascii_lowercase() || (may_be_digit && first.is_ascii_digit());
        let is_other = |other: &u8| {
            other.is_ascii_lowercase() || other.is_ascii_digit() || b"_-*/".contains(other)
        };
        word.len() <= most && word.first().is_some_and(is_first) && word.iter().all(is_other)
    };
    let mut parts = key.splitn(2, |byte| *byte == b'@');
    match (parts.next(), parts.next()) {
        (Some(word), None) => is_word(word, false, 256),
        (Some(tenant), Some(system)) => is_word(tenant, true, 241) && is_word(system, false, 14),
        _ => false,
    }
}

/// Visible ASCII and spaces, though not at its end.
fn is_value(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=';
    (1..=LONGEST_VALUE).contains(&value.len())
        && value.iter().all(is_allowed)
        && value.last() != Some(&b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (TRACESTATE, HeaderValue::from_str(line).unwrap());
        lines.iter().map(value).collect()
    }

    fn passed(lines: &[&str]) -> Option<String> {
        let mut headers = headers(lines);
        apply(fate(&headers), &mut headers);
        let mut lines = headers.get_all(TRACESTATE).iter();
        let line = lines.next().map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(lines.next(), None);
        line
    }

    #[test]
    fn what_is_sound_passes_as_it_is() {
        let long_key = "a".repeat(256);
        for sound in [
            "foo=1",
            "foo=1,bar=2",
            "foo=1 \t , \t bar=2, ,baz=3",
            "foo= 1",
            "0tenant@system=1",
            "a_-*/9=!~ z",
            &format!("{long_key}={}", "x".repeat(256)),
            &format!("{}@{}=1", &long_key[..241], &long_key[..14]),
            &(0..32).map(|n| format!("k{n}=v,")).collect::<String>(),
        ] {
            assert_eq!(passed(&[sound]).as_deref(), Some(sound));
        }
    }

    #[test]
    fn what_is_not_is_dropped_as_a_whole() {
        let long = "a".repeat(257);
        for bad in [
            "",
            " , ",
            "foo",
            "foo=",
            "=1",
            "Foo=1",
            "0foo=1",
            "foo =1",
            "foo=1=2",
            "foo@=1",
            "@foo=1",
            "foo@0bar=1",
            "foo@bar@baz=1",
            "fo\u{7f}o=1",
            "foo=1,bar",
            &format!("{long}=1"),
            &format!("foo={long}"),
            &format!("{}@a=1", &long[..242]),
            &format!("a@{}=1", &long[..15]),
            &(0..33).map(|n| format!("k{n}=v,")).collect::<String>(),
        ] {
            let Ok(_) = HeaderValue::from_str(bad) else {
                continue;
            };
            assert_eq!(passed(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn lines_become_one_in_their_order() {
        assert_eq!(
            passed(&["foo=1,bar=2", "", "rojo=3 , congo=4"]).as_deref(),
            Some("foo=1,bar=2,rojo=3,congo=4")
        );
        assert_eq!(passed(&["foo=1", "BAD=2"]), None);
        let many: String = (0..20).map(|n| format!("k{n}=v,")).collect();
        assert_eq!(passed(&[&many, &many.replace('k', "l")]), None);
    }

    proptest! {
        #[test]
        fn what_passes_is_sound_and_passes_again(lines in prop::collection::vec("[a-z0-9@=, \t_-]{0,40}", 0..4)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if let Some(line) = passed(&lines) {
                prop_assert_eq!(passed(&[&line]), Some(line));
            }
        }

        #[test]
        fn no_bytes_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in lines {
                if let Ok(line) = HeaderValue::from_bytes(&line) {
                    headers.append(TRACESTATE, line);
                }
            }
            apply(fate(&headers), &mut headers);
        }
    }
}
