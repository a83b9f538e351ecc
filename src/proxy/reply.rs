//! The gateway's own answers, and the only place that knows their statuses.
//!
//! Bodies are problem details (RFC 9457), or one line of text for clients that ask for it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::telemetry::{Flag, write_text};
use crate::traffic::Respond;

/// Tells the gateway's own answers from a backend's (RFC 9209).
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const DENIED: HeaderValue = HeaderValue::from_static("tollgate; error=http_request_denied");

/// An answer that does not come from a backend.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its status.
    pub(super) status: StatusCode,
    /// Why, for the log.
    pub(super) flag: Flag,
    /// Fields of its own.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// What it says.
    pub(super) body: Body,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Body {
    /// Something went wrong.
    Problem(Problem),
    /// What the route was told to say.
    Fixed(Bytes),
}

/// What went wrong (RFC 9457).
#[derive(Debug)]
pub(super) struct Problem {
    kind: &'static Kind,
    /// This occurrence in words, for the client's developer. Never holds what the client sent.
    detail: Cow<'static, str>,
    /// The limit that is spent, by its name in `RateLimit-Policy`.
    violated: Option<Box<str>>,
}

/// What all problems of a kind say.
#[derive(Debug)]
struct Kind {
    /// In words.
    title: &'static str,
    /// The document up to the status: a stable URI of the kind, and the title.
    opening: &'static str,
    /// The value of `Proxy-Status`, with an error type of RFC 9209 §2.3.
    proxy_status: HeaderValue,
}

impl Reply {
    /// An answer that says what went wrong.
    fn problem(status: StatusCode, flag: Flag, problem: Problem) -> Self {
        Self {
            status,
            flag,
            headers: Vec::new(),
            body: Body::Problem(problem),
        }
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// An answer without a body that is no problem: a redirect, a preflight's.
    pub(super) fn bare(status: StatusCode, flag: Flag) -> Self {
        Self {
            status,
            flag,
            headers: Vec::new(),
            body: Body::Fixed(Bytes::new()),
        }
    }
}

impl Reply {
    /// The refusal of a limit, in the problem document by the name that `RateLimit-Policy` has for it, or
    /// with the answer that is configured instead.
    pub(super) fn over_limit(
        name: &str,
        retry_after: Option<u64>,
        instead: Option<&Respond>,
    ) -> Self {
        let reply = match instead {
            None => {
                let detail = match retry_after {
                    Some(wait) => format!("the limit `{name}` is spent: try again in {wait} s"),
                    None => format!("one request costs more than the limit `{name}` ever allows"),
                };
                let mut reply = Self::rate_limited(detail);
                if let Body::Problem(problem) = &mut reply.body {
                    problem.violated = Some(name.into());
                }
                reply
            }
            Some(answer) => {
                let mut reply = Self::bare(answer.status, Flag::RateLimited);
                reply.headers.extend(answer.headers.iter().cloned());
                reply.body = Body::Fixed(answer.body.clone());
                reply.with(PROXY_STATUS, DENIED)
            }
        };
        match retry_after {
            Some(wait) => reply.with(header::RETRY_AFTER, HeaderValue::from(wait)),
            None => reply,
        }
    }

