//! Calls by gRPC, which end with a status of their own: what the gateway answers itself, and how answers of
//! backends are judged. Browsers' dialect of it is bridged in [`web`].

mod base64;
mod web;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pingora::http::RequestHeader;

use self::base64::Decoder;
use super::context::Context;
use super::reply::{Body, PROXY_STATUS, Reply};
use crate::telemetry::{Flag, GrpcStatus};

pub(super) use web::{ask, decode, encode, end, expose, translate};

const GRPC: &[u8] = b"application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// After how many milliseconds a call may be tried again (gRPC proposal A6).
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// What can't stand in a message as it is (gRPC over HTTP2, "Percent-Encoded").
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A request that is a call.
#[derive(Debug)]
pub(super) struct Call {
    dialect: Dialect,
    /// Whether it is bridged.
    is_bridged: bool,
    decoder: Decoder,
    /// How it ended, if that is known.
    pub(super) status: Option<GrpcStatus>,
}

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Over HTTP/2, with trailers.
    Plain,
    /// With the trailers in the body.
    Web,
    /// The same as text.
    WebText,
}

impl Call {
    /// The call that a request is, if it is one.
    pub(super) fn of(request: &RequestHeader) -> Option<Box<Self>> {
        if request.method != Method::POST {
            return None;
        }
        let (dialect, _) = dialect(request.headers.get(header::CONTENT_TYPE)?.as_bytes())?;
        Some(Box::new(Self {
            dialect,
            is_bridged: false,
            decoder: Decoder::default(),
            status: None,
        }))
    }
}

/// The dialect of a content type, and what stands behind it: nothing, or the format of the messages.
fn dialect(kind: &[u8]) -> Option<(Dialect, &[u8])> {
    let (start, rest) = kind.split_at_checked(GRPC.len())?;
    if !start.eq_ignore_ascii_case(GRPC) {
        return None;
    }
    let after = |word: &[u8]| {
        let (start, rest) = rest.split_at_checked(word.len())?;
        start.eq_ignore_ascii_case(word).then_some(rest)
    };
    let (dialect, format) = if let Some(format) = after(b"-web-text") {
        (Dialect::WebText, format)
    } else if let Some(format) = after(b"-web") {
        (Dialect::Web, format)
    } else {
        (Dialect::Plain, rest)
    };
    matches!(format.first(), None | Some(b'+' | b';' | b' ')).then_some((dialect, format))
}

/// Whether the request is a call.
pub(super) fn is_call(context: &Context) -> bool {
    context.call.is_some()
}

/// Notes the status in the header or the trailers of an answer.
pub(super) fn note(fields: &HeaderMap, context: &mut Context) {
    if let Some(call) = &mut context.call
        && let Some(status) = fields.get(GRPC_STATUS)
    {
        call.status = Some(GrpcStatus::parse(status.as_bytes()));
    }
}

/// What an answer with this status of HTTP comes to: where a call has failed in it, the status that says the
/// same.
pub(super) fn effective(status: StatusCode, context: &Context) -> StatusCode {
    match context.call.as_ref().and_then(|call| call.status) {
        Some(GrpcStatus::UNAVAILABLE) => StatusCode::SERVICE_UNAVAILABLE,
        Some(GrpcStatus::UNKNOWN | GrpcStatus::INTERNAL | GrpcStatus::DATA_LOSS) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        // A deadline that was missed may have been too short: any client can give one.
        _ => status,
    }
}

