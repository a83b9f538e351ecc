//! Requests of HTTP/2 that would be two of HTTP/1, or another one, if they were written out as they are. They are
//! sent frame by frame, since no library would. A backend of HTTP/1 gets them in one way only, or not at all.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::corpus::{Received, backend, strip};
use super::support::{Authority, Gateway, dial};
use super::wire::text;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Fields = &'static [(&'static str, &'static str)];

const GET: Fields = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "a.example"),
    (":path", "/a"),
];

struct Connection(TlsStream<TcpStream>);

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The first byte of its header block, which is the status by the static table or a literal.
    Answered,
    /// The stream or the connection ended without an answer.
    Refused,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK without a table (RFC 7541 §6.2.2).
fn block(fields: Fields) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

impl Connection {
    async fn open(gateway: &Gateway, authority: &Authority) -> Self {
        let config = Arc::new(authority.client(&["h2"]));
        let stream = dial(gateway.address, "a.example", &config).await.unwrap();
        let mut connection = Self(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = frame(SETTINGS, 0, 0, &[]);
        connection.send(&[&preface[..], &settings].concat()).await;
        connection
    }

    async fn send(&mut self, bytes: &[u8]) {
        // It may have closed already.
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// The kind and stream of the next frame.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], stream, payload))
    }

    async fn end(&mut self) -> End {
        while let Some((kind, stream, payload)) = self.next().await {
            match (kind, stream) {
                // `:status: 200` of the static table.
                (HEADERS, 1) if payload.contains(&0x88) => return End::Answered,
                (HEADERS | RST_STREAM, 1) | (GOAWAY, _) => return End::Refused,
                _ => {}
            }
        }
        End::Refused
    }
}

/// Sends one request on a connection of its own.
async fn ask(gateway: &Gateway, authority: &Authority, fields: Fields, body: &[&[u8]]) -> End {
    let mut connection = Connection::open(gateway, authority).await;
    let flags = END_HEADERS | if body.is_empty() { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, flags, 1, &block(fields));
    for (index, part) in body.iter().enumerate() {
        let flags = if index + 1 == body.len() {
            END_STREAM
        } else {
            0
        };
        frames.extend(frame(DATA, flags, 1, part));
    }
    connection.send(&frames).await;
    connection.end().await
}

async fn start() -> (Gateway, Authority, Received, super::support::Upstream) {
    let received = Received::default();
    let upstream = backend(received.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "a", &["a.example"]);
    let config = format!(
        "server: {{ listen: {{ address: $LISTEN, tls: {{ certificates: {{ cert: a.pem, key: a.key }} }} }} }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", host_header: client, routes: [{{ prefix: / }}] }} }}",
        upstream.address
    );
    let gateway = Gateway::start_in(folder, &config, &[]).await;
    (gateway, authority, received, upstream)
}

macro_rules! fields {
    ($($name:literal: $value:literal),* $(,)?) => { &[$(($name, $value)),*] };
}

