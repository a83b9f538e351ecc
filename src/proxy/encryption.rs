//! What of a request must be encrypted, and on a connection for which host.

use bytes::Bytes;
use http::header;
use http::uri::Authority;
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;

use super::context::Context;
use super::reply::{Body, Reply};
use crate::config::RedirectHttps;
use crate::routing::normal_host;
use crate::telemetry::Flag;

/// What authorities ask for in clear before there is a certificate (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";
const HTTPS_PORT: u16 = 443;

/// Answers an authority that looks whether this gateway is reached by a name (RFC 8555 §8.3).
pub(super) fn answer_challenge(
    request: &RequestHeader,
    context: &Context,
) -> Result<(), Box<Reply>> {
    let acme = context.snapshot.acme.as_ref();
    let Some(answer) = acme.and_then(|acme| acme.answer(request.uri.path())) else {
        return Ok(());
    };
    let mut reply = Reply::bare(StatusCode::OK, Flag::DirectResponse);
    reply.body = Body::Fixed(Bytes::copy_from_slice(answer.as_bytes()));
    let kind = HeaderValue::from_static("application/octet-stream");
    Err(reply.with(header::CONTENT_TYPE, kind).into())
}

/// Sends requests elsewhere that come in clear, if their route says so or, where it says nothing, the listener.
/// Which port it is, the listener knows best.
pub(super) fn redirect(request: &RequestHeader, context: &Context) -> Result<(), Box<Reply>> {
    let listener = context.connection.as_ref().and_then(|it| it.redirects_to());
    let written = context
        .route()
        .and_then(|route| route.policies.redirect_https);
    let port = match written {
        None => listener,
        Some(RedirectHttps(written)) => written.map(|written| listener.unwrap_or(written)),
    };
    let Some(port) = port else {
        return Ok(());
    };
    if context.is_over_tls(&request.headers) || request.uri.path().starts_with(CHALLENGES) {
        return Ok(());
    }
    match location(request, port) {
        Some(location) => {
            let reply = Reply::bare(StatusCode::PERMANENT_REDIRECT, Flag::Redirected);
            Err(reply.with(header::LOCATION, location).into())
        }
        None => Err(Reply::bad_request("the request can't stand in a redirect").into()),
    }
}

/// The same at `port`, encrypted; `None` if there is no host, or the target is no path.
fn location(request: &RequestHeader, port: u16) -> Option<HeaderValue> {
    let host = request.headers.get(header::HOST)?;
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return None;
    }
    let target = request.uri.path_and_query()?.as_str();
    if !target.starts_with('/') {
        return None;
    }
    let host = authority.host();
    let location = match port {
        HTTPS_PORT => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    location.try_into().ok()
}

/// A connection that was made for one host is not for another, whose clients may be verified in another way
/// (RFC 9110 §15.5.20); nor is one for anybody whose client would not come in any more.
pub(super) fn check_channel(
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(connection) = &context.connection else {
        return Ok(());
    };
    let Some(channel) = connection.channel() else {
        return Ok(());
    };
    let listener = connection
        .local()
        .and_then(|it| context.snapshot.listeners.at(it));
    let tls = listener.and_then(|it| it.tls.as_ref());
    if tls.is_some_and(|tls| !channel.stands_under(tls)) {
        // On a new connection the client learns why, or shows what is asked for by now.
        context.is_last = true;
        let reply =
            Reply::misdirected("clients are verified otherwise since the connection was made");
        return Err(reply.into());
    }
    let host = request.headers.get(header::HOST);
    if host
        .and_then(|host| host.to_str().ok())
        .is_none_or(|host| channel.is_for(&normal_host(host), tls))
    {
        return Ok(());
    }
    Err(Reply::misdirected("the connection was made for another host").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_stays_and_only_the_scheme_and_the_port_change() {
        let location = |host: &str, target: &str, port| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            request.insert_header(header::HOST, host).unwrap();
            super::location(&request, port).map(|it| it.to_str().unwrap().to_owned())
        };
        for (host, target, port, expected) in [
            ("a.example", "/", 443, Some("https://a.example/")),
            (
                "a.example:8080",
                "/x?y=1&z",
                443,
                Some("https://a.example/x?y=1&z"),
            ),
            (
                "a.example:8080",
                "/x",
                8443,
                Some("https://a.example:8443/x"),
            ),
            ("[::1]:80", "//x", 443, Some("https://[::1]//x")),
            ("me@a.example", "/", 443, None),
            ("", "/", 443, None),
            ("a.example", "*", 443, None),
        ] {
            assert_eq!(
                location(host, target, port).as_deref(),
                expected,
                "{host} {target}"
            );
        }
    }
}
