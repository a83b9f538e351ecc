//! HTTP/2 with clients: many requests at once on one connection, each as it would be on a connection of its own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, handshake};
use pingora::protocols::{Digest, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::Notify;

use super::websocket::{self, Wish};
use crate::proxy::{Connection, Gateway, Supervised};
use crate::snapshot::{Bounds, ClientTimeouts};

/// Requests at once on one connection; RFC 9113 §6.5.2 recommends no fewer.
const MOST_STREAMS: u32 = 100;
/// Bytes that a client may send of one request's body before they are taken, and of all on its connection.
/// They bound what the gateway holds for it.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long a client that was told of the end is given for a request that was already on its way.
const LINGER: Duration = Duration::from_secs(1);
/// Malformed requests on a connection before it is closed.
const MOST_MALFORMED: u32 = 32;

/// The first bytes of a client that speaks HTTP/2 and was not asked (RFC 9113 §3.4). No method of HTTP/1 has
/// this name (§11.6), and no request is shorter, so nobody is kept waiting for more.
const BEGINNING: &[u8; 4] = b"PRI ";

/// The requests of a connection that are under way. One that its client has reset is so until what was begun
/// for it has ended, so that resets don't make room for more ("rapid reset", CVE-2023-44487).
#[derive(Default)]
struct UnderWay {
    count: AtomicUsize,
    none: Notify,
    room: Notify,
}

/// One of them.
struct Guard(Arc<UnderWay>);

impl UnderWay {
    fn begin(self: &Arc<Self>) -> Guard {
        self.count.fetch_add(1, Ordering::Relaxed);
        Guard(self.clone())
    }

    /// There are not too many for another one.
    async fn room(&self) {
        while self.count.load(Ordering::Relaxed) >= MOST_STREAMS as usize {
            self.room.notified().await;
        }
    }

    /// There has been none for so long.
    async fn idle(&self, limit: Duration) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.none.notified().await;
        }
        tokio::time::sleep(limit).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
        self.0.room.notify_one();
    }
}

/// Whether a client speaks HTTP/2, by its first bytes, which are still to be read afterwards. `None` if it has
/// gone.
pub(super) async fn is_spoken(stream: &mut Stream) -> Option<bool> {
    let mut first = [0; BEGINNING.len()];
    let is_there = stream.try_peek(&mut first).await.ok()?;
    Some(is_there && first == *BEGINNING)
}

/// Serves a connection until it ends, or until the process does and its last request has been answered.
pub(super) async fn serve(
    proxy: &Arc<HttpProxy<Gateway>>,
    stream: Stream,
    connection: &Arc<Connection>,
    (timeouts, bounds): (ClientTimeouts, Bounds),
    shutdown: &ShutdownWatch,
) {
    let digest = Arc::new(Digest {
        socket_digest: stream.get_socket_digest(),
        ..Digest::default()
    });
    let begun = handshake(stream, Some(options(bounds)));
    let Some(Ok(mut client)) = within(timeouts.request_header, begun).await else {
        return;
    };
    let under_way = Arc::new(UnderWay::default());
    let mut is_ending = false;
    let mut ending = shutdown.clone();
    let (mut malformed, mut late) = (0, 0);
    loop {
        if connection.is_ending() && !is_ending {
            client.graceful_shutdown();
            is_ending = true;
        }
        tokio::select! {
            biased;
            () = under_way.room() => {}
            // What is under way goes on.
            _ = std::future::poll_fn(|context| client.poll_closed(context)) => return,
        }
        let accepted = tokio::select! {
            biased;
            _ = ending.wait_for(|it| *it), if !is_ending => {
                // What the client sends until it knows is answered yet.
                client.graceful_shutdown();
                is_ending = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut client, digest.clone()) => accepted,
            () = under_way.idle(if is_ending { LINGER } else { timeouts.keepalive }) => {
                if is_ending {
                    return;
                }
                client.graceful_shutdown();
                is_ending = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                // Who has been told to go may have sent so many before he knew.
                late += u32::from(connection.is_ending());
                if late > MOST_STREAMS {
                    return;
                }
                let wish = Wish::of(session.req_header());
                let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
                let stream = connection.stream();
                let guard = under_way.begin();
                tokio::spawn(async move {
                    match wish {
                        Wish::Nothing => answer(proxy, session, stream, timeouts, shutdown).await,
                        Wish::WebSocket => {
                            websocket::serve(proxy, session, stream, timeouts, shutdown).await;
                        }
                        Wish::Unknown => websocket::refuse(session),
                    }
                    drop(guard);
                });
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed >= MOST_MALFORMED {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return log::debug!("an HTTP/2 connection ended: {error}"),
        }
    }
}

/// Answers one request.
async fn answer(
    proxy: Arc<HttpProxy<Gateway>>,
    mut session: HttpSession,
    connection: Connection,
    timeouts: ClientTimeouts,
    shutdown: ShutdownWatch,
) {
    let connection = Arc::new(connection);
    let request = session.req_header_mut();
    request.extensions_mut().insert(connection.clone());
    let session = ServerSession::new_http2(session);
    let work = std::pin::pin!(proxy.process_new_http(session, &shutdown));
    // Only a client could be late, and its header is here.
    let _ = Supervised::new(&connection, work, timeouts.request_header).await;
}

fn options(bounds: Bounds) -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(MOST_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_list(bounds))
        .enable_connect_protocol();
    options
}

/// As HTTP/2 counts header fields (RFC 9113 §6.5.2): with 32 bytes for each, and the target among them. What
/// is within the gateway's bounds must not be refused here already.
fn header_list(bounds: Bounds) -> u32 {
    let size = bounds.header_size + bounds.uri + 32 * (bounds.headers + 4);
    u32::try_from(size).unwrap_or(u32::MAX)
}

async fn within<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    tokio::time::timeout(limit, work).await.ok()
}
