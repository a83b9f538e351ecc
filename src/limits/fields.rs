//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): structured fields
//! (RFC 9651) that tell a client what it may do and what is left of it.

use bytes::Bytes;
use http::HeaderValue;

use super::algorithm::Rule;
use super::verdict::Tightest;

/// All policies: `"orders";q=10;w=300`. `None` if there are none.
pub(super) fn policy<'a>(limits: impl Iterator<Item = (&'a str, &'a Rule)>) -> Option<HeaderValue> {
    let policies: Vec<String> = limits
        .map(|(name, rule)| {
            let name = quoted(name);
            // The draft has no windows below a second.
            let seconds = rule.window / 1_000_000;
            if seconds > 0 {
                format!("{name};q={};w={seconds}", rule.limit)
            } else {
                format!("{name};q={}", rule.limit)
            }
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
    use super::super::algorithm::Algorithm;
    use super::*;

    #[test]
    fn names_are_structured_strings_and_windows_whole_seconds() {
        let rule = |limit, window| Rule {
            algorithm: Algorithm::FixedWindow,
            limit,
            window,
            burst: limit,
        };
        let (minute, short) = (rule(10, 300_000_000), rule(5, 100_000));
        let policy = policy([("orders", &minute), ("a\"\\ä", &short)].into_iter());
        assert_eq!(policy.unwrap(), "\"orders\";q=10;w=300, \"a\\\"\\\\?\";q=5");
    }
}