    /// The refusal of another service that decides, of which a client sees its status and these fields.
    /// Without a body of its own it has one that says what it is.
    pub(super) fn refused_elsewhere(
        status: StatusCode,
        fields: Vec<(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Self {
        let flag = match status {
            StatusCode::UNAUTHORIZED => Flag::Unauthorized,
            status if status.is_redirection() => Flag::Unauthorized,
            _ => Flag::Forbidden,
        };
        let problem = match flag {
            Flag::Unauthorized => Self::unauthorized("the request has to prove who it comes from"),
            _ => Self::forbidden("the request may not come in"),
        };
        let mut reply = Self {
            status,
            flag,
            headers: fields,
            body: problem.body,
        };
        if let Some(body) = body {
            reply.body = Body::Fixed(body);
            reply.headers.push((PROXY_STATUS, DENIED));
        }
        reply
    }
}

/// One constructor for each kind of problem.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $flag:ident, $kind:literal, $title:literal, $proxy_error:literal;)*) => {
        impl Reply {
            $($(#[$doc])*
            pub(super) fn $name(detail: impl Into<Cow<'static, str>>) -> Self {
                static KIND: Kind = Kind {
                    title: $title,
                    opening: concat!(r#"{"type":""#, $kind, r#"","title":""#, $title, r#"","status":"#),
                    proxy_status: HeaderValue::from_static(concat!("tollgate; error=", $proxy_error)),
                };
                Self::problem(StatusCode::$status, Flag::$flag, Problem {
                    kind: &KIND,
                    detail: detail.into(),
                    violated: None,
                })
            })*
        }
    };
}

problems! {
    /// 400: the request can't be understood.
    bad_request = BAD_REQUEST, BadRequest, "urn:tollgate:problem:bad-request", "Bad request", "http_request_error";
    /// 401: no credential, or a bad one. Needs `WWW-Authenticate`.
    unauthorized = UNAUTHORIZED, Unauthorized, "urn:tollgate:problem:unauthorized", "Authentication required", "http_request_denied";
    /// 403: a good credential without the right.
    forbidden = FORBIDDEN, Forbidden, "urn:tollgate:problem:forbidden", "Forbidden", "http_request_denied";
    /// 403: the address may not come in.
    access_denied = FORBIDDEN, AccessDenied, "urn:tollgate:problem:access-denied", "Access denied", "http_request_denied";
    /// 404: no route takes the request.
    no_route = NOT_FOUND, NoRoute, "urn:tollgate:problem:no-route", "Not found", "destination_not_found";
    /// 405: the path has no route for the method. Needs `Allow`.
    method_not_allowed = METHOD_NOT_ALLOWED, MethodNotAllowed, "urn:tollgate:problem:method-not-allowed", "Method not allowed", "http_request_error";
    /// 408: the client sent too slowly.
    request_timeout = REQUEST_TIMEOUT, ClientTimeout, "urn:tollgate:problem:request-timeout", "Request timeout", "http_request_error";
    /// 413: the body is too large.
    body_too_large = PAYLOAD_TOO_LARGE, BodyTooLarge, "urn:tollgate:problem:body-too-large", "Content too large", "http_request_error";
    /// 414: the request target is too long.
    uri_too_long = URI_TOO_LONG, UriTooLong, "urn:tollgate:problem:uri-too-long", "URI too long", "http_request_error";
    /// 417: something is expected that can't be met.
    expectation_failed = EXPECTATION_FAILED, BadRequest, "urn:tollgate:problem:expectation-failed", "Expectation failed", "http_request_error";
    /// 429: a rate limit is spent.
    rate_limited = TOO_MANY_REQUESTS, RateLimited, "https://iana.org/assignments/http-problem-types#quota-exceeded", "Too many requests", "http_request_denied";
    /// 429: too many requests of the client are under way. Needs `Retry-After`.
    concurrency_limited = TOO_MANY_REQUESTS, ConcurrencyLimited, "urn:tollgate:problem:concurrency-limited", "Too many requests at once", "http_request_denied";
    /// 421: the connection is for another host.
    misdirected = MISDIRECTED_REQUEST, Misdirected, "urn:tollgate:problem:misdirected", "Misdirected request", "http_request_error";
    /// 431: the header is too large.
    headers_too_large = REQUEST_HEADER_FIELDS_TOO_LARGE, HeadersTooLarge, "urn:tollgate:problem:headers-too-large", "Request header fields too large", "http_request_error";
    /// 500: a fault of the gateway.
    internal = INTERNAL_SERVER_ERROR, Internal, "urn:tollgate:problem:internal", "Internal error", "proxy_internal_error";
    /// 502: no connection to the backend.
    connect_failed = BAD_GATEWAY, UpstreamConnectFailed, "urn:tollgate:problem:upstream-connect-failed", "Bad gateway", "connection_refused";
    /// 502: the backend's certificate was not accepted.
    tls_failed = BAD_GATEWAY, UpstreamTlsFailed, "urn:tollgate:problem:upstream-tls-failed", "Bad gateway", "tls_certificate_error";
    /// 502: the backend ended the connection early.
    upstream_reset = BAD_GATEWAY, UpstreamReset, "urn:tollgate:problem:upstream-reset", "Bad gateway", "connection_terminated";
    /// 502: the backend's answer can't be understood.
    upstream_protocol = BAD_GATEWAY, UpstreamProtocol, "urn:tollgate:problem:upstream-protocol", "Bad gateway", "http_protocol_error";
    /// 503: what credentials are verified with is not known. Needs `Retry-After`.
    auth_unavailable = SERVICE_UNAVAILABLE, AuthUnavailable, "urn:tollgate:problem:auth-unavailable", "Service unavailable", "proxy_configuration_error";
    /// 503: the store of a limit is silent, and without it nothing is admitted. Needs `Retry-After`.
    rate_limit_store_unavailable = SERVICE_UNAVAILABLE, RateLimitStoreUnavailable, "urn:tollgate:problem:rate-limit-store-unavailable", "Service unavailable", "http_request_denied";
    /// 503: no backend has a known address. Needs `Retry-After`.
    no_endpoint = SERVICE_UNAVAILABLE, NoEndpoint, "urn:tollgate:problem:no-endpoint", "Service unavailable", "destination_ip_unroutable";
    /// 503: the circuit of the service is open. Needs `Retry-After`.
    circuit_open = SERVICE_UNAVAILABLE, CircuitOpen, "urn:tollgate:problem:circuit-open", "Service unavailable", "destination_unavailable";
    /// 503: too many requests are under way to the service. Needs `Retry-After`.
    overloaded = SERVICE_UNAVAILABLE, Overloaded, "urn:tollgate:problem:overloaded", "Service unavailable", "connection_limit_reached";
    /// 503: the gateway has too much to do. Needs `Retry-After`.
    shed = SERVICE_UNAVAILABLE, Shed, "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", "Service unavailable", "http_request_denied";
    /// 504: only a kept answer was asked for, and there is none (RFC 9111 §5.2.1.7).
    not_cached = GATEWAY_TIMEOUT, NotCached, "urn:tollgate:problem:not-cached", "Not cached", "http_request_denied";
    /// 504: the backend could not be connected to in time.
    connect_timeout = GATEWAY_TIMEOUT, UpstreamTimeout, "urn:tollgate:problem:upstream-timeout", "Gateway timeout", "connection_timeout";
    /// 504: the backend did not answer in time.
    upstream_timeout = GATEWAY_TIMEOUT, UpstreamTimeout, "urn:tollgate:problem:upstream-timeout", "Gateway timeout", "http_response_timeout";
}

impl Problem {
    /// The body for a client that sent these headers, and its type.
    pub(super) fn render(
        &self,
        status: StatusCode,
        id: &str,
        request: &HeaderMap,
    ) -> (Bytes, HeaderValue) {
        if prefers_text(request) {
            let text = format!(
                "{} {}: {} (request {id})\n",
                status.as_u16(),
                self.kind.title,
                self.detail
            );
            return (
                text.into(),
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
        }
        (
            self.document(status, id).into(),
            HeaderValue::from_static("application/problem+json"),
        )
    }

    /// The problem as it is written (RFC 9457 §3.1). Who sends nonsense is answered this way, so it costs
    /// little.
    fn document(&self, status: StatusCode, id: &str) -> Vec<u8> {
        const REST: usize = 64;
        let room = self.kind.opening.len() + self.detail.len() + id.len() + REST;
        let mut out = Vec::with_capacity(room);
        out.extend_from_slice(self.kind.opening.as_bytes());
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b",\"detail\":");
        write_text(&self.detail, &mut out);
        out.extend_from_slice(b",\"instance\":");
        write_text(id, &mut out);
        if let Some(limit) = &self.violated {
            // An extension of draft-ietf-httpapi-ratelimit-headers-10, §5.1.1.
            out.extend_from_slice(b",\"violated-policies\":[");
            write_text(limit, &mut out);
            out.push(b']');
        }
        out.push(b'}');
        out
    }

    /// This occurrence in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The value of `Proxy-Status` (RFC 9209) that tells this answer from a backend's.
    pub(super) fn proxy_status(&self) -> HeaderValue {
        self.kind.proxy_status.clone()
    }
}

/// Whether the client asks for text and not for JSON, with or without `*/*` behind it.
fn prefers_text(request: &HeaderMap) -> bool {
    request
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/plain") && !accept.contains("json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(accept: Option<&'static str>) -> (Bytes, HeaderValue) {
        let mut request = HeaderMap::new();
        if let Some(accept) = accept {
            request.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let reply = Reply::no_route("no route takes \"this\" path");
        let Body::Problem(problem) = reply.body else {
            unreachable!("a problem was made")
        };
        problem.render(reply.status, "id-1", &request)
    }

    #[test]
    fn a_problem_is_json_unless_text_is_asked_for() {
        for accept in [None, Some("*/*"), Some("application/json, text/plain, */*")] {
            let (body, kind) = body(accept);
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(kind, "application/problem+json");
            let expected = serde_json::json!({
                "type": "urn:tollgate:problem:no-route",
                "title": "Not found",
                "status": 404,
                "detail": "no route takes \"this\" path",
                "instance": "id-1",
            });
            assert_eq!(json, expected);
        }
        let (body, kind) = body(Some("text/plain"));
        assert_eq!(kind, "text/plain; charset=utf-8");
        assert!(body.starts_with(b"404 Not found: no route takes \"this\" path"));
    }
}
