//! One line of the access log: what happened to one request.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, Method, Version};

use super::tracing::{SpanId, TraceId};

/// Why the gateway did what it did: the words of the `flags` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Flag {
    /// The request could not be understood.
    BadRequest = 1,
    /// The request target was too long.
    UriTooLong = 1 << 1,
    /// The header was too large.
    HeadersTooLarge = 1 << 2,
    /// The body was too large.
    BodyTooLarge = 1 << 3,
    /// No route took the request.
    NoRoute = 1 << 4,
    /// A route's path matched, but no method of it.
    MethodNotAllowed = 1 << 5,
    /// The client's address may not come in.
    AccessDenied = 1 << 6,
    /// A rate limit refused the request.
    RateLimited = 1 << 7,
    /// No credential, or a bad one.
    Unauthorized = 1 << 8,
    /// A good credential without the right.
    Forbidden = 1 << 9,
    /// Answered by the route itself.
    DirectResponse = 1 << 10,
    /// Redirected by the route.
    Redirected = 1 << 11,
    /// A cross-origin preflight, answered here.
    CorsPreflight = 1 << 12,
    /// No backend has a known address.
    NoEndpoint = 1 << 13,
    /// No connection to the backend.
    UpstreamConnectFailed = 1 << 14,
    /// The backend's certificate was not accepted.
    UpstreamTlsFailed = 1 << 15,
    /// The backend took too long.
    UpstreamTimeout = 1 << 16,
    /// The backend ended the connection early.
    UpstreamReset = 1 << 17,
    /// The backend's answer could not be understood.
    UpstreamProtocol = 1 << 18,
    /// Tried again, at another backend or on a new connection.
    Retried = 1 << 19,
    /// The client went away before the end.
    ClientGone = 1 << 20,
    /// The client took too long.
    ClientTimeout = 1 << 21,
    /// The connection was handed over to another protocol.
    Upgraded = 1 << 22,
    /// A fault of the gateway itself.
    Internal = 1 << 23,
    /// The circuit of the service was open.
    CircuitOpen = 1 << 24,
    /// As many requests were under way as the service bears.
    Overloaded = 1 << 25,
    /// The client got what is there instead.
    Fallback = 1 << 26,
    /// A copy was sent to another service.
    Mirrored = 1 << 27,
    /// The gateway itself had too much to do.
    Shed = 1 << 28,
    /// A second attempt began while the first went on.
    Hedged = 1 << 29,
    /// What the credential would be verified with is not known.
    AuthUnavailable = 1 << 30,
    /// A rate limit would have refused the request if it were enforced.
    RateLimitWouldRefuse = 1 << 31,
    /// As many requests of the client were under way as a concurrency limit allows.
    ConcurrencyLimited = 1 << 32,
    /// So they were, but the limit is not enforced.
    WouldLimitConcurrency = 1 << 33,
    /// The request waited for a rate limit.
    Queued = 1 << 34,
    /// The store of a rate limit did not answer, and without it nothing is admitted.
    RateLimitStoreUnavailable = 1 << 35,
    /// The client asked for nothing but a kept answer, and there is none.
    NotCached = 1 << 36,
}

impl Flag {
    pub(super) const ALL: [(Self, &'static str); 37] = [
        (Self::BadRequest, "bad_request"),
        (Self::UriTooLong, "uri_too_long"),
        (Self::HeadersTooLarge, "headers_too_large"),
        (Self::BodyTooLarge, "body_too_large"),
        (Self::NoRoute, "no_route"),
        (Self::MethodNotAllowed, "method_not_allowed"),
        (Self::AccessDenied, "access_denied"),
        (Self::RateLimited, "rate_limited"),
        (Self::Unauthorized, "unauthorized"),
        (Self::Forbidden, "forbidden"),
        (Self::DirectResponse, "direct_response"),
        (Self::Redirected, "redirected"),
        (Self::CorsPreflight, "cors_preflight"),
        (Self::NoEndpoint, "no_endpoint"),
        (Self::UpstreamConnectFailed, "upstream_connect_failed"),
        (Self::UpstreamTlsFailed, "upstream_tls_failed"),
        (Self::UpstreamTimeout, "upstream_timeout"),
        (Self::UpstreamReset, "upstream_reset"),
        (Self::UpstreamProtocol, "upstream_protocol"),
        (Self::Retried, "retried"),
        (Self::ClientGone, "client_gone"),
        (Self::ClientTimeout, "client_timeout"),
        (Self::Upgraded, "upgraded"),
        (Self::Internal, "internal"),
        (Self::CircuitOpen, "circuit_open"),
        (Self::Overloaded, "overloaded"),
        (Self::Fallback, "fallback"),
        (Self::Mirrored, "mirrored"),
        (Self::Shed, "shed"),
        (Self::Hedged, "hedged"),
        (Self::AuthUnavailable, "auth_unavailable"),
        (Self::RateLimitWouldRefuse, "rate_limit_would_refuse"),
        (Self::ConcurrencyLimited, "concurrency_limited"),
        (Self::WouldLimitConcurrency, "would_limit_concurrency"),
        (Self::Queued, "queued"),
        (
            Self::RateLimitStoreUnavailable,
            "rate_limit_store_unavailable",
        ),
        (Self::NotCached, "not_cached"),
    ];
}

/// A set of [`Flag`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// Adds a flag.
    pub fn insert(&mut self, flag: Flag) {
        self.0 |= flag as u64;
    }

