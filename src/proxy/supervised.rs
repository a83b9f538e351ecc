//! Holds client connections to their deadlines.
//!
//! The framework times single reads and writes; what must end *as a whole* – a header that trickles
//! in, a backend that never answers – is timed here, by one timer for the connection that fires only
//! when something is late. Where the gateway itself has to wait, the connection's work rests.

use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use tokio::time::Sleep;

use super::connection::{Awaited, Connection};

/// How soon a backend is looked at again whose bytes wait for the client, and a client that waits for the
/// gateway.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs a connection's work and holds it to the connection's deadline. Ends early when the client
/// is late.
pub struct Supervised<'a, F> {
    connection: &'a Connection,
    work: Pin<&'a mut F>,
    /// How long a request's header may take from its first byte.
    header_within: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The turn of the request that was awaited when the connection last had nothing to do.
    idle_in: Option<u32>,
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
            idle_in: None,
        }
    }
}

impl<F: Future> Future for Supervised<'_, F> {
    type Output = Result<F::Output, Late>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if self.is_paused(context) {
                return Poll::Pending;
            }
            if let Poll::Ready(output) = self.work.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.connection.paused_until().is_some() {
                continue;
            }
            let Some(deadline) = self.connection.deadline() else {
                self.idle_in = None;
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
            let turn = self.connection.idle_turn();
            if turn.is_some() && self.idle_in == turn && Instant::now() < deadline {
                // Something woke an idle connection, and no request came of it yet: its first bytes.
                self.idle_in = None;
                self.connection.await_request(self.header_within);
                continue;
            }
            self.idle_in = turn;
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
        self.idle_in = None;
        timer.as_mut().reset(wake_at);
        timer.as_mut().poll(context).is_ready()
    }

    /// Whether the work rests. The task will be woken when it no longer does.
    fn is_paused(&mut self, context: &mut Context<'_>) -> bool {
        while let Some(until) = self.connection.paused_until() {
            let now = Instant::now();
            if now >= until || self.connection.is_client_gone() {
                self.connection.resume();
            } else if !self.is_over(until.min(now + LOOK_AGAIN), context) {
                return true;
            }
        }
        false
    }

    /// Makes the work see the end of its connection to the backend. The work runs in this same task
    /// and has not said [`Connection::arrived`], so the socket is still its own.
    fn cut_upstream(&mut self) {
        let upstream = self.connection.upstream();
        if self.connection.awaits(Awaited::Body) {
            self.connection.client_is_late();
            return cut(upstream);
        }
        if self.connection.is_over() {
            self.connection.expires();
            return cut(upstream);
        }
        if upstream.is_some_and(has_unread) {
            // The backend is not silent: the client takes its time to read, which has a limit of its
            // own.
            self.connection.await_more(Instant::now(), Some(LOOK_AGAIN));
            return;
        }
        self.connection.upstream_is_late();
        cut(upstream);
    }
}

