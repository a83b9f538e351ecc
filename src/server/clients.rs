//! Client connections: how long each may take, and one request after another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::socket::{MsgFlags, send};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::http2;
use super::introduction::{self, Origin, Unintroduced};
use super::open_connections::OpenConnections;
use super::refusals::Refusals;
use crate::config::Address;
use crate::proxy::{Connection, Gateway, Late, Level, Pressure, Supervised};
use crate::snapshot::{ClientTimeouts, Listener, Listeners, ProxyProtocol, Snapshot, Store};
use crate::telemetry::{Handshakes, NoHandshake};
use crate::tls::{BadCertificate, Channel, Refused, Tls};

/// How long idle connections are kept after the listeners have closed, for requests that are already
/// on their way.
const LINGER: Duration = Duration::from_secs(1);
/// What a client is told whose request header did not come in time.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What the process asks itself.
const CHECK: &[u8] = b"GET / HTTP/1.1\r\nHost: tollgate\r\nConnection: close\r\n\r\n";

/// Serves client connections.
#[derive(Clone)]
pub(super) struct Clients {
    proxy: Arc<HttpProxy<Gateway>>,
    snapshots: Arc<Store>,
    open: Arc<OpenConnections>,
    pressure: Arc<Pressure>,
    /// Those that the process listens at, whatever the configuration says by now.
    listeners: Listeners,
    /// For signatures of handshakes.
    turns: Arc<Semaphore>,
    handshakes: Handshakes,
    /// Certificates of clients that were refused.
    refusals: Arc<Refusals>,
}

impl Clients {
    pub(super) fn new(
        proxy: HttpProxy<Gateway>,
        snapshots: Arc<Store>,
        open: Arc<OpenConnections>,
        pressure: Arc<Pressure>,
        handshakes: Handshakes,
    ) -> Self {
        let snapshot = snapshots.load();
        Self {
            proxy: Arc::new(proxy),
            listeners: snapshot.listeners.clone(),
            turns: Arc::new(Semaphore::new(snapshot.settings.threads)),
            snapshots,
            open,
            pressure,
            handshakes,
            refusals: Arc::default(),
        }
    }

    /// Whether nothing more is read from an address, which is counted.
    fn is_throttled(&self, client: IpAddr, snapshot: &Snapshot) -> bool {
        let is_unwelcome = is_unwelcome(client, snapshot);
        if is_unwelcome {
            self.open.throttled.fetch_add(1, Ordering::Relaxed);
            log::debug!("a connection was refused for bad credentials: client={client}");
        }
        is_unwelcome
    }

    /// Encrypts a connection, unless the client does not manage to.
    async fn encrypt(&self, stream: Stream, tls: &Tls, peer: IpAddr) -> Option<(Stream, Channel)> {
        match tls.accept(stream, &self.turns).await {
            Ok((stream, channel)) => {
                self.handshakes.done(channel.is_tls13, channel.is_resumed);
                Some((stream, channel))
            }
            Err(refused) => {
                log::debug!("no handshake with {peer}: {refused}");
                let why = reason(&refused)?;
                self.handshakes.failed(why);
                if let Refused::Certificate(_, error) = refused
                    && let Some(unsaid) = self.refusals.say(Instant::now())
                {
                    let reason = why.word();
                    log::warn!(
                        "client certificate refused: client={peer} reason={reason} unsaid={unsaid}: {error}"
                    );
                }
                None
            }
        }
    }

    /// Where a connection came in.
    fn listener<'s>(&'s self, stream: &Stream, snapshot: &'s Snapshot) -> Option<&'s Listener> {
        if snapshot.listeners.are_alike() && self.listeners.are_alike() {
            return None;
        }
        let local = local(stream)?;
        snapshot
            .listeners
            .at(&local)
            .or_else(|| self.listeners.at(&local))
    }

