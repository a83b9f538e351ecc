//! What clients see of a backend's response.

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::Context;
use super::pipeline;
use crate::traffic::HeaderFields;

/// Fields that are about one connection only (RFC 9110 §7.6.1), beside `Connection` and what it
/// names. The framework writes the framing fields itself.
const HOP_BY_HOP: [HeaderName; 3] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
];
/// What a backend may not take away by naming it in `Connection`.
const END_TO_END: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
];

/// Turns a backend's response header into the client's.
pub(super) fn prepare(request: &RequestHeader, response: &mut ResponseHeader, context: &Context) {
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    remove_hop_by_hop(response);
    pipeline::decorate(&request.headers, response, context);
    pipeline::edit(request, response, context);
}

fn remove_hop_by_hop(response: &mut ResponseHeader) {
    for name in &HOP_BY_HOP {
        if response.headers.contains_key(name) {
            response.remove(name);
        }
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if response.headers.contains_key(header::UPGRADE) {
        response.remove(&header::UPGRADE);
    }
    let named: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(names)
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in &named {
        response.remove(name);
    }
    response.remove(&header::CONNECTION);
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
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        remove_hop_by_hop(&mut response);
        response.headers.keys().map(ToString::to_string).collect()
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
