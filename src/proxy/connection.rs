//! One client connection: what it knows across its requests, and the deadline it is held to.
//!
//! The framework times single reads and writes; what must end *as a whole* – a header that trickles
//! in, a backend that never answers – is timed here, by one timer for the connection that fires only
//! when something is late. A request costs it a few stores.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::HeaderValue;
use nix::sys::socket::{MsgFlags, recv};
use pingora::apps::ReusedHttpStream;
use tokio::time::Sleep;

/// No deadline.
const NEVER: u64 = u64::MAX;
/// How soon a backend is looked at again whose bytes wait for the client.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// No connection to a backend that could be cut.
const NO_UPSTREAM: RawFd = -1;

/// What is late when a deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Awaited {
    /// The first byte of a request: an idle connection is closed.
    Client,
    /// The rest of a request's header: a slow client is closed.
    Request,
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
    opened: Instant,
    /// Milliseconds after `opened`.
    deadline: AtomicU64,
    awaited: AtomicU8,
    upstream: AtomicI32,
    is_late: AtomicBool,
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
    /// A connection from `peer`, opened now. Peers on Unix sockets count as the local host.
    pub fn new(peer: Option<IpAddr>) -> Self {
        let peer = peer
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .to_canonical();
        Self {
            peer,
            peer_text: peer.to_string().into(),
            is_own: false,
            opened: Instant::now(),
            deadline: AtomicU64::new(NEVER),
            awaited: AtomicU8::new(Awaited::Client as u8),
            upstream: AtomicI32::new(NO_UPSTREAM),
            is_late: AtomicBool::new(false),
            memo: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// A connection of the process to itself, by which it sees whether it answers.
    pub fn own() -> Self {
        Self {
            is_own: true,
            ..Self::new(None)
        }
    }

    /// Whether it is the process itself that asks.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
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
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    /// A request has begun to come, and its header must end within `limit`.
    fn await_request(&self, limit: Duration) {
        self.awaited
            .store(Awaited::Request as u8, Ordering::Relaxed);
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    fn awaits(&self, awaited: Awaited) -> bool {
        self.awaited.load(Ordering::Relaxed) == awaited as u8
            && self.deadline.load(Ordering::Relaxed) != NEVER
    }

    /// The backend's response header must come by `deadline`, or [`Connection::is_late`].
    pub(super) fn await_response(&self, deadline: Option<Instant>) {
        self.awaited
            .store(Awaited::Response as u8, Ordering::Relaxed);
        self.set_deadline(deadline.map(|deadline| deadline.duration_since(self.opened)));
    }

    /// A part of the backend's response came; the next one must come within `limit`.
    pub(super) fn await_more(&self, now: Instant, limit: Option<Duration>) {
        let since_opened = now.saturating_duration_since(self.opened);
        self.set_deadline(limit.map(|limit| since_opened + limit));
    }

    /// A request came; what was late in the last one is forgotten.
    pub(super) fn request_came(&self) {
        self.arrived();
        self.is_late.store(false, Ordering::Relaxed);
    }

    /// What was awaited came.
    pub(super) fn arrived(&self) {
        self.set_deadline(None);
        self.upstream.store(NO_UPSTREAM, Ordering::Relaxed);
    }

    /// The socket to cut when the backend is late. It must be open until [`Connection::arrived`].
    pub(super) fn forwards_to(&self, upstream: RawFd) {
        self.is_late.store(false, Ordering::Relaxed);
        self.upstream.store(upstream, Ordering::Relaxed);
    }

    /// Whether the backend was cut off because it was late.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
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
        let millis = after_opened.map_or(NEVER, |after| {
            u64::try_from(after.as_millis()).unwrap_or(NEVER)
        });
        self.deadline.store(millis, Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Instant> {
        match self.deadline.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(self.opened + Duration::from_millis(millis)),
        }
    }
}

/// Runs a connection's work and holds it to the connection's deadline. Ends early when the client
/// is late.
pub struct Supervised<'a, F> {
    connection: &'a Connection,
    work: Pin<&'a mut F>,
    /// How long a request's header may take from its first byte.
    header_within: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    was_idle: bool,
}

/// How a client was late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It sent nothing.
    Idle,
    /// It sent a part of a request's header.
    Slow,
}

impl<'a, F> Supervised<'a, F> {
    /// Supervises `work`, which belongs to `connection`.
    pub fn new(connection: &'a Connection, work: Pin<&'a mut F>, header_within: Duration) -> Self {
        Self {
            connection,
            work,
            header_within,
            timer: None,
            was_idle: false,
        }
    }
}

