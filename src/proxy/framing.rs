//! Messages of HTTP/1 that somebody on the way could read in another way than the gateway: where a line
//! ends, where the body ends, for which host it is. Such requests are refused, and nothing that comes behind
//! them on the same connection is read (RFC 9112 §11.2); such answers are mended or refused.
//!
//! The framework has parsed them. What it lets pass and mends is looked at here once more.

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};

use super::context::Context;
use super::reply::Reply;

/// What becomes a framing field where names are turned into variables, and is none anywhere else.
const ALIKE: [&str; 2] = ["transfer_encoding", "content_length"];

/// Refuses a request that is not understood by everybody in one way. `raw` is the header of one of HTTP/1 as
/// it came.
pub(super) fn check(
    request: &RequestHeader,
    raw: Option<&[u8]>,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let checked = match raw {
        Some(raw) => check_lines(raw)
            .and_then(|()| check_target(raw))
            .and_then(|()| check_body(request, raw)),
        None => Ok(()),
    };
    checked
        .and_then(|()| check_host(&request.headers))
        .and_then(|()| check_expectation(&request.headers))
        // On HTTP/2 a bad request is the matter of its stream alone.
        .inspect_err(|_| context.is_last |= raw.is_some())
}

/// Every line ends with CR LF. The framework takes a bare LF for the end of a line, too.
fn check_lines(raw: &[u8]) -> Result<(), Box<Reply>> {
    // Without a way out in the middle this is done many bytes at a time.
    let is_bare = |(before, byte): (&u8, &u8)| (*byte == b'\n') & (*before != b'\r');
    let is_bad = raw.first() == Some(&b'\n')
        || raw
            .iter()
            .zip(raw.iter().skip(1))
            .fold(false, |bad, pair| bad | is_bare(pair));
    if is_bad {
        return Err(Reply::bad_request("a line of the request does not end with CR LF").into());
    }
    Ok(())
}

/// A target has no fragment (RFC 9112 §3.2). The framework drops one.
fn check_target(raw: &[u8]) -> Result<(), Box<Reply>> {
    let mut line = raw.iter().take_while(|byte| !byte.is_ascii_control());
    if line.any(|byte| *byte == b'#') {
        return Err(Reply::bad_request("the request target has a fragment").into());
    }
    Ok(())
}

/// A body has one length, or one coding that says where it ends.
fn check_body(request: &RequestHeader, raw: &[u8]) -> Result<(), Box<Reply>> {
    let headers = &request.headers;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Reply::bad_request(
                "the only coding for a transfer is `chunked`, written once",
            )
            .into());
        }
        // The framework has taken the field away, as RFC 9112 §6.3 has it.
        if has_length(raw) {
            return Err(Reply::bad_request(
                "a request has a Transfer-Encoding or a Content-Length, not both",
            )
            .into());
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(Reply::bad_request("a Content-Length is one number, written once").into());
    }
    // Cheaper to ask of every field than to look for each of them.
    if headers.keys().any(|name| ALIKE.contains(&name.as_str())) {
        return Err(
            Reply::bad_request("a field looks like one that says how long the body is").into(),
        );
    }
    Ok(())
}

/// Makes an answer one that every client reads in the same way: what cannot have a body says nothing of one
/// (RFC 9112 §6.3), and its version is the gateway's own (RFC 9110 §2.5).
///
/// # Errors
/// If it says in more than one way where its body ends.
pub(super) fn settle(response: &mut ResponseHeader) -> pingora::Result<()> {
    let (status, version) = (response.status, response.version);
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if let Some(coding) = coding {
        let is_known = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        // RFC 9112 §6.1: one of HTTP/1.0 can't mean it.
        if !is_known || codings.next().is_some() || version == Version::HTTP_10 {
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
    }
    let is_coded = coding.is_some();
    let is_bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if is_coded && (is_bodiless || status == StatusCode::NOT_MODIFIED) {
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    let mut lengths = response.headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let is_plain = lengths.next().is_none() && length.as_bytes().iter().all(u8::is_ascii_digit);
        if is_bodiless {
            response.remove_header(&header::CONTENT_LENGTH);
        } else if !is_plain {
            // The framework has seen that they are all the same.
            let first = length.as_bytes().split(|byte| *byte == b',').next();
            let first = HeaderValue::from_bytes(first.unwrap_or_default().trim_ascii());
            let first = first.map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
            response.insert_header(header::CONTENT_LENGTH, first)?;
        }
    }
    if version == Version::HTTP_10 {
        response.set_version(Version::HTTP_11);
    }
    Ok(())
}

/// Whether a line of a header is a `Content-Length`.
fn has_length(raw: &[u8]) -> bool {
    let name = header::CONTENT_LENGTH.as_str().as_bytes();
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.split(|byte| *byte == b':')
            .next()
            .is_some_and(|written| written.eq_ignore_ascii_case(name))
    })
}

/// A host is a name or an address, with or without a port, and nothing that a URL is made of beside it.
fn check_host(headers: &HeaderMap) -> Result<(), Box<Reply>> {
    let Some(host) = headers.get(header::HOST) else {
        return Ok(());
    };
    if is_host(host.as_bytes()) {
        return Ok(());
    }
    Err(Reply::bad_request("the Host field holds no host").into())
}

fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        // A colon in brackets belongs to an IPv6 address.
        Some(colon) if !host[colon..].contains(&b']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, &[][..]),
    };
    let is_number = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    let is_named = match name {
        [b'[', address @ .., b']'] => address
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        name => name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')),
    };
    is_number && is_named
}

/// There is one thing to be expected (RFC 9110 §10.1.1); those who spell it in another way want to be
/// understood by some only.
fn check_expectation(headers: &HeaderMap) -> Result<(), Box<Reply>> {
    let mut expected = headers.get_all(header::EXPECT).iter();
    let Some(first) = expected.next() else {
        return Ok(());
    };
    if expected.next().is_none() && first.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Reply::expectation_failed("nothing but `100-continue` can be expected").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "",
            "a",
            "a.example",
            "A.example.:80",
            "a_b.example",
            "127.0.0.1:65535",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "me@a",
            "a,b",
            "a:b",
            "a:80:80",
            "::1",
            "[::1",
            "a:123456",
            "[::1]x",
            "[a.example]g",
            "a%2eb",
            "ä",
            "http://a",
            "a\tb",
            "\"a\"",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_line_ends_with_both_bytes() {
        assert!(check_lines(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
        for raw in [
            &b"\nGET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            assert!(check_lines(raw).is_err(), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn a_length_is_found_whatever_its_case_and_nothing_else_is_one() {
        assert!(has_length(b"GET / HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\n"));
        for raw in [
            &b"GET /content-length: HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nX: a\r\nB: content-length: 5\r\n\r\n",
        ] {
            assert!(!has_length(raw), "{}", raw.escape_ascii());
        }
    }
}
