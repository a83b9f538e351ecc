//! How long a request may take as a whole, and how backends learn of it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::attempt;
use super::context::Context;

/// What is left, in milliseconds: relative, since clocks differ.
const X_REQUEST_DEADLINE_MS: HeaderName = HeaderName::from_static("x-request-deadline-ms");
/// The same in gRPC (its HTTP/2 protocol specification, `Timeout`).
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The most that eight digits of milliseconds hold.
const LONGEST: u64 = 99_999_999;

/// How long the client gives the request, if it says so: any client of gRPC, and proxies that are
/// trusted. Others could make backends look slow. What it has waited for limits is spent.
pub(super) fn of_client(request: &RequestHeader, context: &Context) -> Option<Duration> {
    let text = |name| request.headers.get(name)?.to_str().ok();
    let grpc = text(GRPC_TIMEOUT).and_then(parse);
    let trusted = match context.is_from_trusted_proxy {
        true => text(X_REQUEST_DEADLINE_MS).and_then(|it| it.parse().ok()),
        false => None,
    };
    let given = grpc
        .into_iter()
        .chain(trusted.map(Duration::from_millis))
        .min()?;
    Some(given.saturating_sub(context.queued.unwrap_or_default()))
}

/// Tells a backend how much time is left, unless there is no limit.
pub(super) fn tell(headers: &mut HeaderMap, context: &Context) {
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    // Mostly it is what the route says, made when that was compiled.
    if context.attempt.complete.is_none()
        && context.client_deadline.is_none()
        && !is_grpc
        && let Some(told) = context
            .route()
            .and_then(|it| it.policies.told_total.as_ref())
    {
        headers.insert(X_REQUEST_DEADLINE_MS, told.clone());
        return;
    }
    let total = context.total();
    // Nothing of it is spent before the request is there as a whole.
    let Some(left) = attempt::time_left(context).or(total) else {
        headers.remove(X_REQUEST_DEADLINE_MS);
        return;
    };
    let millis = u64::try_from(left.as_millis())
        .unwrap_or(LONGEST)
        .min(LONGEST);
    headers.insert(X_REQUEST_DEADLINE_MS, HeaderValue::from(millis));
    if is_grpc && let Ok(timeout) = HeaderValue::try_from(format!("{millis}m")) {
        headers.insert(GRPC_TIMEOUT, timeout);
    }
}

/// One to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let value: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_understood() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("999999999m", None),
            ("1", None),
            ("m", None),
            ("", None),
            ("-1m", None),
            ("1h", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
