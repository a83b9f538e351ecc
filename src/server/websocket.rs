//! WebSockets over HTTP/2 (RFC 8441). Each takes a stream of a connection. What it asks goes the way of a
//! WebSocket of HTTP/1.1: as a request on a connection of its own inside the process, so that the pipeline, the
//! backends and all limits are the same.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use openssl::sha::sha1;
use pingora::apps::HttpServerApp;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::proxy::{Connection, Gateway, Supervised};
use crate::snapshot::ClientTimeouts;

/// Bytes on their way between the two connections, in each direction.
const ON_THE_WAY: usize = 64 * 1024;
/// The largest header of an answer; backends' are bounded before.
const LARGEST_HEADER: usize = 256 * 1024;
/// What makes a key an answer (RFC 6455 §1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What is about a connection of HTTP/1.1, or said anew for it.
const REPLACED: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::COOKIE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// What a stream is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is a request.
    Nothing,
    /// A WebSocket.
    WebSocket,
    /// Something nobody here knows.
    Unknown,
}

impl Wish {
    /// By the extended `CONNECT` that asks for it.
    pub(super) fn of(request: &RequestHeader) -> Self {
        match request.extensions.get::<h2::ext::Protocol>() {
            Some(protocol) if request.method == Method::CONNECT => match protocol.as_str() {
                "websocket" => Self::WebSocket,
                _ => Self::Unknown,
            },
            _ => Self::Nothing,
        }
    }
}

/// Refuses what nobody here knows (RFC 9220 §3).
pub(super) fn refuse(mut stream: HttpSession) {
    let refused = ResponseHeader::build(StatusCode::NOT_IMPLEMENTED, None)
        .and_then(|header| stream.write_response_header(Box::new(header), true));
    if let Err(error) = refused {
        log::debug!("a stream was not refused: {error}");
    }
}

/// Serves a WebSocket until one of its ends closes it, or answers the request if it does not become one.
pub(super) async fn serve(
    proxy: Arc<HttpProxy<Gateway>>,
    mut stream: HttpSession,
    connection: Connection,
    timeouts: ClientTimeouts,
    shutdown: ShutdownWatch,
) {
    let connection = Arc::new(connection);
    let key = key();
    let Some(request) = request(stream.req_header(), &key) else {
        return refuse(stream);
    };
    stream.set_write_timeout(Some(timeouts.response));
    let (near, far) = tokio::io::duplex(ON_THE_WAY);
    let mut session = ServerSession::new_http1(Box::new(near));
    session.set_keepalive(None);
    session.set_connection_user_context(Some(Box::new(connection.clone())));
    let work = std::pin::pin!(proxy.process_new_http(session, &shutdown));
    let supervised = Supervised::new(&connection, work, timeouts.request_header);
    let (_, passed) = tokio::join!(supervised, pass(stream, far, request, &key));
    if let Err(error) = passed {
        log::debug!("a WebSocket ended: {error}");
    }
}

/// A key that nobody knew before; what it is good for is to tell answers of WebSockets from others.
fn key() -> String {
    STANDARD.encode(fastrand::u128(..).to_ne_bytes())
}

/// The request as HTTP/1.1 has it; `None` if it can't be written so.
fn request(asked: &RequestHeader, key: &str) -> Option<Vec<u8>> {
    let host = asked.uri.authority()?.as_str();
    let target = asked.uri.path_and_query()?.as_str();
    let mut text = format!(
        "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {key}\r\n"
    )
    .into_bytes();
    let mut line = |name: &HeaderName, value: &[u8]| {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    };
    for (name, value) in &asked.headers {
        if !REPLACED.contains(name) {
            line(name, value.as_bytes());
        }
    }
    // In one, where HTTP/2 has pieces (RFC 9113 §8.2.3).
    let cookies = asked.headers.get_all(header::COOKIE).iter();
    let cookies: Vec<&[u8]> = cookies.map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        line(&header::COOKIE, &cookies.join(&b"; "[..]));
    }
    text.extend_from_slice(b"\r\n");
    Some(text)
}

