//! What a backend sees of a request: its target, its host, and where it came from.
//!
//! The framework has already removed the hop-by-hop fields (RFC 9110 §7.6.1) from its copy.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};
use pingora::Result;
use pingora::http::RequestHeader;

use super::connection::ForwardingMemo;
use super::context::Context;
use crate::snapshot::{Action, Rewrite};
use crate::traffic::HeaderFields;
use crate::upstream::HostPolicy;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 tollgate");
const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 tollgate");
const VIA_2: HeaderValue = HeaderValue::from_static("2 tollgate");

/// Turns the copy of the client's request into what the chosen backend is sent.
pub(super) fn prepare(
    sent: &RequestHeader,
    request: &mut RequestHeader,
    context: &Context,
) -> Result<()> {
    set_target(sent, request, context)?;
    let client_host = sent.headers.get(header::HOST).cloned();
    set_host(request, context)?;
    set_origin_fields(request, client_host, context);
    request.add(&header::VIA, via(sent.version));
    request.set(&X_REQUEST_ID, context.id.clone());
    set_identity(request, context);
    if let Some(edits) = context
        .route()
        .and_then(|route| route.policies.request_edits.as_ref())
    {
        edits.apply(request, |index| context.parameter(&sent.uri, index));
    }
    Ok(())
}

/// The path is exactly the one that was matched, unless the route rewrites it.
fn set_target(sent: &RequestHeader, request: &mut RequestHeader, context: &Context) -> Result<()> {
    let Some(choice) = &context.attempt.choice else {
        return Ok(());
    };
    let prefix = choice.endpoint.prefix();
    let rewrite = match context.route().map(|route| &route.action) {
        Some(Action::Forward(forward)) => &forward.rewrite,
        _ => &Rewrite::Keep,
    };
    let is_origin_form = sent.raw_path().first() == Some(&b'/');
    if prefix.is_empty()
        && matches!(rewrite, Rewrite::Keep)
        && context.rewritten_path.is_none()
        && is_origin_form
    {
        return Ok(());
    }
    let mut target = String::with_capacity(prefix.len() + sent.raw_path().len() + 16);
    target.push_str(prefix);
    let parameter = |index| context.parameter(&sent.uri, index);
    rewrite.render(context.path(&sent.uri), parameter, &mut target);
    if let Some(query) = sent.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    request.set_raw_path(target.as_bytes())
}

fn set_host(request: &mut RequestHeader, context: &Context) -> Result<()> {
    let Some(choice) = &context.attempt.choice else {
        return Ok(());
    };
    let Some(service) = context.route().and_then(|route| route.forwards_to()) else {
        return Ok(());
    };
    match &service.host {
        HostPolicy::Upstream => request.insert_header(header::HOST, choice.endpoint.host()),
        HostPolicy::Fixed(name) => request.insert_header(header::HOST, name),
        HostPolicy::Client => Ok(()),
    }
}

/// `X-Forwarded-*` and `Forwarded` (RFC 7239): appended to what a trusted proxy says, and in place
/// of what anybody else says.
fn set_origin_fields(request: &mut RequestHeader, host: Option<HeaderValue>, context: &Context) {
    let Some(connection) = &context.connection else {
        return;
    };
    let peer = connection.peer();
    let (client, forwarded) = connection.with_memo(|memo| memo.fields(peer, host.as_ref()));
    if context.is_from_trusted_proxy {
        append(request, &X_FORWARDED_FOR, &client);
        append(request, &header::FORWARDED, &forwarded);
        if !request.headers.contains_key(X_FORWARDED_PROTO) {
            request.set(&X_FORWARDED_PROTO, HTTP);
        }
        if let Some(host) = host
            && !request.headers.contains_key(X_FORWARDED_HOST)
        {
            request.set(&X_FORWARDED_HOST, host);
        }
        return;
    }
    request.set(&X_FORWARDED_FOR, client);
    request.set(&header::FORWARDED, forwarded);
    request.set(&X_FORWARDED_PROTO, HTTP);
    match host {
        Some(host) => request.set(&X_FORWARDED_HOST, host),
        None => request.remove(&X_FORWARDED_HOST),
    }
}

impl ForwardingMemo {
    /// The `X-Forwarded-For` and `Forwarded` of a request from `peer` for `host`.
    fn fields(
        &mut self,
        peer: std::net::IpAddr,
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
            self.forwarded = Some(match host {
                Some(host) => value(format!("for={node};host=\"{host}\";proto=http")),
                None => value(format!("for={node};proto=http")),
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
fn append(request: &mut RequestHeader, name: &HeaderName, last: &HeaderValue) {
    let mut list: Vec<u8> = Vec::new();
    for line in request.headers.get_all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    if let Ok(list) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        request.set(name, list);
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

/// What clients send in the headers that carry an identity inward never passes, whether or not this
/// route asks for one.
fn set_identity(request: &mut RequestHeader, context: &Context) {
    let snapshot = &context.snapshot;
    if !snapshot.identity_headers.is_empty() {
        let forged: Vec<HeaderName> = request
            .headers
            .keys()
            .filter(|name| snapshot.carries_identity(name))
            .cloned()
            .collect();
        for name in &forged {
            request.remove(name);
        }
    }
    if let Some(identity) = &context.identity {
        for (name, value) in &identity.forward {
            request.set(name, value.clone());
        }
    }
}
