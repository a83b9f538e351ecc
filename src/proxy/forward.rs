//! What a backend sees of a request: its target, its host, and where it came from.
//!
//! The framework has already removed the hop-by-hop fields (RFC 9110 §7.6.1) from its copy.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

use super::connection::ForwardingMemo;
use super::context::Context;
use super::{deadline, trace};
use crate::auth::{CLIENT_CERT, CLIENT_CERT_CHAIN};
use crate::snapshot::{Action, Rewrite};
use crate::upstream::{Endpoint, HostPolicy, Service};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which attempt this is, on those after the first.
const X_TOLLGATE_ATTEMPT: HeaderName = HeaderName::from_static("x-tollgate-attempt");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What trusted proxies say of where a request came from.
pub(super) const ORIGIN_FIELDS: [HeaderName; 4] = [
    X_FORWARDED_FOR,
    header::FORWARDED,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
];
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];
/// Most fields that are added to a request, edits aside.
const FIELDS_ADDED: usize = 11;
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 tollgate");
const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 tollgate");
const VIA_2: HeaderValue = HeaderValue::from_static("2 tollgate");

/// Takes the map of spellings away that the framework keeps beside the fields, so that editing and
/// copying them costs a fraction. Backends see names in lower case, which mean the same
/// (RFC 9110 §5.1), and a target that was a URL as its path (RFC 9112 §3.2.1).
pub(super) fn simplify(request: &mut RequestHeader) {
    *request = RequestHeader::from(take(request));
}

fn take(request: &mut RequestHeader) -> Parts {
    let empty = http::Request::new(()).into_parts().0;
    std::mem::replace(request, RequestHeader::from(empty)).into()
}

/// A copy of a request without a body, as the framework makes it: without what is about the client's
/// connection only (RFC 9110 §7.6.1).
pub(super) fn copy(sent: &RequestHeader) -> RequestHeader {
    let mut copy = sent.clone();
    copy.set_version(Version::HTTP_11);
    for name in &HOP_BY_HOP {
        copy.remove_header(name);
    }
    copy
}

/// Turns the copy of the client's request into what the chosen backend is sent.
pub(super) fn prepare(
    sent: &RequestHeader,
    request: &mut RequestHeader,
    (service, endpoint): (&Service, &Endpoint),
    context: &Context,
) -> Result<()> {
    let mut parts = take(request);
    let headers = &mut parts.headers;
    // One growth instead of several; fails only for a map of 32768 fields.
    let _ = headers.try_reserve(FIELDS_ADDED);
    // The framework discards trailers, so none are announced.
    headers.remove(header::TRAILER);
    match service.host() {
        HostPolicy::Upstream => headers.insert(header::HOST, endpoint.host().clone()),
        HostPolicy::Fixed(name) => headers.insert(header::HOST, name.clone()),
        HostPolicy::Client => None,
    };
    set_origin_fields(headers, sent.headers.get(header::HOST), context);
    headers.append(header::VIA, via(sent.version));
    headers.insert(X_REQUEST_ID, context.id.clone());
    if context.attempt.count > 1 {
        headers.insert(X_TOLLGATE_ATTEMPT, HeaderValue::from(context.attempt.count));
    }
    deadline::tell(headers, context);
    trace::tell(headers, context);
    set_identity(headers, context);
    if let Some(edits) = context
        .route()
        .and_then(|route| route.policies.request_edits.as_ref())
    {
        edits.apply(headers, |index| context.parameter(&sent.uri, index));
    }
    if let Some(target) = target(&sent.uri, endpoint.prefix(), context) {
        parts.uri = Uri::from_maybe_shared(Bytes::from(target))
            .or_err(ErrorType::InvalidHTTPHeader, "the rewritten target")?;
    }
    *request = RequestHeader::from(parts);
    Ok(())
}

/// The target, unless it is the one that was sent: the path is exactly the one that was matched,
/// unless the route rewrites it.
pub(super) fn target(sent: &Uri, prefix: &str, context: &Context) -> Option<String> {
    let rewrite = match context.route().map(|route| &route.action) {
        Some(Action::Forward(forward)) => &forward.rewrite,
        _ => &Rewrite::Keep,
    };
    let is_kept = matches!(rewrite, Rewrite::Keep) && context.rewritten_path.is_none();
    if prefix.is_empty() && is_kept {
        return None;
    }
    let length = sent
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let mut target = String::with_capacity(prefix.len() + length + 16);
    target.push_str(prefix);
    let parameter = |index| context.parameter(sent, index);
    rewrite.render(context.path(sent), parameter, &mut target);
    if let Some(query) = sent.query() {
        target.push('?');
        target.push_str(query);
    }
    Some(target)
}