fn cut(upstream: Option<RawFd>) {
    if let Some(upstream) = upstream
        && let Err(error) = nix::sys::socket::shutdown(upstream, nix::sys::socket::Shutdown::Both)
    {
        log::debug!("a late upstream connection was already closed: {error}");
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

    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const HEADER: Duration = Duration::from_secs(3600);
    const NOBODY: RawFd = -1;

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
        let connection = Connection::new(None, NOBODY);
        connection.await_client(Duration::from_millis(20));
        let work = std::pin::pin!(std::future::pending::<()>());
        let supervised = Supervised::new(&connection, work, HEADER);
        assert_eq!(supervised.await, Err(Late::Idle));
    }

    #[tokio::test]
    async fn a_client_that_begins_and_does_not_end_is_slow() {
        let connection = Connection::new(None, NOBODY);
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
    async fn a_client_is_idle_again_after_a_request_that_was_answered_at_once() {
        let connection = Connection::new(None, NOBODY);
        let (mut client, mut server) = pair().await;
        let work = std::pin::pin!(async {
            loop {
                connection.await_client(Duration::from_millis(20));
                server.read_exact(&mut [0; 3]).await.unwrap();
            }
        });
        // On its own task: whatever polls the work of an idle connection counts as a first byte.
        let sent = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut client, b"GET")
                .await
                .unwrap();
            client
        });
        let supervised = Supervised::new(&connection, work, HEADER);
        let late: Result<Result<(), _>, _> =
            tokio::time::timeout(Duration::from_secs(30), supervised).await;
        drop(sent);
        assert_eq!(late.unwrap(), Err(Late::Idle));
    }

    #[tokio::test]
    async fn a_late_upstream_is_cut_and_the_work_goes_on() {
        let connection = Connection::new(None, NOBODY);
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
    async fn a_backend_is_cut_off_whose_client_does_not_send_on() {
        let connection = Connection::new(None, NOBODY);
        let (mut upstream, _patient_peer) = pair().await;
        let work = std::pin::pin!(async {
            connection.forwards_to(upstream.as_raw_fd());
            connection.await_body(Some(Duration::from_millis(20)));
            let read = upstream.read(&mut [0; 1]).await.unwrap();
            (read, connection.is_client_late(), connection.is_late())
        });
        let supervised = Supervised::new(&connection, work, HEADER);
        assert_eq!(supervised.await, Ok((0, true, false)));
    }

    #[tokio::test]
    async fn what_may_not_last_any_longer_ends_however_busy_it_is() {
        let connection = Connection::new(None, NOBODY);
        let (mut upstream, mut peer) = pair().await;
        let work = std::pin::pin!(async {
            connection.forwards_to(upstream.as_raw_fd());
            connection.ends_after(Duration::from_millis(50));
            let mut count = 0;
            while matches!(upstream.read(&mut [0; 1]).await, Ok(1..)) {
                connection.await_more(Instant::now(), Some(Duration::from_secs(3600)));
                count += 1;
            }
            (count, connection.is_expired(), connection.is_late())
        });
        let busy = tokio::spawn(async move {
            while tokio::io::AsyncWriteExt::write_all(&mut peer, b"x")
                .await
                .is_ok()
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let supervised = Supervised::new(&connection, work, HEADER);
        let (count, is_expired, is_late) = supervised.await.unwrap();
        assert!(count > 0 && is_expired && !is_late, "{count}");
        busy.abort();
    }

    #[tokio::test]
    async fn what_arrives_in_time_is_not_cut() {
        let connection = Connection::new(None, NOBODY);
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

    #[tokio::test]
    async fn a_paused_connection_rests_until_its_time_is_over() {
        let (_client, server) = pair().await;
        let connection = Connection::new(None, server.as_raw_fd());
        let pause = Duration::from_millis(50);
        let begun = Instant::now();
        connection.pause(pause);
        let work = std::pin::pin!(async {
            let first = begun.elapsed();
            connection.pause(pause);
            tokio::time::sleep(Duration::from_millis(1)).await;
            (first, begun.elapsed())
        });
        let (first, second) = Supervised::new(&connection, work, HEADER).await.unwrap();
        assert!(
            first >= pause && second >= 2 * pause,
            "{first:?} {second:?}"
        );
        assert_eq!(connection.paused_until(), None);
    }

    #[tokio::test]
    async fn a_pause_ends_with_its_client() {
        let (client, server) = pair().await;
        let connection = Connection::new(None, server.as_raw_fd());
        connection.pause(Duration::from_secs(3600));
        let work = std::pin::pin!(std::future::ready(()));
        let mut supervised = std::pin::pin!(Supervised::new(&connection, work, HEADER));
        assert!(supervised.as_mut().now_or_never().is_none());
        drop(client);
        assert_eq!(supervised.await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_awaited_may_come_later_by_the_pause() {
        let connection = Connection::new(None, NOBODY);
        let deadline = Instant::now() + Duration::from_secs(5);
        connection.await_response(Some(deadline));
        connection.pause(Duration::from_secs(60));
        assert!(connection.deadline().unwrap() >= deadline + Duration::from_secs(60));
        connection.arrived();
        connection.pause(Duration::from_secs(60));
        assert_eq!(connection.deadline(), None);
    }
}
