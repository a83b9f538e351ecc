//! HTTP/2 from clients that mean harm: what they send is written frame by frame, since no library would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::http2::{ask, connect, get};
use super::support::{Authority, Gateway, Upstream, dial};
use super::{gateway, gateway_with};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;
/// How long a gateway may take to say something.
const PATIENCE: Duration = Duration::from_secs(20);

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error by which the connection ends, if that is what it says.
    fn error(&self) -> Option<u32> {
        let error = self.payload.get(4..8).filter(|_| self.kind == GOAWAY)?;
        Some(u32::from_be_bytes(error.try_into().unwrap()))
    }
}

/// A client that sends what it likes and acknowledges nothing.
struct Rude(TlsStream<TcpStream>);

impl Rude {
    async fn connect(gateway: &Gateway, authority: &Authority, settings: &[u8]) -> Self {
        let config = Arc::new(authority.client(&["h2"]));
        let stream = dial(gateway.address, "a.example", &config).await.unwrap();
        let mut client = Self(stream);
        client
            .0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        client.send(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        client
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The next frame; none if the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, self.0.read_exact(&mut head)).await;
        read.expect("the gateway says nothing").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame {
            kind: head[3],
            stream,
            payload,
        })
    }

    /// Reads to the end of the connection; returns the error that it ended with, if it was told.
    async fn end(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.next().await {
            error = frame.error().or(error);
        }
        error
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The fields of a request for `/`, as HPACK without a table; then others.
fn fields(others: &[(&str, &str)]) -> Vec<u8> {
    // `:method: GET`, `:path: /` and `:scheme: https` of the static table; `:authority` with a value.
    let mut block = vec![0x82, 0x84, 0x87, 0x01];
    text("a.example", &mut block);
    for (name, value) in others {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

/// A text as it is, with its length (RFC 7541 §5.1).
fn text(text: &str, block: &mut Vec<u8>) {
    match text.len() {
        length @ 0..127 => block.push(length as u8),
        length => {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend(text.as_bytes());
}

fn request(stream: u32, others: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(others))
}

/// Others are served as ever.
async fn assert_serves(gateway: &Gateway, authority: &Authority) {
    let sender = connect(gateway.address, authority, "a.example").await;
    let (status, _) = ask(sender, get("https://a.example/")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn who_goes_on_guessing_although_told_to_go_is_cut_off() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let service = "auth: main } }
auth_providers: { main: { jwt: { algorithms: [HS256], keys: { secret: 0123456789abcdef0123456789abcdef } }";
    let gateway = gateway_with(&authority, &upstream, "", service).await;
    let mut client = Rude::connect(&gateway, &authority, &[]).await;
    let guess = [("authorization", "Bearer a.b.c")];
    let mut guesses = 0;
    'guessing: for stream in (1..1000).step_by(2) {
        if client.send(&request(stream, &guess)).await.is_err() {
            break;
        }
        loop {
            match client.next().await {
                Some(frame) if frame.stream == stream => break,
                Some(_) => {}
                None => break 'guessing,
            }
        }
        guesses += 1;
    }
    assert!((2..150).contains(&guesses), "{guesses}");
}

/// CVE-2023-44487.
#[tokio::test]
async fn requests_that_are_reset_at_once_do_not_multiply() {
    let authority = Authority::new();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (open.clone(), most.clone());
    let upstream = Upstream::raw(move |mut stream| {
        let (now, peak) = (now.clone(), peak.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Until the gateway closes it.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            now.fetch_sub(1, Ordering::Relaxed);
        }
    })
    .await;
    // Whether it is the backend that takes long or the service that decides.
    let forward = format!(
        "auth: main }} }}\nauth_providers: {{ main: {{ forward: {{ url: \"http://{}/\", timeout: 30s }}",
        upstream.address
    );
    for service in ["", &forward] {
        let gateway = gateway_with(&authority, &upstream, "", service).await;
        let end = begin_and_reset(500, &gateway, &authority).await;
        let most = most.swap(0, Ordering::Relaxed);
        assert!((1..=110).contains(&most), "{most} at once, {end:?}");
        burst_of_resets(&gateway, &authority).await;
    }
}

/// Has so many requests come to the gateway one after the other, and resets each. Returns the error by which
/// it is stopped, if it is.
async fn begin_and_reset(count: u32, gateway: &Gateway, authority: &Authority) -> Option<u32> {
    let mut client = Rude::connect(gateway, authority, &[]).await;
    for stream in (0..count).map(|number| 2 * number + 1) {
        let begun = [request(stream, &[]), frame(PING, 0, 0, &[0; 8])].concat();
        if client.send(&begun).await.is_err() {
            return client.end().await;
        }
        // The gateway has the request when it answers what was sent behind it.
        loop {
            let frame = client.next().await?;
            match frame.kind {
                PING => break,
                GOAWAY => return frame.error(),
                _ => {}
            }
        }
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        if client.send(&reset).await.is_err() {
            return client.end().await;
        }
    }
    None
}

/// The same, without waiting: those are too many by themselves.
async fn burst_of_resets(gateway: &Gateway, authority: &Authority) {
    let mut client = Rude::connect(gateway, authority, &[]).await;
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(request(stream, &[]));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may be cut off before it has sent all.
    let _ = client.send(&flood).await;
    assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM));
}

/// CVE-2024-27316 and its kin.
#[tokio::test]
async fn a_header_without_an_end_is_cut_off() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let before = gateway.resident();
    let mut client = Rude::connect(&gateway, &authority, &[]).await;
    client
        .send(&frame(HEADERS, END_STREAM, 1, &fields(&[])))
        .await
        .unwrap();
    let mut more = Vec::new();
    for number in 0..16 {
        more.push(0);
        text(&format!("x-{number}"), &mut more);
        text(&"x".repeat(900), &mut more);
    }
    let more = frame(CONTINUATION, 0, 1, &more);
    let mut sent = 0;
    while sent < 10_000 && client.send(&more).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "150 MB of header were taken");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes");
    assert_serves(&gateway, &authority).await;
}

#[tokio::test]
async fn a_small_header_that_becomes_a_large_one_is_refused() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let before = gateway.resident();
    let mut client = Rude::connect(&gateway, &authority, &[]).await;
    // A field of 4,000 bytes goes into the table once, and is then meant 10,000 times by a byte each.
    let mut block = fields(&[]);
    block.push(0x40);
    text("x-bomb", &mut block);
    text(&"x".repeat(4000), &mut block);
    block.extend(std::iter::repeat_n(0xbe, 10_000));
    client
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
        .await
        .unwrap();
    while let Some(frame) = client.next().await {
        if frame.stream == 1 {
            assert!([HEADERS, RST_STREAM].contains(&frame.kind));
            break;
        }
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_heaped_up() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    assert_serves(&gateway, &authority).await;
    let before = gateway.resident();
    for flood in [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[0; 8])] {
        let flood = flood.repeat(1000);
        let mut client = Rude::connect(&gateway, &authority, &[]).await;
        // Each wants an answer, and none is read: at last nothing is taken any more, or the client is cut off.
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(Duration::from_secs(1), client.send(&flood)).await {
            sent += flood.len();
            assert!(sent < 500_000_000, "{sent} bytes were taken");
        }
        let grown = gateway.resident().saturating_sub(before);
        assert!(grown < 40 << 20, "{grown} bytes");
        assert_serves(&gateway, &authority).await;
    }
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_not_waited_for_without_end() {
    let authority = Authority::new();
    let upstream = Upstream::answering(|_| hyper::Response::new(vec![0; 1_000_000].into())).await;
    let gateway = gateway(&authority, &upstream, "").await;
    gateway.edit("threads: 2", "threads: 2\n  timeouts: { response: 300ms }");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let mut client = Rude::connect(&gateway, &authority, &[0, 4, 0, 0, 0, 0]).await;
    client.send(&request(1, &[])).await.unwrap();
    loop {
        let frame = client
            .next()
            .await
            .expect("the stream ends, not the connection");
        assert_ne!(frame.kind, DATA);
        if frame.kind == RST_STREAM && frame.stream == 1 {
            break;
        }
    }
    let log = gateway.log(1).await;
    assert_eq!(log[0]["response_bytes"], 0, "{log:?}");
}