    /// What a load balancer says of where a connection comes from, or `None` if it can't be believed.
    async fn introduced(
        &self,
        stream: &mut Stream,
        rule: &ProxyProtocol,
        balancer: IpAddr,
    ) -> Option<Origin> {
        let read = introduction::read(stream);
        let read = tokio::time::timeout(rule.timeout, read).await;
        read.unwrap_or(Err(Unintroduced::Slow))
            .inspect_err(|reason| {
                self.open.unintroduced.fetch_add(1, Ordering::Relaxed);
                log::debug!("a header of the PROXY protocol from {balancer} was refused: {reason}");
            })
            .ok()
    }

    /// Asks itself for an answer, through its own workers, as a client would.
    ///
    /// # Errors
    /// When there is none within `patience`.
    pub(super) async fn check(&self, workers: &Handle, patience: Duration) -> std::io::Result<()> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
        }
        let proxy = self.proxy.clone();
        workers.spawn(async move {
            let stream = match UnixStream::from_std(theirs) {
                Ok(stream) => stream,
                Err(error) => return log::error!("a worker can't serve: {error}"),
            };
            let connection = Arc::new(Connection::own());
            let session = session(Box::new(L4Stream::from(stream)), None, &connection);
            // This one ends by itself, whatever the process does.
            let (_ending, shutdown) = watch::channel(false);
            proxy.process_new_http(session, &shutdown).await;
        });
        let mut ours = UnixStream::from_std(ours)?;
        let exchange = async {
            ours.write_all(CHECK).await?;
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).await?;
            if answer.starts_with(b"HTTP/1.1 204 ") {
                return Ok(());
            }
            let answer = String::from_utf8_lossy(&answer);
            Err(std::io::Error::other(format!("it answered {answer:?}")))
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::other(format!(
                "it did not answer within {patience:?}"
            ))),
        }
    }

    /// Serves the requests of one connection, one after another. Returns its stream if its client speaks
    /// HTTP/2, which it may.
    async fn serve(
        &self,
        mut stream: Stream,
        connection: &Arc<Connection>,
        (timeouts, may_be_http2): (ClientTimeouts, bool),
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut idle_for = timeouts.request_header;
        connection.await_client(idle_for);
        if may_be_http2 && http2::is_spoken(&mut stream).await? {
            return Some(stream);
        }
        let mut next = (stream, None);
        loop {
            connection.await_client(idle_for);
            let session = session(next.0, next.1, connection);
            let served = self.proxy.process_new_http(session, shutdown).await;
            next = served.or_else(|| connection.take_kept())?.consume();
            idle_for = timeouts.keepalive;
        }
    }
}

/// What a failed handshake is counted as; `None` if it did what it was for.
fn reason(refused: &Refused) -> Option<NoHandshake> {
    Some(match refused {
        Refused::Proved => return None,
        Refused::Slow => NoHandshake::Slow,
        Refused::Gone(_) => NoHandshake::Gone,
        Refused::NotTls => NoHandshake::NotTls,
        Refused::Failed(_) => NoHandshake::Failed,
        Refused::Certificate(bad, _) => match bad {
            BadCertificate::Missing => NoHandshake::Certificateless,
            BadCertificate::Expired => NoHandshake::Expired,
            BadCertificate::Revoked => NoHandshake::Revoked,
            BadCertificate::UnknownIssuer => NoHandshake::UnknownIssuer,
            BadCertificate::UnknownStatus => NoHandshake::UnknownStatus,
            BadCertificate::Invalid => NoHandshake::BadCertificate,
        },
    })
}

/// The next request of a connection. `settings` are what the last one left.
fn session(
    stream: Stream,
    settings: Option<HttpPersistentSettings>,
    connection: &Arc<Connection>,
) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    match settings {
        Some(settings) => settings.apply_to_session(&mut session),
        // Silence is timed by the connection's own deadline, which costs a request no timer.
        None => session.set_keepalive(Some(0)),
    }
    // A request that comes while another is answered waits its turn (RFC 9112 §9.3.2).
    session.set_pipelining_enabled(true);
    session.set_connection_user_context(Some(Box::new(connection.clone())));
    session
}