    /// Whether a flag is set.
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & flag as u64 != 0
    }

    /// The words of the flags that are set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Flag::ALL
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, word)| word)
    }
}

/// What is written about one request. All durations are from the request's arrival.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the names are those of the log's fields, documented there"
)]
pub struct Record<'a> {
    pub time: SystemTime,
    pub id: &'a str,
    /// Its trace, and its own span in it.
    pub trace: Option<(TraceId, SpanId)>,
    /// The client's address as text.
    pub client: Option<&'a str>,
    pub method: &'a Method,
    pub host: Option<&'a [u8]>,
    pub path: &'a str,
    pub version: Version,
    pub route: Option<&'a str>,
    pub service: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    /// The name of the consumer that it comes from.
    pub consumer: Option<&'a str>,
    /// The name of the limit that refused it, would have, or let it wait.
    pub limit: Option<&'a str>,
    /// What it had to do with answers that are kept, and why.
    pub cache: Option<(&'a str, Option<&'a str>)>,
    pub status: u16,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub total: Duration,
    /// How long it waited for rate limits, if it did.
    pub queued: Option<Duration>,
    /// Until the pipeline was done and the first backend was chosen.
    pub pipeline: Option<Duration>,
    /// Until a connection to the backend was there.
    pub connected: Option<Duration>,
    /// Until the response's header came from the backend.
    pub first_byte: Option<Duration>,
    pub attempts: u32,
    pub flags: Flags,
    pub headers: &'a HeaderMap,
}

/// Which request headers are logged, and which of them with their value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LoggedHeaders {
    /// Names, and whether the value is withheld.
    pub(super) names: Vec<(HeaderName, bool)>,
}