impl<F: Future> Future for Supervised<'_, F> {
    type Output = Result<F::Output, Late>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(output) = self.work.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let Some(deadline) = self.connection.deadline() else {
                self.was_idle = false;
                return Poll::Pending;
            };
            if self.is_over(deadline, context) {
                if self.connection.awaits(Awaited::Client) {
                    return Poll::Ready(Err(Late::Idle));
                }
                if self.connection.awaits(Awaited::Request) {
                    return Poll::Ready(Err(Late::Slow));
                }
                self.cut_upstream();
                continue;
            }
            let is_idle = self.connection.awaits(Awaited::Client);
            if is_idle && self.was_idle && Instant::now() < deadline {
                // Something woke an idle connection, and no request came of it yet: its first bytes.
                self.was_idle = false;
                self.connection.await_request(self.header_within);
                continue;
            }
            self.was_idle = is_idle;
            return Poll::Pending;
        }
    }
}

impl<F> Supervised<'_, F> {
    /// Whether the deadline has passed. If not, the task will be woken when it does.
    fn is_over(&mut self, deadline: Instant, context: &mut Context<'_>) -> bool {
        let wake_at = tokio::time::Instant::from_std(deadline);
        let timer = match &mut self.timer {
            Some(timer) => timer,
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(wake_at))),
        };
        // An early timer is left alone: it is cheaper to let it fire in vain, once, than to move it
        // with each request.
        if timer.deadline() > wake_at {
            timer.as_mut().reset(wake_at);
        }
        if timer.as_mut().poll(context).is_pending() {
            return false;
        }
        if Instant::now() >= deadline {
            return true;
        }
        self.was_idle = false;
        timer.as_mut().reset(wake_at);
        timer.as_mut().poll(context).is_ready()
    }
}

impl<F> Supervised<'_, F> {
    /// Makes the work see the end of its connection to the backend. The work runs in this same task
    /// and has not said [`Connection::arrived`], so the socket is still its own.
    fn cut_upstream(&mut self) {
        let upstream = self.connection.upstream.load(Ordering::Relaxed);
        if upstream != NO_UPSTREAM && has_unread(upstream) {
            // The backend is not silent: the client takes its time to read, which has a limit of its
            // own.
            self.connection.await_more(Instant::now(), Some(LOOK_AGAIN));
            return;
        }
        self.connection.is_late.store(true, Ordering::Relaxed);
        self.connection.arrived();
        if upstream != NO_UPSTREAM
            && let Err(error) =
                nix::sys::socket::shutdown(upstream, nix::sys::socket::Shutdown::Both)
        {
            log::debug!("a late upstream connection was already closed: {error}");
        }
    }
}

/// Whether bytes have come that were not read yet.
fn has_unread(socket: RawFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(socket, &mut [0; 1], flags), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEADER: Duration = Duration::from_secs(3600);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        (client.unwrap(), server.unwrap().0)
    }

    #[tokio::test]
    async fn a_silent_client_is_closed() {
        let connection = Connection::new(None);
        connection.await_client(Duration::from_millis(20));
        let work = std::pin::pin!(std::future::pending::<()>());
        let supervised = Supervised::new(&connection, work, HEADER);
        assert_eq!(supervised.await, Err(Late::Idle));
    }

    #[tokio::test]
    async fn a_client_that_begins_and_does_not_end_is_slow() {
        let connection = Connection::new(None);
        connection.await_client(Duration::from_secs(3600));
        let (mut client, mut server) = pair().await;
        let work = std::pin::pin!(async {
            let mut header = [0; 10];
            server.read_exact(&mut header).await.unwrap();
        });
        let supervised = Supervised::new(&connection, work, Duration::from_millis(20));
        let (late, ()) = tokio::join!(supervised, async {
            tokio::task::yield_now().await;
            tokio::io::AsyncWriteExt::write_all(&mut client, b"GET")
                .await
                .unwrap();
        });
        assert_eq!(late, Err(Late::Slow));
    }

    #[tokio::test]
    async fn a_late_upstream_is_cut_and_the_work_goes_on() {
        let connection = Connection::new(None);
        let (mut upstream, _silent_peer) = pair().await;
        let work = std::pin::pin!(async {
            connection.forwards_to(upstream.as_raw_fd());
            connection.await_response(Some(Instant::now() + Duration::from_millis(20)));
            let read = upstream.read(&mut [0; 1]).await.unwrap();
            (read, connection.is_late())
        });
        let supervised = Supervised::new(&connection, work, HEADER);
        assert_eq!(supervised.await, Ok((0, true)));
    }

    #[tokio::test]
    async fn what_arrives_in_time_is_not_cut() {
        let connection = Connection::new(None);
        let work = std::pin::pin!(async {
            connection.await_client(Duration::from_millis(1));
            connection.arrived();
            // A later, longer deadline must not fire at the time of the first.
            connection.await_client(Duration::from_secs(3600));
            tokio::time::sleep(Duration::from_millis(20)).await;
            connection.arrived();
            tokio::time::sleep(Duration::from_millis(1)).await;
            connection.is_late()
        });
        let supervised = Supervised::new(&connection, work, HEADER);
        assert_eq!(supervised.await, Ok(false));
    }
}