#[tokio::test]
async fn what_could_be_another_request_in_http_1_does_not_reach_a_backend() {
    let (gateway, authority, received, _upstream) = start().await;
    let bad: [(&str, Fields, &[&[u8]]); 32] = [
        (
            "a line end in a value",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x": "1\r\nTransfer-Encoding: chunked"],
            &[],
        ),
        (
            "a bare LF in a value",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x": "1\nHost: b"],
            &[],
        ),
        (
            "a bare CR in a value",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x": "1\rHost: b"],
            &[],
        ),
        (
            "a NUL in a value",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x": "1\0"],
            &[],
        ),
        (
            "a line end in a name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x: 1\r\ny": "2"],
            &[],
        ),
        (
            "a colon in a name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x: 1": "2"],
            &[],
        ),
        (
            "a blank in a name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x y": "2"],
            &[],
        ),
        (
            "no name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "": "2"],
            &[],
        ),
        (
            "a NUL in a name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "x\0": "2"],
            &[],
        ),
        (
            "capitals in a name",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "X-One": "2"],
            &[],
        ),
        (
            "a coding",
            fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "transfer-encoding": "chunked"],
            &[b"0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"],
        ),
        (
            "a field of the connection",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "connection": "x-forwarded-for"],
            &[],
        ),
        (
            "an upgrade",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "upgrade": "websocket"],
            &[],
        ),
        (
            "keep-alive",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "keep-alive": "1"],
            &[],
        ),
        (
            "a length that is more than the data",
            fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "30"],
            &[b"abc"],
        ),
        (
            "a length and no data",
            fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "3"],
            &[],
        ),
        (
            "a length with a plus",
            fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "+3"],
            &[b"abc"],
        ),
        (
            "two lengths",
            fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "3", "content-length": "4"],
            &[b"abc"],
        ),
        (
            "no method",
            fields![":scheme": "https", ":authority": "a.example", ":path": "/a"],
            &[],
        ),
        (
            "two methods",
            fields![":method": "GET", ":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a"],
            &[],
        ),
        (
            "a method with a request behind it",
            fields![":method": "GET /b HTTP/1.1\r\nHost: a\r\n\r\nGET", ":scheme": "https", ":authority": "a.example", ":path": "/a"],
            &[],
        ),
        (
            "a method with a blank",
            fields![":method": "GET /b", ":scheme": "https", ":authority": "a.example", ":path": "/a"],
            &[],
        ),
        (
            "no path",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example"],
            &[],
        ),
        (
            "an empty path",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": ""],
            &[],
        ),
        (
            "two paths",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", ":path": "/b"],
            &[],
        ),
        (
            "a path with a blank",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a HTTP/1.1"],
            &[],
        ),
        (
            "a path with a line end",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a HTTP/1.1\r\nHost: b\r\n\r\n"],
            &[],
        ),
        (
            "an authority with a line end",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example\r\nX: 1", ":path": "/a"],
            &[],
        ),
        (
            "an authority with a path",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example/b", ":path": "/a"],
            &[],
        ),
        (
            "another host",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "host": "b.example"],
            &[],
        ),
        (
            "a pseudo-field behind a field",
            fields![":method": "GET", ":scheme": "https", ":path": "/a", "x": "1", ":authority": "a.example"],
            &[],
        ),
        (
            "a pseudo-field that nobody knows",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", ":x": "1"],
            &[],
        ),
    ];
    for (name, fields, body) in bad {
        let end = ask(&gateway, &authority, fields, body).await;
        assert_eq!(end, End::Refused, "{name}");
        let mut reached = received.lock().unwrap();
        // What had a good header may have begun before its body turned out to be bad; its end never came.
        assert!(
            reached.iter().all(|message| message.ends_with(b" (cut)")),
            "{name}: {}",
            text(&reached.concat())
        );
        reached.clear();
    }
}

#[tokio::test]
async fn what_is_one_request_of_http_2_is_one_of_http_1() {
    let (gateway, authority, received, _upstream) = start().await;
    let length: Fields = fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "3"];
    let coded: Fields =
        fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a"];
    let good: [(&str, Fields, &[&[u8]], &str); 4] = [
        (
            "without a body",
            GET,
            &[],
            "GET /a HTTP/1.1\\r\\n\nHost: a.example\\r\\n\n\\r\\n\n",
        ),
        (
            "with a length",
            length,
            &[b"abc"],
            "POST /a HTTP/1.1\\r\\n\nContent-Length: 3\\r\\n\nHost: a.example\\r\\n\n\\r\\n\nabc",
        ),
        (
            "in chunks",
            coded,
            &[b"0\r\n\r\nGET /b HTTP/1.1\r\n\r\n"],
            "POST /a HTTP/1.1\\r\\n\nHost: a.example\\r\\n\nTransfer-Encoding: chunked\\r\\n\n\\r\\n\n18\\r\\n\n0\\r\\n\n\\r\\n\nGET /b HTTP/1.1\\r\\n\n\\r\\n\n\\r\\n\n0\\r\\n\n\\r\\n\n",
        ),
        (
            "with the same host twice",
            fields![":method": "GET", ":scheme": "https", ":authority": "a.example", ":path": "/a", "host": "a.example"],
            &[],
            "GET /a HTTP/1.1\\r\\n\nHost: a.example\\r\\n\n\\r\\n\n",
        ),
    ];
    for (name, fields, body, expected) in good {
        assert_eq!(
            ask(&gateway, &authority, fields, body).await,
            End::Answered,
            "{name}"
        );
        let messages = std::mem::take(&mut *received.lock().unwrap());
        let messages: Vec<_> = messages.iter().map(|it| text(&strip(it))).collect();
        assert_eq!(messages, [expected], "{name}");
    }
}

#[tokio::test]
async fn data_beyond_the_length_never_reach_a_backend() {
    let (gateway, authority, received, _upstream) = start().await;
    let fields: Fields = fields![":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/a", "content-length": "0"];
    let body = [&b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"[..]];
    assert_eq!(ask(&gateway, &authority, fields, &body).await, End::Refused);
    // The backend may have got the header before the data came.
    assert_eq!(ask(&gateway, &authority, GET, &[]).await, End::Answered);
    let messages = received.lock().unwrap();
    let begins =
        |message: &Vec<u8>| message.starts_with(b"POST /a ") || message.starts_with(b"GET /a ");
    assert!(messages.iter().all(begins), "{}", text(&messages.concat()));
}
