//! The handshake by which a connection becomes a WebSocket or another protocol (RFC 9110 §7.8).
//!
//! The framework takes the end of such a request for the end of what follows it, if it learns of the
//! backend's `101` first (its issue 946): about one handshake in a hundred on a busy machine. So the
//! answer is held back here until the request's end has been passed on.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use http::header::UPGRADE;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::ext::{connect, connect_uds};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::has_budget_remaining;

use crate::upstream::Introduction;

/// No socket yet.
const NONE: RawFd = -1;

/// One handshake with a backend.
#[derive(Debug)]
pub(super) struct Handshake {
    socket: AtomicI32,
    is_asking: AtomicBool,
    is_asked: AtomicBool,
    reader: AtomicWaker,
}

/// The connection that it is made on.
#[derive(Debug)]
struct Held {
    socket: Box<dyn Duplex>,
    handshake: Arc<Handshake>,
    is_open: bool,
}

/// What a connection is made of.
trait Duplex: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Duplex for S {}

/// Whether a request wants another protocol, and has no body that would have to come first.
pub(super) fn is_asked_for(session: &mut Session) -> bool {
    session.req_header().headers.contains_key(UPGRADE) && session.is_body_empty()
}

impl Handshake {
    /// Makes the connection to `peer` one of its own that is never shared, and that begins with the
    /// introduction.
    pub(super) fn on(peer: &mut HttpPeer, introduction: Option<Introduction>) -> Arc<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let handshake = Arc::new(Self {
            socket: AtomicI32::new(NONE),
            is_asking: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        });
        peer.group_key ^= COUNT.fetch_add(1, Ordering::Relaxed) | 1 << 63;
        peer.options.idle_timeout = Some(Duration::ZERO);
        peer.options.custom_l4 = Some(Arc::new(Connector {
            handshake: handshake.clone(),
            introduction,
        }));
        handshake
    }

    /// The socket, which the framework does not know.
    pub(super) fn socket(&self) -> RawFd {
        self.socket.load(Ordering::Relaxed)
    }

    /// The request is about to be sent.
    pub(super) fn begin(&self) {
        self.is_asking.store(true, Ordering::Release);
    }

    /// The request's end is passed on before anything else happens in this task.
    pub(super) fn asked(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.reader.wake();
    }
}

#[derive(Debug)]
struct Connector {
    handshake: Arc<Handshake>,
    introduction: Option<Introduction>,
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let (mut socket, number): (Box<dyn Duplex>, RawFd) = match address {
            SocketAddr::Inet(address) => {
                let socket = connect(address, None).await?;
                let set = socket.set_nodelay(true);
                set.or_err(ErrorType::SocketError, "while a connection was set up")?;
                let number = socket.as_raw_fd();
                (Box::new(socket), number)
            }
            SocketAddr::Unix(address) => {
                let Some(path) = address.as_pathname() else {
                    return Err(Error::new_in(ErrorType::ConnectError));
                };
                let socket = connect_uds(path).await?;
                let number = socket.as_raw_fd();
                (Box::new(socket), number)
            }
        };
        if let Some(introduction) = &self.introduction {
            let sent = socket.write_all(introduction.bytes()).await;
            sent.or_err(ErrorType::ConnectError, "while the client was introduced")?;
        }
        self.handshake.socket.store(number, Ordering::Relaxed);
        let held = Held {
            socket,
            handshake: self.handshake.clone(),
            is_open: false,
        };
        Ok(VirtualSocketStream::new(Box::new(held)).into())
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.is_open && self.handshake.is_asking.load(Ordering::Acquire) {
            self.handshake.reader.register(context.waker());
            if !self.handshake.is_asked.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            // The end waits in a channel that is looked into in this same turn, as long as the
            // runtime lets this task go on. Next time it has been taken out.
            self.is_open = has_budget_remaining();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl VirtualSocket for Held {
    /// It is set up when it is made.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn held() -> (Stream, Arc<Handshake>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut peer = HttpPeer::new(address, false, String::new());
        let handshake = Handshake::on(&mut peer, None);
        let connector = peer.options.custom_l4.unwrap();
        let address = SocketAddr::Inet(address);
        let (near, far) = tokio::join!(connector.connect(&address), listener.accept());
        (near.unwrap(), handshake, far.unwrap().0)
    }

    #[tokio::test]
    async fn an_answer_is_held_back_until_the_request_has_ended() {
        let (mut near, handshake, mut far) = held().await;
        assert!(handshake.socket() > 0);
        // What comes before the request, such as TLS, is nobody's answer.
        far.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        near.read_exact(&mut bytes).await.unwrap();
        handshake.begin();
        far.write_all(b"early").await.unwrap();
        let _ = far.writable().await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
            assert!(near.read(&mut bytes).now_or_never().is_none());
        }
        handshake.asked();
        // Once more, so that whoever waits for the end has its turn.
        assert!(near.read(&mut bytes).now_or_never().is_none());
        assert_eq!(near.read_exact(&mut bytes).await.unwrap(), 5);
        assert_eq!(&bytes, b"early");
    }

    #[tokio::test]
    async fn a_turn_without_budget_does_not_count() {
        let (mut near, handshake, mut far) = held().await;
        handshake.begin();
        far.write_all(b"early").await.unwrap();
        handshake.asked();
        let mut bytes = [0; 5];
        std::future::poll_fn(|context| {
            while has_budget_remaining() {
                let mut spend = std::pin::pin!(tokio::task::consume_budget());
                let _ = spend.as_mut().poll(context);
            }
            for _ in 0..3 {
                let mut buffer = ReadBuf::new(&mut bytes);
                assert!(
                    Pin::new(&mut near)
                        .poll_read(context, &mut buffer)
                        .is_pending()
                );
            }
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        assert!(near.read(&mut bytes).now_or_never().is_none());
        near.read_exact(&mut bytes).await.unwrap();
    }

    #[test]
    fn no_two_share_a_connection() {
        let peer = || HttpPeer::new("127.0.0.1:1", false, String::new());
        let (mut one, mut two) = (peer(), peer());
        Handshake::on(&mut one, None);
        Handshake::on(&mut two, None);
        use pingora::upstreams::peer::Peer;
        assert_ne!(one.reuse_hash(), peer().reuse_hash());
        assert_ne!(one.reuse_hash(), two.reuse_hash());
    }
}