impl Record<'_> {
    /// Appends the record as one line of JSON, line end included.
    pub(super) fn write_json(&self, logged: &LoggedHeaders, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(self.time, out);
        out.extend_from_slice(b"\",\"id\":");
        write_text(self.id, out);
        if let Some((trace, span)) = self.trace {
            out.extend_from_slice(b",\"trace_id\":\"");
            out.extend_from_slice(&trace.digits());
            out.extend_from_slice(b"\",\"span_id\":\"");
            out.extend_from_slice(&span.digits());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"client\":");
        write_optional(self.client, out);
        out.extend_from_slice(b",\"method\":");
        write_text(self.method.as_str(), out);
        out.extend_from_slice(b",\"host\":");
        write_bytes(self.host, out);
        out.extend_from_slice(b",\"path\":");
        write_text(self.path, out);
        out.extend_from_slice(b",\"protocol\":\"");
        out.extend_from_slice(match self.version {
            Version::HTTP_10 => b"HTTP/1.0",
            Version::HTTP_2 => b"HTTP/2.0",
            _ => b"HTTP/1.1",
        });
        out.extend_from_slice(b"\",\"route\":");
        write_optional(self.route, out);
        out.extend_from_slice(b",\"service\":");
        write_optional(self.service, out);
        out.extend_from_slice(b",\"endpoint\":");
        write_optional(self.endpoint, out);
        for (name, text) in [
            (&b",\"consumer\":"[..], self.consumer),
            (b",\"limit\":", self.limit),
            (b",\"cache\":", self.cache.map(|(result, _)| result)),
            (
                b",\"cache_reason\":",
                self.cache.and_then(|(_, reason)| reason),
            ),
        ] {
            if let Some(text) = text {
                out.extend_from_slice(name);
                write_text(text, out);
            }
        }
        write_number(b",\"status\":", u64::from(self.status), out);
        write_number(b",\"request_bytes\":", self.request_bytes, out);
        write_number(b",\"response_bytes\":", self.response_bytes, out);
        write_number(b",\"total_us\":", micros(self.total), out);
        for (name, duration) in [
            (&b",\"queued_us\":"[..], self.queued),
            (b",\"pipeline_us\":", self.pipeline),
            (b",\"connected_us\":", self.connected),
            (b",\"first_byte_us\":", self.first_byte),
        ] {
            if let Some(duration) = duration {
                write_number(name, micros(duration), out);
            }
        }
        write_number(b",\"attempts\":", u64::from(self.attempts), out);
        out.extend_from_slice(b",\"flags\":[");
        if self.flags != Flags::default() {
            for (index, word) in self.flags.words().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.push(b'"');
                out.extend_from_slice(word.as_bytes());
                out.push(b'"');
            }
        }
        out.push(b']');
        if !logged.names.is_empty() {
            self.write_headers(logged, out);
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_headers(&self, logged: &LoggedHeaders, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"headers\":{");
        let mut first = true;
        for (name, is_withheld) in &logged.names {
            let Some(value) = self.headers.get(name) else {
                continue;
            };
            if !first {
                out.push(b',');
            }
            first = false;
            write_text(name.as_str(), out);
            out.push(b':');
            if *is_withheld {
                out.extend_from_slice(b"\"[redacted]\"");
            } else {
                write_bytes(Some(value.as_bytes()), out);
            }
        }
        out.push(b'}');
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn write_number(name: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => write_text(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => write_text(text, out),
            Err(_) => write_text(&String::from_utf8_lossy(bytes), out),
        },
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a text as JSON.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    // Nothing to escape is the rule; the library's escaping is the exception. Without a way out in
    // the middle, the compiler looks at many bytes at once.
    let is_plain = text.bytes().fold(true, |is_plain, byte| {
        is_plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\')
    });
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Neither writing to a Vec nor serialising a text can fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// RFC 3339 in UTC with milliseconds. The seconds are formatted once a second and thread.
fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since_epoch.as_secs() {
            *second = since_epoch.as_secs();
            let seconds = i64::try_from(*second).unwrap_or(i64::MAX);
            let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
            *text = timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        out.extend_from_slice(text.as_bytes());
    });
    let millis = since_epoch.subsec_millis();
    out.extend_from_slice(&[
        b'.',
        b'0' + (millis / 100) as u8,
        b'0' + (millis / 10 % 10) as u8,
        b'0' + (millis % 10) as u8,
        b'Z',
    ]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(path: &str, headers: &HeaderMap, logged: &LoggedHeaders) -> serde_json::Value {
        let trace = TraceId::parse(b"0af7651916cd43dd8448eb211c80319c").unwrap();
        let span = SpanId::parse(b"b7ad6b7169203331").unwrap();
        let mut flags = Flags::default();
        flags.insert(Flag::RateLimited);
        flags.insert(Flag::Retried);
        let record = Record {
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            id: "abc",
            trace: Some((trace, span)),
            client: Some("192.0.2.7"),
            method: &Method::GET,
            host: Some(b"h\xffst"),
            path,
            version: Version::HTTP_11,
            route: Some("/a/{id}"),
            service: None,
            endpoint: None,
            consumer: Some("acme"),
            limit: Some("/a/{id}"),
            cache: Some(("miss", Some("no_store"))),
            status: 429,
            request_bytes: 1,
            response_bytes: 2,
            total: Duration::from_micros(77),
            queued: Some(Duration::from_micros(9)),
            pipeline: None,
            connected: None,
            first_byte: Some(Duration::from_micros(5)),
            attempts: 0,
            flags,
            headers,
        };
        let mut out = Vec::new();
        record.write_json(logged, &mut out);
        assert_eq!(out.last(), Some(&b'\n'));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_record_is_one_line_of_json() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer secret".parse().unwrap());
        headers.insert("user-agent", "curl".parse().unwrap());
        let logged = LoggedHeaders {
            names: vec![
                (http::header::AUTHORIZATION, true),
                (http::header::USER_AGENT, false),
                (http::header::REFERER, false),
            ],
        };
        let json = line("/x", &headers, &logged);
        assert_eq!(json["time"], "2023-11-14T22:13:20.042Z");
        assert_eq!(json["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(json["span_id"], "b7ad6b7169203331");
        assert_eq!(json["client"], "192.0.2.7");
        assert_eq!(
            json["flags"],
            serde_json::json!(["rate_limited", "retried"])
        );
        assert_eq!(json["first_byte_us"], 5);
        assert_eq!(json["consumer"], "acme");
        assert_eq!(json["limit"], "/a/{id}");
        assert_eq!(json["queued_us"], 9);
        assert_eq!(json["cache"], "miss");
        assert_eq!(json["cache_reason"], "no_store");
        assert_eq!(
            json["headers"],
            serde_json::json!({"authorization": "[redacted]", "user-agent": "curl"})
        );
    }

    proptest! {
        #[test]
        fn no_path_breaks_the_line(path in ".*") {
            let json = line(&path, &HeaderMap::new(), &LoggedHeaders::default());
            prop_assert_eq!(json["path"].as_str(), Some(path.as_str()));
        }
    }
}
