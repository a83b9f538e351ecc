//! One client connection: what it knows across its requests, and the deadline it is held to.
//!
//! It is held to it by [`Supervised`](super::supervised::Supervised). A request costs it a few stores.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::apps::ReusedHttpStream;
use pingora::protocols::l4::ext::get_tcp_info;

use crate::config::Address;
use crate::tls::{Channel, PeerCertificate};

/// No deadline.
const NEVER: u64 = u64::MAX;
/// No socket.
const NONE: RawFd = -1;
/// Bad credentials in a row that a connection may bring. The first can be one that has just expired.
const MOST_TRIES: u32 = 2;
/// `TCP_ESTABLISHED` of Linux.
const ESTABLISHED: u8 = 1;

/// What is late when a deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaited {
    /// The first byte of a request: an idle connection is closed.
    Client,
    /// The rest of a request's header: a slow client is closed.
    Request,
    /// More of the request's body, on a stream of HTTP/2: the connection to the backend is cut, and the request
    /// fails as one whose client took too long.
    Body,
    /// The backend's response header, or more of its body: the connection to the backend is cut, and
    /// the request fails as one whose backend took too long.
    Response,
}

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

    /// From now on the first byte of a request must come within `limit`.
    pub fn await_client(&self, limit: Duration) {
        self.awaited.store(Awaited::Client as u8, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    /// A request has begun to come, and its header must end within `limit`.
    pub(super) fn await_request(&self, limit: Duration) {
        self.awaited
            .store(Awaited::Request as u8, Ordering::Relaxed);
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    /// The number of the wait for a request, if one is awaited.
    pub(super) fn idle_turn(&self) -> Option<u32> {
        self.awaits(Awaited::Client)
            .then(|| self.turn.load(Ordering::Relaxed))
    }

    /// Whether this is awaited by a deadline.
    pub(super) fn awaits(&self, awaited: Awaited) -> bool {
        self.awaited.load(Ordering::Relaxed) == awaited as u8
            && self.deadline.load(Ordering::Relaxed) != NEVER
    }

    /// The backend's response header must come by `deadline`, or [`Connection::is_late`].
    pub(super) fn await_response(&self, deadline: Option<Instant>) {
        self.awaited
            .store(Awaited::Response as u8, Ordering::Relaxed);
        self.set_deadline(deadline.map(|deadline| deadline.duration_since(self.opened)));
    }

    /// More of the request's body must come within `limit`, or [`Connection::is_client_late`].
    pub(super) fn await_body(&self, limit: Option<Duration>) {
        self.awaited.store(Awaited::Body as u8, Ordering::Relaxed);
        self.set_deadline(limit.map(|limit| self.opened.elapsed() + limit));
    }

    /// A part of the backend's response came; the next one must come within `limit`.
    pub(super) fn await_more(&self, now: Instant, limit: Option<Duration>) {
        let since_opened = now.saturating_duration_since(self.opened);
        self.awaited
            .store(Awaited::Response as u8, Ordering::Relaxed);
        self.set_deadline(limit.map(|limit| since_opened + limit));
    }

    /// Whatever happens, it is over after `limit`.
    pub(super) fn ends_after(&self, limit: Duration) {
        let last = millis(self.opened.elapsed() + limit);
        self.last.store(last, Ordering::Relaxed);
    }

    /// Whether it has been there for as long as it may.
    pub(super) fn is_over(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != NEVER && millis(self.opened.elapsed()) >= last
    }

    /// Nothing is done for the client for so long, unless it goes away. What is awaited of others may come
    /// as much later.
    pub(super) fn pause(&self, wait: Duration) {
        let wait = millis(wait) + 1;
        let until = millis(self.opened.elapsed()).saturating_add(wait);
        self.paused.store(until, Ordering::Relaxed);
        let deadline = self.deadline.load(Ordering::Relaxed);
        self.deadline
            .store(deadline.saturating_add(wait), Ordering::Relaxed);
    }

    /// Until when nothing is done for the client.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let until = self.paused.load(Ordering::Relaxed);
        (until > 0).then(|| self.opened + Duration::from_millis(until))
    }

    /// The pause is over.
    pub(super) fn resume(&self) {
        self.paused.store(0, Ordering::Relaxed);
    }

    /// Whether the client has closed the connection, even if something that it sent is still to be read.
    pub(super) fn is_client_gone(&self) -> bool {
        get_tcp_info(self.client).is_ok_and(|info| info.tcpi_state != ESTABLISHED)
    }

    /// A request came; what was late in the last one is forgotten.
    pub(super) fn request_came(&self) {
        self.arrived();
        self.is_late.store(false, Ordering::Relaxed);
        self.is_client_late.store(false, Ordering::Relaxed);
        self.is_expired.store(false, Ordering::Relaxed);
    }

    /// What was awaited came.
    pub(super) fn arrived(&self) {
        self.last.store(NEVER, Ordering::Relaxed);
        self.set_deadline(None);
        self.upstream.store(NONE, Ordering::Relaxed);
    }

    /// The socket to cut when the backend is late. It must be open until [`Connection::arrived`].
    pub(super) fn forwards_to(&self, upstream: RawFd) {
        self.is_late.store(false, Ordering::Relaxed);
        self.upstream.store(upstream, Ordering::Relaxed);
    }

    /// The socket of the connection to the backend, if there is one that could be cut.
    pub(super) fn upstream(&self) -> Option<RawFd> {
        let upstream = self.upstream.load(Ordering::Relaxed);
        (upstream != NONE).then_some(upstream)
    }

    /// The backend is late.
    pub(super) fn upstream_is_late(&self) {
        self.is_late.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// The client is late with its body.
    pub(super) fn client_is_late(&self) {
        self.is_client_late.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// Whether the backend was cut off because the client was late with its body.
    pub(super) fn is_client_late(&self) -> bool {
        self.is_client_late.load(Ordering::Relaxed)
    }

    /// It ends, since it has been there for as long as it may.
    pub(super) fn expires(&self) {
        self.is_expired.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// Whether it was ended for that.
    pub(super) fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::Relaxed)
    }

    /// Whether it is one of several on a connection.
    pub(super) fn is_stream(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether the backend was cut off because it was late.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
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

    fn set_deadline(&self, after_opened: Option<Duration>) {
        let deadline = after_opened.map_or(NEVER, millis);
        let deadline = deadline.min(self.last.load(Ordering::Relaxed));
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// When what is awaited is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.deadline.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(self.opened + Duration::from_millis(millis)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

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