/// Whether so many bad credentials came from an address that nothing more is read from it.
fn is_unwelcome(peer: IpAddr, snapshot: &Snapshot) -> bool {
    let failures = snapshot.auth_failures.as_ref();
    failures.is_some_and(|it| it.refuses_connection(Instant::now(), peer))
        && !snapshot.trusted_proxies.contains(peer)
}

/// The ends of a connection over the network: the peer's and ours.
fn ends(stream: &Stream) -> Option<(SocketAddr, SocketAddr)> {
    let digest = stream.get_socket_digest()?;
    let peer = *digest.peer_addr()?.as_inet()?;
    Some((peer, *digest.local_addr()?.as_inet()?))
}

/// The address that a connection came in at.
fn local(stream: &Stream) -> Option<Address> {
    let digest = stream.get_socket_digest()?;
    let local = digest.local_addr()?;
    match local.as_inet() {
        Some(address) => Some(Address::Inet(*address)),
        None => Some(Address::Unix(local.as_unix()?.as_pathname()?.to_owned())),
    }
}

#[async_trait]
impl ServerApp for Clients {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let snapshot = self.snapshots.load();
        let timeouts = snapshot.settings.timeouts;
        let bounds = snapshot.settings.bounds;
        // What is left is for connections to backends.
        if self.pressure.level() == Level::Most {
            self.open.shed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut ends = ends(&stream);
        let own = Ipv4Addr::LOCALHOST.into();
        let sender = ends.map_or(own, |(peer, _)| peer.ip().to_canonical());
        let listener = self.listener(&stream, &snapshot);
        let rule = listener.and_then(|it| it.proxy_protocol.as_ref());
        let rule = rule.filter(|rule| rule.is_from(sender));
        if rule.is_none() && self.is_throttled(sender, &snapshot) {
            return None;
        }
        let _seat = self.open.enter(snapshot.settings.connections)?;
        let socket: RawFd = stream.id();
        let mut stream = stream;
        if let Some(rule) = rule {
            if let Origin::Client(client, ours) = self.introduced(&mut stream, rule, sender).await?
            {
                ends = Some((client, ours));
            }
            let client = ends.map_or(sender, |(client, _)| client.ip().to_canonical());
            if self.is_throttled(client, &snapshot) {
                return None;
            }
        }
        let peer = ends.map(|(peer, _)| peer.ip());
        let mut connection = Connection::new(peer, socket).between(ends);
        connection = connection.redirecting(listener.and_then(|it| it.redirects_to));
        let may_be_http2 = listener.is_some_and(|it| it.is_http2);
        if let Some(tls) = listener.and_then(|it| it.tls.as_ref()) {
            let local = local(&stream);
            let (encrypted, channel) = self.encrypt(stream, tls, connection.peer()).await?;
            stream = encrypted;
            connection = connection.encrypted(channel, local);
        }
        drop(snapshot);
        let connection = Arc::new(connection);
        let is_encrypted = connection.channel().is_some();
        if connection.channel().is_some_and(|it| it.is_http2) {
            let bounds = (timeouts, bounds);
            http2::serve(&self.proxy, stream, &connection, bounds, shutdown).await;
            return None;
        }
        let way = (timeouts, may_be_http2);
        let mut work = std::pin::pin!(self.serve(stream, &connection, way, shutdown));
        let supervised = Supervised::new(&connection, work.as_mut(), timeouts.request_header);
        match supervised.await {
            Ok(Some(stream)) => {
                let bounds = (timeouts, bounds);
                http2::serve(&self.proxy, stream, &connection, bounds, shutdown).await;
            }
            Err(Late::Slow) if !is_encrypted => {
                // The work still owns the socket. Whether the client gets to see this is its own affair.
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                if let Err(error) = send(socket, TOO_SLOW, flags) {
                    log::debug!("a slow client was not told: {error}");
                }
            }
            Ok(None) | Err(_) => {}
        }
        None
    }

    async fn cleanup(&self) {
        tokio::time::sleep(LINGER).await;
        self.proxy.http_cleanup().await;
    }
}
