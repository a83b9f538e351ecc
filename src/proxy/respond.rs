//! What clients see of a backend's response.

use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::Context;
use super::{charge, fallback, pipeline};

/// Fields that are about one connection only (RFC 9110 §7.6.1), beside `Connection` and what it
/// names, and the announcement of trailers, which the framework discards. The framework writes the
/// framing fields itself.
const HOP_BY_HOP: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TRAILER,
];
/// What a backend may not take away by naming it in `Connection`.
const END_TO_END: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
];

/// Turns a backend's response header into the client's.
pub(super) fn prepare(
    request: &RequestHeader,
    response: &mut ResponseHeader,
    context: &mut Context,
) {
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    edit(response, |status, headers| {
        charge::by_header(headers, context);
        remove_hop_by_hop(status, headers);
        tell(request, status, headers, context);
    });
}

/// The same without what is about this client: an answer as it may be kept.
pub(super) fn strip(response: &mut ResponseHeader) {
    if response.status.is_informational() {
        return;
    }
    edit(response, remove_hop_by_hop);
}

/// The rest of it, for an answer that was kept, or might have been. It costs every client what it says.
pub(super) fn decorate(
    request: &RequestHeader,
    response: &mut ResponseHeader,
    context: &mut Context,
) {
    edit(response, |status, headers| {
        charge::by_header(headers, context);
        tell(request, status, headers, context);
    });
}

fn tell(request: &RequestHeader, status: StatusCode, headers: &mut HeaderMap, context: &Context) {
    pipeline::decorate(&request.headers, status, headers, context);
    fallback::mark(headers, context);
    pipeline::edit(request, headers, context);
}

/// As with requests: without the map of spellings, fields are edited at a fraction of the cost.
fn edit(response: &mut ResponseHeader, edit: impl FnOnce(StatusCode, &mut HeaderMap)) {
    let reason = response
        .get_reason_phrase()
        .filter(|reason| response.status.canonical_reason() != Some(reason));
    let reason = reason.map(str::to_owned);
    let mut parts: Parts = std::mem::replace(response, empty()).into();
    edit(parts.status, &mut parts.headers);
    *response = ResponseHeader::from(parts);
    if let Some(reason) = reason {
        // Fails for no text that came in a response.
        let _ = response.set_reason_phrase(Some(&reason));
    }
}

fn empty() -> ResponseHeader {
    ResponseHeader::from(http::Response::new(()).into_parts().0)
}

fn remove_hop_by_hop(status: StatusCode, headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    headers.remove(header::UPGRADE);
    let Some(connection) = headers.get(header::CONNECTION) else {
        return;
    };
    let is_option_only = |value: &HeaderValue| names(value).next().is_none();
    if !is_option_only(connection) || headers.get_all(header::CONNECTION).iter().nth(1).is_some() {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(names)
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in &named {
            headers.remove(name);
        }
    }
    headers.remove(header::CONNECTION);
}

/// The names in a `Connection` field; options such as `close` are names of nothing.
fn names(value: &HeaderValue) -> impl Iterator<Item = HeaderName> + '_ {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| {
            !name.eq_ignore_ascii_case(b"close") && !name.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|name| HeaderName::from_bytes(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(status: u16, fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(StatusCode::from_u16(status).unwrap(), &mut headers);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_about_the_connection_stays_behind() {
        let fields = [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("x-end", "1"),
        ];
        assert_eq!(cleaned(200, &fields), ["x-end"]);
    }

    #[test]
    fn an_upgrade_keeps_what_makes_it_one() {
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(cleaned(101, &fields), ["connection", "upgrade"]);
    }

    #[test]
    fn a_backend_cant_name_the_framing_away() {
        let fields = [("connection", "content-length"), ("content-length", "3")];
        assert_eq!(cleaned(200, &fields), ["content-length"]);
    }
}
