//! One client connection: what it knows across its requests. By when things have to happen on it is decided in
//! [`deadline`].

mod deadline;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::HeaderValue;
use pingora::apps::ReusedHttpStream;
use pingora::protocols::l4::ext::get_tcp_info;

pub(super) use self::deadline::Awaited;
use self::deadline::NEVER;
use crate::config::Address;
use crate::tls::{Channel, PeerCertificate};

/// No socket.
const NONE: RawFd = -1;
/// Bad credentials in a row that a connection may bring. The first can be one that has just expired.
const MOST_TRIES: u32 = 2;
/// `TCP_ESTABLISHED` of Linux.
const ESTABLISHED: u8 = 1;

/// What one client connection knows across its requests.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    peer_text: Box<str>,
    is_own: bool,
    /// Where it comes from and where it came in, if that is known with their ports.
    ends: Option<(SocketAddr, SocketAddr)>,
    /// How it is encrypted, if it is, and at which address of the machine that came in.
    channel: Option<Arc<Channel>>,
    local: Option<Address>,
    /// The port at which clients find the same encrypted, if they are only told so.
    redirects_to: Option<u16>,
    opened: Instant,
    /// Milliseconds after `opened`.
    deadline: AtomicU64,
    /// No later deadline holds: milliseconds after `opened`.
    last: AtomicU64,
    awaited: AtomicU8,
    /// How often a request was awaited.
    turn: AtomicU32,
    /// Until when the gateway itself waits, in milliseconds after `opened`; 0 if it does not.
    paused: AtomicU64,
    client: RawFd,
    upstream: AtomicI32,
    is_late: AtomicBool,
    is_client_late: AtomicBool,
    is_expired: AtomicBool,
    /// Bad credentials that came since the last good one.
    tries: AtomicU32,
    /// Whether the request that was answered last is to be the last one.
    is_ending: AtomicBool,
    /// What this is a stream of, if it is one.
    whole: Option<Arc<Self>>,
    memo: Mutex<ForwardingMemo>,
    kept: Mutex<Option<ReusedHttpStream>>,
}

/// The forwarding fields of the last request, since the next one's are mostly the same.
#[derive(Debug, Default)]
pub(super) struct ForwardingMemo {
    pub(super) client: Option<HeaderValue>,
    pub(super) host: Option<HeaderValue>,
    pub(super) forwarded: Option<HeaderValue>,
}

impl Connection {
    /// A connection from `peer` on this socket, opened now. Peers on Unix sockets count as the local host.
    pub fn new(peer: Option<IpAddr>, client: RawFd) -> Self {
        let peer = peer
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .to_canonical();
        Self {
            peer,
            peer_text: peer.to_string().into(),
            is_own: false,
            ends: None,
            channel: None,
            local: None,
            redirects_to: None,
            opened: Instant::now(),
            deadline: AtomicU64::new(NEVER),
            last: AtomicU64::new(NEVER),
            awaited: AtomicU8::new(Awaited::Client as u8),
            turn: AtomicU32::new(0),
            paused: AtomicU64::new(0),
            client,
            upstream: AtomicI32::new(NONE),
            is_late: AtomicBool::new(false),
            is_client_late: AtomicBool::new(false),
            is_expired: AtomicBool::new(false),
            tries: AtomicU32::new(0),
            is_ending: AtomicBool::new(false),
            whole: None,
            memo: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The same, of which these are the ends: the client's and the gateway's.
    #[must_use]
    pub fn between(self, ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        Self { ends, ..self }
    }

    /// The same, encrypted, at this address of the machine.
    #[must_use]
    pub fn encrypted(self, channel: Channel, local: Option<Address>) -> Self {
        Self {
            channel: Some(Arc::new(channel)),
            local,
            ..self
        }
    }

    /// The same, on which requests are only told where to go.
    #[must_use]
    pub fn redirecting(self, redirects_to: Option<u16>) -> Self {
        Self {
            redirects_to,
            ..self
        }
    }

    /// One of the streams on a connection that has several at once, with deadlines of its own. It can't tell
    /// whether the client has gone.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> Self {
        Self {
            ends: self.ends,
            channel: self.channel.clone(),
            local: self.local.clone(),
            redirects_to: self.redirects_to,
            whole: Some(self.clone()),
            ..Self::new(Some(self.peer), NONE)
        }
    }

    /// A connection of the process to itself, by which it sees whether it answers.
    pub fn own() -> Self {
        Self {
            is_own: true,
            ..Self::new(None, NONE)
        }
    }

    /// Whether it is the process itself that asks.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// The port at which clients find the same encrypted, if they are only told so.
    pub(super) fn redirects_to(&self) -> Option<u16> {
        self.redirects_to
    }

    /// How it is encrypted, if it is.
    pub fn channel(&self) -> Option<&Channel> {
        self.channel.as_deref()
    }

    /// The client's end and the gateway's, if they are known.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// The address of the machine that it came in at, if it is encrypted.
    pub(super) fn local(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// The certificate that its client has shown, if it has.
    pub(super) fn certificate(&self) -> Option<&PeerCertificate> {
        self.channel()?.shown()
    }

    /// The address at the other end.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The address at the other end as text.
    pub(super) fn peer_text(&self) -> &str {
        &self.peer_text
    }

    /// Whether the client has closed the connection, even if something that it sent is still to be read.
    pub(super) fn is_client_gone(&self) -> bool {
        get_tcp_info(self.client).is_ok_and(|info| info.tcpi_state != ESTABLISHED)
    }

    /// Whether it is one of several on a connection.
    pub(super) fn is_stream(&self) -> bool {
        self.whole.is_some()
    }

    /// No more requests are taken on it.
    pub(super) fn end(&self) {
        self.whole().is_ending.store(true, Ordering::Relaxed);
    }

    /// Whether no more requests are taken on it.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    fn whole(&self) -> &Self {
        self.whole.as_deref().unwrap_or(self)
    }

    /// A good credential came.
    pub(super) fn credential_passed(&self) {
        self.whole().tries.store(0, Ordering::Relaxed);
    }

    /// A bad credential came. Whether it was one too many.
    pub(super) fn credential_failed(&self) -> bool {
        let before = self.whole().tries.fetch_add(1, Ordering::Relaxed);
        before + 1 >= MOST_TRIES
    }

    /// Looks at the forwarding fields of the last request.
    pub(super) fn with_memo<R>(&self, f: impl FnOnce(&mut ForwardingMemo) -> R) -> R {
        // Never contended: the requests of an HTTP/1 connection follow each other.
        f(&mut self.memo.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the client's stream for its next request, although the framework gives it up.
    pub(super) fn keep(&self, stream: ReusedHttpStream) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// The stream that was kept, if any.
    pub fn take_kept(&self) -> Option<ReusedHttpStream> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_client_is_gone_when_it_has_closed_whatever_it_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, server) = (client.unwrap(), server.unwrap().0);
        let connection = Connection::new(None, server.as_raw_fd());
        client.write_all(b"GET").await.unwrap();
        assert!(!connection.is_client_gone());
        drop(client);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !connection.is_client_gone() {
            assert!(Instant::now() < deadline, "nobody notices");
            tokio::task::yield_now().await;
        }
        assert!(!Connection::own().is_client_gone());
    }
}
