//! Backends that misbehave in every way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::upstream::Upstream;

/// What is wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Refuses,
    Hangs,
    Resets,
    EndsInHeader,
    Garbles,
    EndsInBody,
    EndsShort,
    Stalls,
    Drips,
    Says(u16),
    Flaps,
    HalfOpen,
}

const PAUSE: Duration = Duration::from_millis(20);

impl Fault {
    pub async fn backend(self) -> Upstream {
        match self {
            Self::Refuses => {
                // Its port was free a moment ago.
                let mut gone = Upstream::echo().await;
                let address = gone.address;
                drop(gone);
                gone = Upstream::raw(|_| async {}).await;
                gone.address = address;
                gone
            }
            Self::Says(status) => saying(move |_| status).await,
            Self::Flaps => saying(|turn| if turn % 2 == 0 { 503 } else { 200 }).await,
            _ => Upstream::raw(move |stream| self.serve(stream)).await,
        }
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut turn = 0;
        while asked(&mut stream).await {
            let written = match self {
                Self::Hangs => return hold(stream).await,
                Self::Resets => {
                    let _ = stream.set_zero_linger();
                    return;
                }
                Self::EndsInHeader => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await,
                Self::Garbles => stream.write_all(b"\x16\x03\x01 what is this\r\n\r\n").await,
                Self::EndsInBody | Self::EndsShort | Self::Stalls => {
                    let head: &[u8] = match self {
                        // Reset within a chunk, or closed before the announced end.
                        Self::EndsInBody => {
                            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart"
                        }
                        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
                    };
                    let written = stream.write_all(head).await;
                    // So that the part arrives before the end.
                    tokio::time::sleep(PAUSE).await;
                    written
                }
                Self::Drips => {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
                        .await;
                    for byte in b"dripping" {
                        let _ = stream.write_all(&[*byte]).await;
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(())
                }
                // Behind a router that forgot the connection after its first use.
                Self::HalfOpen if turn > 0 => return hold(stream).await,
                _ => {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
                        .await
                }
            };
            turn += 1;
            match self {
                Self::Stalls => return hold(stream).await,
                Self::Drips | Self::HalfOpen if written.is_ok() => {}
                Self::EndsInBody => {
                    let _ = stream.set_zero_linger();
                    return;
                }
                _ => return,
            }
        }
    }
}

async fn saying(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Upstream {
    let turns = Arc::new(AtomicUsize::new(0));
    Upstream::answering(move |_| {
        let status = status(turns.fetch_add(1, Ordering::Relaxed));
        let body = Bytes::from_static(b"its own");
        Response::builder().status(status).body(body).unwrap()
    })
    .await
}

/// Whether a request came.
async fn asked(stream: &mut TcpStream) -> bool {
    let mut header = [0; 8192];
    matches!(stream.read(&mut header).await, Ok(1..))
}

async fn hold(stream: TcpStream) {
    let _open = stream;
    tokio::time::sleep(Duration::from_secs(600)).await;
}