/// Makes an answer of the gateway's own one that a client of gRPC understands: trailers without anything
/// before them (gRPC over HTTP2, "Trailers-Only").
pub(super) fn answer(reply: &mut Reply, context: &mut Context) {
    let is_client_late = reply.flag == Flag::UpstreamTimeout && context.is_late_for_client();
    let Some(call) = &mut context.call else {
        return;
    };
    let kind = reply.headers.iter().find(|it| it.0 == header::CONTENT_TYPE);
    if kind.is_some_and(|(_, kind)| dialect(kind.as_bytes()).is_some()) {
        return;
    }
    let status = match is_client_late {
        true => GrpcStatus::DEADLINE_EXCEEDED,
        false => status_of(reply.status),
    };
    call.status = Some(status);
    let mut fields = Vec::with_capacity(reply.headers.len() + 5);
    if let Some(wait) = pushback(reply) {
        fields.push((GRPC_RETRY_PUSHBACK, wait));
    }
    let text = match std::mem::replace(&mut reply.body, Body::Fixed(bytes::Bytes::new())) {
        Body::Problem(problem) => {
            fields.push((PROXY_STATUS, problem.proxy_status()));
            message(problem.detail().as_bytes())
        }
        Body::Fixed(text) if reply.status.is_success() => message(&text),
        Body::Fixed(_) => message(
            reply
                .status
                .canonical_reason()
                .unwrap_or_default()
                .as_bytes(),
        ),
    };
    fields.push((GRPC_STATUS, HeaderValue::from(u16::from(status.number()))));
    fields.push((GRPC_MESSAGE, text));
    let kind = match call.dialect {
        Dialect::Plain => "application/grpc",
        Dialect::Web => "application/grpc-web",
        Dialect::WebText => "application/grpc-web-text",
    };
    fields.push((header::CONTENT_TYPE, HeaderValue::from_static(kind)));
    let kept = std::mem::take(&mut reply.headers).into_iter();
    fields.extend(kept.filter(|it| it.0 != header::CONTENT_TYPE));
    reply.headers = fields;
    reply.status = StatusCode::OK;
}

/// The status for one of HTTP (gRPC, "HTTP to gRPC Status Code Mapping").
fn status_of(status: StatusCode) -> GrpcStatus {
    match status.as_u16() {
        400 => GrpcStatus::INTERNAL,
        401 => GrpcStatus::UNAUTHENTICATED,
        403 => GrpcStatus::PERMISSION_DENIED,
        404 => GrpcStatus::UNIMPLEMENTED,
        429 | 502..=504 => GrpcStatus::UNAVAILABLE,
        _ => GrpcStatus::UNKNOWN,
    }
}

fn pushback(reply: &Reply) -> Option<HeaderValue> {
    let after = reply
        .headers
        .iter()
        .find(|it| it.0 == header::RETRY_AFTER)?;
    let seconds: u64 = after.1.to_str().ok()?.parse().ok()?;
    Some(HeaderValue::from(seconds.saturating_mul(1000)))
}

/// Longer texts of operators are cut.
const LONGEST_MESSAGE: usize = 1024;

fn message(text: &[u8]) -> HeaderValue {
    let text = &text[..text.len().min(LONGEST_MESSAGE)];
    let encoded = percent_encode(text, ENCODED).to_string();
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", Some((Dialect::Plain, ""))),
            ("Application/GRPC+proto", Some((Dialect::Plain, "+proto"))),
            ("application/grpc;x=y", Some((Dialect::Plain, ";x=y"))),
            ("application/grpc-web", Some((Dialect::Web, ""))),
            ("application/grpc-web+json", Some((Dialect::Web, "+json"))),
            (
                "application/grpc-web-text+proto",
                Some((Dialect::WebText, "+proto")),
            ),
            ("application/grpc-webby", None),
            ("application/grpcx", None),
            ("application/grp", None),
            ("text/plain", None),
        ] {
            let expected =
                expected.map(|(dialect, format): (_, &str)| (dialect, format.as_bytes()));
            assert_eq!(dialect(kind.as_bytes()), expected, "{kind}");
        }
    }

    #[test]
    fn statuses_of_http_are_mapped_as_the_specification_says() {
        for (http, grpc) in [
            (400, "INTERNAL"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "UNAVAILABLE"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
            (413, "UNKNOWN"),
            (200, "UNKNOWN"),
        ] {
            let status = StatusCode::from_u16(http).unwrap();
            assert_eq!(status_of(status).name(), grpc, "{http}");
        }
    }

    #[test]
    fn messages_are_encoded_where_they_must_be() {
        assert_eq!(message(b"50 % \xc3\xa4\n"), "50 %25 %C3%A4%0A");
        assert_eq!(message(&[b'a'; 5000]).len(), LONGEST_MESSAGE);
    }
}