/// Passes the request, its answer, and all that follows.
async fn pass(
    mut stream: HttpSession,
    mut inside: DuplexStream,
    request: Vec<u8>,
    key: &str,
) -> pingora::Result<()> {
    let lost = |_| pingora::Error::new(pingora::ErrorType::ConnectionClosed);
    inside.write_all(&request).await.map_err(lost)?;
    let mut come = BytesMut::new();
    let answer = loop {
        let (status, fields) = head(&mut inside, &mut come).await.map_err(lost)?;
        if status == StatusCode::SWITCHING_PROTOCOLS || !status.is_informational() {
            break (status, fields);
        }
    };
    let (status, fields) = answer;
    let is_open = status == StatusCode::SWITCHING_PROTOCOLS;
    if is_open && !is_accepted(&fields, key) {
        let header = ResponseHeader::build(StatusCode::BAD_GATEWAY, None)?;
        return stream.write_response_header(Box::new(header), true);
    }
    let length = fields.iter().find(|it| it.0 == header::CONTENT_LENGTH);
    let length: usize = length
        .and_then(|it| it.1.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let mut header = ResponseHeader::build(if is_open { StatusCode::OK } else { status }, None)?;
    for (name, value) in fields {
        let is_body = name == header::CONTENT_LENGTH && !is_open && length > 0;
        if is_body || !REPLACED.contains(&name) {
            header.append_header(name, value)?;
        }
    }
    // Bodies without a length are for nobody: what opens WebSockets does not read them.
    let has_more = is_open || length > 0;
    stream.write_response_header(Box::new(header), !has_more)?;
    if !is_open {
        while come.len() < length && inside.read_buf(&mut come).await.map_err(lost)? > 0 {}
        come.truncate(length);
        return stream.write_body(come.freeze(), true).await;
    }
    exchange(stream, inside, come).await
}

/// Whether somebody at the other end has understood that this is a WebSocket (RFC 6455 §4.1).
fn is_accepted(fields: &[(HeaderName, HeaderValue)], key: &str) -> bool {
    let expected = STANDARD.encode(sha1(format!("{key}{MAGIC}").as_bytes()));
    let accept = fields
        .iter()
        .find(|it| it.0 == header::SEC_WEBSOCKET_ACCEPT);
    accept.is_some_and(|it| it.1.as_bytes() == expected.as_bytes())
}

/// The next header that comes from inside; what is behind it is left in `come`.
async fn head(
    inside: &mut DuplexStream,
    come: &mut BytesMut,
) -> std::io::Result<(StatusCode, Vec<(HeaderName, HeaderValue)>)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = loop {
        if let Some(end) = come.windows(END.len()).position(|it| it == END) {
            break end;
        }
        if come.len() > LARGEST_HEADER || inside.read_buf(come).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = come.split_to(end);
    come.advance(END.len());
    let mut lines = text[..]
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii);
    let status = lines.next().and_then(|line| line.get(9..12));
    let status = status.and_then(|it| StatusCode::from_bytes(it).ok());
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    });
    match status {
        Some(status) => Ok((status, fields.collect())),
        None => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// Passes bytes in both directions until one side ends. While they wait to be taken inside, what comes from
/// there is passed on, or each side would wait for the other.
async fn exchange(
    mut stream: HttpSession,
    inside: DuplexStream,
    mut come: BytesMut,
) -> pingora::Result<()> {
    let lost = |_| pingora::Error::new(pingora::ErrorType::ConnectionClosed);
    let (mut from_inside, mut to_inside) = tokio::io::split(inside);
    let mut waiting = Bytes::new();
    let mut is_client_done = false;
    if !come.is_empty() {
        stream.write_body(come.split().freeze(), false).await?;
    }
    loop {
        tokio::select! {
            part = stream.read_body_bytes(), if waiting.is_empty() && !is_client_done => {
                match part? {
                    Some(part) => waiting = part,
                    None => {
                        is_client_done = true;
                        to_inside.shutdown().await.map_err(lost)?;
                    }
                }
            }
            written = to_inside.write(&waiting), if !waiting.is_empty() => {
                waiting.advance(written.map_err(lost)?);
            }
            read = from_inside.read_buf(&mut come) => {
                let is_end = read.map_err(lost)? == 0;
                stream.write_body(come.split().freeze(), is_end).await?;
                if is_end {
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = http::Request::builder()
            .method(Method::CONNECT)
            .uri("https://a.example/chat?x=1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0.into()
    }

    #[test]
    fn a_request_is_written_as_http1_has_it() {
        let fields = [
            ("cookie", "a=1"),
            ("origin", "https://b.example"),
            ("cookie", "b=2"),
            ("host", "other.example"),
            ("content-length", "7"),
            ("sec-websocket-key", "mine"),
            ("sec-websocket-version", "13"),
        ];
        let text = request(&asked(&fields), "KEY").unwrap();
        let expected = "GET /chat?x=1 HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\n\
            upgrade: websocket\r\nsec-websocket-key: KEY\r\norigin: https://b.example\r\n\
            sec-websocket-version: 13\r\ncookie: a=1; b=2\r\n\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn an_answer_belongs_to_its_key() {
        // The example of RFC 6455 §1.3.
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let fields = [(header::SEC_WEBSOCKET_ACCEPT, accept)];
        assert!(is_accepted(&fields, "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_accepted(&fields, "another"));
        assert!(!is_accepted(&[], "dGhlIHNhbXBsZSBub25jZQ=="));
    }

    #[tokio::test]
    async fn a_header_is_read_whatever_its_pieces() {
        let text = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nx-y:  z \r\n\r\nno";
        let (mut near, mut far) = tokio::io::duplex(8);
        let written = tokio::spawn(async move { near.write_all(text).await });
        let mut come = BytesMut::new();
        let (status, fields) = head(&mut far, &mut come).await.unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(fields, [("content-length", "2"), ("x-y", "z")]);
        while far.read_buf(&mut come).await.unwrap() > 0 {}
        written.await.unwrap().unwrap();
        assert_eq!(&come[..], b"no");
    }
}