/// `X-Forwarded-*` and `Forwarded` (RFC 7239): appended to what a trusted proxy says, and in place
/// of what anybody else says.
pub(super) fn set_origin_fields(
    headers: &mut HeaderMap,
    host: Option<&HeaderValue>,
    context: &Context,
) {
    let Some(connection) = &context.connection else {
        return;
    };
    let peer = connection.peer();
    let scheme = if connection.channel().is_some() {
        HTTPS
    } else {
        HTTP
    };
    let (client, forwarded) = connection.with_memo(|memo| memo.fields(peer, &scheme, host));
    if context.is_from_trusted_proxy {
        append(headers, &X_FORWARDED_FOR, &client);
        append(headers, &header::FORWARDED, &forwarded);
        headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
        if let Some(host) = host {
            headers
                .entry(X_FORWARDED_HOST)
                .or_insert_with(|| host.clone());
        }
        return;
    }
    headers.insert(X_FORWARDED_FOR, client);
    headers.insert(header::FORWARDED, forwarded);
    headers.insert(X_FORWARDED_PROTO, scheme);
    match host {
        Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
        None => headers.remove(X_FORWARDED_HOST),
    };
}

impl ForwardingMemo {
    /// The `X-Forwarded-For` and `Forwarded` of a request from `peer` for `host`.
    fn fields(
        &mut self,
        peer: std::net::IpAddr,
        scheme: &HeaderValue,
        host: Option<&HeaderValue>,
    ) -> (HeaderValue, HeaderValue) {
        let client = self
            .client
            .get_or_insert_with(|| value(peer.to_string()))
            .clone();
        if self.host.as_ref() != host || self.forwarded.is_none() {
            self.host = host.cloned();
            let node = match peer {
                std::net::IpAddr::V4(address) => address.to_string(),
                std::net::IpAddr::V6(address) => format!("\"[{address}]\""),
            };
            let host = host
                .and_then(|host| host.to_str().ok())
                .filter(|host| is_quotable(host));
            let scheme = scheme.to_str().unwrap_or_default();
            self.forwarded = Some(match host {
                Some(host) => value(format!("for={node};host=\"{host}\";proto={scheme}")),
                None => value(format!("for={node};proto={scheme}")),
            });
        }
        let forwarded = self
            .forwarded
            .clone()
            .unwrap_or(HeaderValue::from_static("for=unknown"));
        (client, forwarded)
    }
}

/// Hosts are made of these; anything else could end the quoted string.
fn is_quotable(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// Puts `value` behind the list that a field holds, as one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, last: &HeaderValue) {
    let mut list: Vec<u8> = Vec::new();
    for line in headers.get_all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    if let Ok(list) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        headers.insert(name, list);
    }
}

/// A text of addresses and checked hosts, which are visible ASCII.
fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("unknown"))
}

fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => VIA_1_0,
        Version::HTTP_2 => VIA_2,
        _ => VIA_1_1,
    }
}

/// Whether a header holds what only a proxy that ended TLS can know.
pub(super) fn is_of_certificate(name: &HeaderName) -> bool {
    *name == CLIENT_CERT || *name == CLIENT_CERT_CHAIN
}

/// The client's own certificate, if backends are shown it.
pub(super) fn certificate(context: &Context) -> Option<&HeaderValue> {
    let connection = context.connection.as_ref()?;
    connection.certificate()?.forwarded()
}

/// What clients send in the headers that carry an identity inward never passes, whether or not this
/// route asks for one. Certificates are a trusted proxy's to pass on (RFC 9440 §4).
fn set_identity(headers: &mut HeaderMap, context: &Context) {
    let snapshot = &context.snapshot;
    if !context.is_from_trusted_proxy {
        headers.remove(CLIENT_CERT_CHAIN);
        match certificate(context) {
            Some(shown) => headers.insert(CLIENT_CERT, shown.clone()),
            None => headers.remove(CLIENT_CERT),
        };
    }
    if !snapshot.identity_headers.is_empty() {
        let forged: Vec<HeaderName> = headers
            .keys()
            .filter(|name| snapshot.carries_identity(name) && !is_of_certificate(name))
            .cloned()
            .collect();
        for name in &forged {
            headers.remove(name);
        }
    }
    if let Some(identity) = &context.identity {
        for name in &*identity.hidden {
            headers.remove(name);
        }
        // What clients sent in them is gone.
        for (name, value) in &identity.forward {
            headers.append(name, value.clone());
        }
    }
}
