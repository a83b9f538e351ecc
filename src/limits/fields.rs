//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): structured fields
//! (RFC 9651) that tell a client what it may do and what is left of it.

use std::fmt::Write;

use bytes::Bytes;
use http::HeaderValue;

use super::verdict::Tightest;

/// What clients are told of a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) name: &'a str,
    /// Requests, or units of what they cost, or bytes.
    pub(super) quota: u64,
    pub(super) is_of_bytes: bool,
    /// Whole seconds.
    pub(super) window: u64,
}

/// All policies: `"orders";q=10;w=300`. `None` if there are none.
pub(super) fn policy<'a>(limits: impl Iterator<Item = Policy<'a>>) -> Option<HeaderValue> {
    let policies: Vec<String> = limits
        .map(|policy| {
            let mut text = quoted(policy.name);
            // Writing to a String cannot fail.
            let _ = write!(text, ";q={}", policy.quota);
            if policy.is_of_bytes {
                text.push_str(";qu=\"content-bytes\"");
            }
            // The draft has no windows below a second.
            if policy.window > 0 {
                let _ = write!(text, ";w={}", policy.window);
            }
            text
        })
        .collect();
    let value = (!policies.is_empty()).then(|| Bytes::from(policies.join(", ")))?;
    HeaderValue::from_maybe_shared(value).ok()
}

/// The policies of limits on requests under way: `"orders-concurrent";q=200;qu="concurrent-requests"`.
pub(super) fn concurrency_policy<'a>(
    limits: impl Iterator<Item = (&'a str, u64)>,
) -> Option<HeaderValue> {
    let policies: Vec<String> = limits
        .map(|(name, limit)| format!("{};q={limit};qu=\"concurrent-requests\"", quoted(name)))
        .collect();
    let is_any = !policies.is_empty();
    let policies = HeaderValue::from_maybe_shared(Bytes::from(policies.join(", ")));
    policies.ok().filter(|_| is_any)
}

/// What is left of one policy: `"orders";r=9;t=300`.
pub(super) fn state(name: &str, tightest: &Tightest) -> HeaderValue {
    let mut number = itoa::Buffer::new();
    let mut text = quoted(name);
    text.push_str(";r=");
    text.push_str(number.format(tightest.remaining));
    text.push_str(";t=");
    text.push_str(number.format(tightest.reset));
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

/// A name as a structured string: printable ASCII, with `"` and `\` escaped.
fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 24);
    out.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, quota: u64, is_of_bytes: bool, window: u64) -> HeaderValue {
        let one = Policy {
            name,
            quota,
            is_of_bytes,
            window,
        };
        policy([one].into_iter()).unwrap()
    }

    #[test]
    fn names_are_structured_strings_and_windows_whole_seconds() {
        assert_eq!(told("orders", 10, false, 300), "\"orders\";q=10;w=300");
        assert_eq!(told("a\"\\ä", 5, false, 0), "\"a\\\"\\\\?\";q=5");
    }

    #[test]
    fn bytes_are_said_to_be_bytes() {
        let expected = "\"orders\";q=1024;qu=\"content-bytes\";w=60";
        assert_eq!(told("orders", 1024, true, 60), expected);
    }
}
