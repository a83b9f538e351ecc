//! What a request is when it arrives: whose it is, whether it is sound, and which route takes it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;
use uuid::{NoContext, Timestamp, Uuid};

use super::connection::Connection;
use super::context::{Context, Matched};
use super::forward::X_REQUEST_ID;
use super::reply::Reply;
use crate::routing::{Outcome, Request, canonical_path};
use crate::snapshot::Bounds;
use crate::traffic::Preflight;

/// Longest request id that is taken over from a trusted proxy.
const LONGEST_ID: usize = 128;

/// Makes a request of HTTP/2 like all others: with its connection in the context, with a `Host` field, and with
/// its cookies in one (RFC 9113 §8.2.3).
pub(super) fn unify(request: &mut RequestHeader, context: &mut Context) {
    if let Some(connection) = request.extensions_mut().remove::<Arc<Connection>>() {
        connection.request_came();
        context.connection = Some(connection);
    }
    let authority = request
        .uri
        .authority()
        .map(|it| HeaderValue::from_str(it.as_str()));
    if let Some(Ok(authority)) = authority {
        // The framework has refused a request in which the two differ.
        set(request, header::HOST, authority);
    }
    let mut cookies = request.headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
            set(request, header::COOKIE, joined);
        }
    }
}

fn set(request: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    if let Err(error) = request.insert_header(name, value) {
        log::debug!("a field of a request was not set: {error}");
    }
}

/// Who the client is, and what the request is called.
pub(super) fn identify(request: &RequestHeader, context: &mut Context) {
    let peer = context
        .connection
        .as_ref()
        .map(|connection| connection.peer());
    if let Some(peer) = peer {
        let proxies = &context.snapshot.trusted_proxies;
        context.is_from_trusted_proxy = proxies.contains(peer);
        context.client = Some(if context.is_from_trusted_proxy {
            proxies.client(peer, &request.headers)
        } else {
            peer
        });
    }
    let given = match context.is_from_trusted_proxy {
        true => request.headers.get(X_REQUEST_ID),
        false => None,
    };
    let is_id = |id: &&HeaderValue| {
        (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    context.id = match given.filter(is_id) {
        Some(id) => id.clone(),
        None => new_id(context),
    };
}

fn new_id(context: &Context) -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let id = id_at(context.since_epoch());
    let text = id.hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

/// A UUIDv7 whose order is that of the requests, also within a millisecond: the first bits after the version are
/// the fraction of one, as [RFC 9562 §6.2](https://www.rfc-editor.org/rfc/rfc9562#section-6.2) has it (method 3).
/// Lines of an access log, which several workers write, can be sorted by it.
fn id_at(since_epoch: Duration) -> Uuid {
    let time = Timestamp::from_unix(NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    let fraction = (since_epoch.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
    let [.., high, low] = fraction.to_be_bytes();
    let mut bytes = Uuid::new_v7(time).into_bytes();
    bytes[6] = 0x70 | high;
    bytes[7] = low;
    Uuid::from_bytes(bytes)
}

pub(super) fn check_bounds(request: &RequestHeader, bounds: Bounds) -> Result<(), Box<Reply>> {
    if request.raw_path().len() > bounds.uri {
        return Err(Reply::uri_too_long(format!(
            "the request target is longer than {} bytes",
            bounds.uri
        ))
        .into());
    }
    if request.headers.len() > bounds.headers {
        return Err(Reply::headers_too_large(format!(
            "the request has more than {} header fields",
            bounds.headers
        ))
        .into());
    }
    // As they stand in the request: name, colon, space, value, line end.
    let size: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if size > bounds.header_size {
        return Err(Reply::headers_too_large(format!(
            "the request's header fields have more than {} bytes",
            bounds.header_size
        ))
        .into());
    }
    Ok(())
}

/// Finds the route, which for a preflight is that of the request it asks about.
pub(super) fn find_route(
    request: &RequestHeader,
    context: &mut Context,
) -> Result<Preflight, Box<Reply>> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if request.version == Version::HTTP_11 && (host.is_none() || hosts.next().is_some()) {
        return Err(Reply::bad_request("a request needs exactly one Host field").into());
    }
    if std::str::from_utf8(request.raw_path()).is_err() {
        return Err(Reply::bad_request("the request target holds bytes that are no text").into());
    }
    check_target(request)?;
    let path = match canonical_path(request.uri.path()) {
        Ok(path) => path,
        Err(error) => return Err(Reply::bad_request(error.to_string()).into()),
    };
    let host = host.and_then(|host| host.to_str().ok());
    let search = |method: &Method| {
        context.snapshot.find(&Request {
            host,
            path: &path,
            query: request.uri.query(),
            method,
            headers: &request.headers,
        })
    };
    if let Some(asked) = preflight_method(request)
        && let Outcome::Found { value, parameters } = search(&asked)
        && context.snapshot.route(value).policies.cors.is_some()
    {
        let path = owned(path);
        context.rewritten_path = path;
        context.matched = Some(Matched {
            route: value,
            parameters,
        });
        return Ok(Preflight::Asked);
    }
    match search(&request.method) {
        Outcome::Found { value, parameters } => {
            let path = owned(path);
            context.rewritten_path = path;
            context.matched = Some(Matched {
                route: value,
                parameters,
            });
            Ok(Preflight::No)
        }
        Outcome::MethodNotAllowed { allow } => {
            let allow: Vec<&str> = allow.iter().map(Method::as_str).collect();
            let reply = Reply::method_not_allowed("the path has no route for this method");
            Err(match HeaderValue::from_str(&allow.join(", ")) {
                Ok(allow) => reply.with(header::ALLOW, allow),
                Err(_) => reply,
            }
            .into())
        }
        Outcome::NotFound => Err(Reply::no_route("no route takes this request").into()),
    }
}

/// A target is a path, or a URL of the same host as the `Host` field says (RFC 9112 §3.2).
fn check_target(request: &RequestHeader) -> Result<(), Box<Reply>> {
    let target = request.raw_path();
    if target.first() == Some(&b'/') {
        return Ok(());
    }
    let authority = std::str::from_utf8(target)
        .ok()
        .and_then(|target| target.split_once("://"))
        .filter(|(scheme, _)| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        })
        .and_then(|(_, rest)| rest.split(['/', '?']).next());
    let Some(authority) = authority else {
        return Err(Reply::bad_request("the request target is neither a path nor a URL").into());
    };
    let host = request.headers.get(header::HOST);
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(Reply::bad_request("the request target and the Host field differ").into());
    }
    Ok(())
}

/// The canonical path, if it is not the one that was sent.
fn owned(path: Cow<'_, str>) -> Option<Box<str>> {
    match path {
        Cow::Borrowed(_) => None,
        Cow::Owned(path) => Some(path.into()),
    }
}

/// The method that a browser asks about, if this is a preflight.
fn preflight_method(request: &RequestHeader) -> Option<Method> {
    if request.method != Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_time() {
        let times =
            (0..5_000).map(|step| Duration::new(1_700_000_000, step * 250_007 % 1_000_000_000));
        let mut times: Vec<_> = times.collect();
        times.sort();
        let ids: Vec<_> = times.iter().map(|time| id_at(*time)).collect();
        assert!(ids.is_sorted());
        for (id, time) in ids.iter().zip(&times) {
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
            let said = Duration::new(seconds, nanos);
            assert!(
                time.abs_diff(said) < Duration::from_millis(1),
                "{id} {time:?}"
            );
        }
    }

    #[test]
    fn ids_of_one_moment_differ() {
        let now = Duration::new(1_700_000_000, 999_999_999);
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| id_at(now)).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
