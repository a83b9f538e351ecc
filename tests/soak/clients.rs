//! Clients that check every byte of every answer. They take a connection that closes for a failure,
//! unless the answer before had said that it would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::tally::Tally;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client asks for next; the same sequence for the same seed.
struct Next(u64);

impl Next {
    /// Knuth's multiplicative generator: all that is needed is variety.
    fn number(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Mostly small, sometimes larger than any buffer on the way.
    fn size(&mut self) -> usize {
        match self.number(20) {
            0 => self.number(400_000) as usize,
            1..4 => self.number(20_000) as usize,
            _ => self.number(900) as usize,
        }
    }
}

/// The bytes that a seed and a size stand for.
pub fn pattern(seed: u64, size: usize) -> Bytes {
    (0..size as u64)
        .map(|at| (at.wrapping_mul(31).wrapping_add(seed) ^ (at >> 8)) as u8)
        .collect::<Vec<_>>()
        .into()
}

type Sender = SendRequest<Full<Bytes>>;
type Failure = (&'static str, String);

async fn connect(to: SocketAddr) -> Result<Sender, Failure> {
    let stream = TcpStream::connect(to)
        .await
        .map_err(|error| ("connect", error.to_string()))?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ("connect", error.to_string()))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its answer, down to the last byte; whether the connection stays.
async fn exchange(sender: &mut Sender, next: &mut Next) -> Result<bool, Failure> {
    let (seed, size) = (next.number(256), next.size());
    let expected = pattern(seed, size);
    let is_post = next.number(4) == 0;
    let (method, path, body) = if is_post {
        (Method::POST, "/echo".to_owned(), expected.clone())
    } else {
        (Method::GET, format!("/bytes/{seed}/{size}"), Bytes::new())
    };
    let what = format!("{method} {path} of {size} bytes");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "soak")
        .body(Full::new(body))
        .unwrap();
    sender
        .ready()
        .await
        .map_err(|_| ("closed without a word", what.clone()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| ("reset", format!("{what}: {error:?}")))?;
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| ("cut off", format!("{what}: {error:?}")))?
        .to_bytes();
    if parts.status != 200 {
        return Err(("status", format!("{what}: {} {body:?}", parts.status)));
    }
    if body != expected {
        let length = body.len();
        return Err(("wrong bytes", format!("{what}: {length} other bytes")));
    }
    let connection = parts.headers.get("connection");
    Ok(connection.is_none_or(|it| it != "close"))
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => Err(("hangs", format!("for {PATIENCE:?}"))),
    }
}

/// Keeps its connection as long as it may, and thinks between requests.
pub async fn kept(to: SocketAddr, seed: u64, think: Duration, tally: Arc<Tally>) {
    let mut next = Next(seed);
    let mut held = None;
    while !tally.is_over() {
        let one = async {
            let mut sender = match held.take() {
                Some(sender) => sender,
                None => connect(to).await?,
            };
            let stays = exchange(&mut sender, &mut next).await?;
            Ok(stays.then_some(sender))
        };
        match in_time(one).await {
            Ok(sender) => {
                held = sender;
                tally.answered("kept");
            }
            Err((kind, example)) => tally.failed(&format!("kept connection: {kind}"), example),
        }
        tokio::time::sleep(think).await;
    }
}

/// A connection for each request.
pub async fn one_shot(to: SocketAddr, seed: u64, think: Duration, tally: Arc<Tally>) {
    let mut next = Next(seed);
    while !tally.is_over() {
        let one = async {
            let mut sender = connect(to).await?;
            exchange(&mut sender, &mut next).await
        };
        match in_time(one).await {
            Ok(_) => tally.answered("one-shot"),
            Err((kind, example)) => tally.failed(&format!("new connection: {kind}"), example),
        }
        tokio::time::sleep(think).await;
    }
}

/// A WebSocket after the other, each for about a second.
pub async fn websocket(to: SocketAddr, seed: u64, tally: Arc<Tally>) {
    let mut next = Next(seed);
    while !tally.is_over() {
        let one = async {
            let failure = |at: &'static str| {
                move |error: tokio_tungstenite::tungstenite::Error| (at, error.to_string())
            };
            let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{to}/socket"))
                .await
                .map_err(failure("handshake"))?;
            for _ in 0..next.number(40) {
                let sent = pattern(next.number(256), next.size());
                socket
                    .send(Message::binary(sent.clone()))
                    .await
                    .map_err(failure("send"))?;
                let Some(echo) = socket.next().await else {
                    return Err(("closed", String::new()));
                };
                if echo.map_err(failure("receive"))?.into_data() != sent {
                    return Err(("wrong bytes", format!("{} bytes", sent.len())));
                }
                tally.answered("websocket");
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            socket.close(None).await.map_err(failure("close"))?;
            while let Some(rest) = socket.next().await {
                rest.map_err(failure("close"))?;
            }
            Ok(())
        };
        if let Err((kind, example)) = in_time(one).await {
            tally.failed(&format!("websocket: {kind}"), example);
        }
    }
}
