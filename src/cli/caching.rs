//! Whether an answer would be looked for among those that are kept, and under which key.

use std::fmt::Write;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Method};

use crate::cache::{CachePolicy, Question, RequestDirectives, location};

/// Says it of a request for a path.
pub(super) fn describe(
    policy: &CachePolicy,
    method: &Method,
    (path, query): (&str, Option<&str>),
    headers: &HeaderMap,
) -> String {
    let mut out = "\nkept answers\n".to_owned();
    let bypass = policy.bypass(Question {
        method,
        headers,
        has_body: false,
        is_from_trusted_proxy: false,
        directives: RequestDirectives::of(headers),
    });
    // Writing to a String cannot fail.
    if let Some(why) = bypass {
        let _ = writeln!(out, "  none is looked for: {why}");
        return out;
    }
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let query = policy.query.select(query);
    let _ = writeln!(
        out,
        "  looked for  {}",
        location(host, path, query.as_deref())
    );
    let _ = writeln!(out, "  apart by    {}", parts(policy, headers).join(", "));
    let fresh = match policy.ttl() {
        Some(ttl) => format!("for {ttl:?}, unless the backend forbids to keep it"),
        None => "as long as the backend says".to_owned(),
    };
    let _ = writeln!(out, "  fresh       {fresh}");
    out
}

fn parts(policy: &CachePolicy, headers: &HeaderMap) -> Vec<String> {
    let mut parts: Vec<String> = policy.vary.iter().map(|name| name.to_string()).collect();
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    match (&policy.cookies, policy.select_cookies(lines)) {
        (Some(names), _) if names.is_empty() => {}
        (Some(names), _) => parts.push(format!("the cookies {}", names.join(" "))),
        (None, Some(_)) => parts.push("all cookies".to_owned()),
        (None, None) => {}
    }
    let claims = policy.claims.iter();
    parts.extend(claims.map(|claim| format!("the claim {claim}")));
    if !policy.is_shared {
        parts.push("who asks".to_owned());
    }
    parts.push("the backend's Vary".to_owned());
    parts
}
