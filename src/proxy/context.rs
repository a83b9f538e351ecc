//! What one request knows and remembers on its way.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use super::bandwidth::Paced;
use super::caching::Caching;
use super::charge::Charge;
use super::connection::Connection;
use super::content::Bound;
use super::grpc::Call;
use super::handshake::Handshake;
use super::limit::{Nearest, Noted};
use super::mirror::Copy;
use super::pressure::Counted;
use super::reply::Reply;
use super::trace::Recording;
use crate::auth::Identity;
use crate::config::FallbackOn;
use crate::limits::Held;
use crate::routing::Parameters;
use crate::snapshot::{Instead, Route, Snapshot};
use crate::telemetry::{Flag, Flags};
use crate::traffic::{Preflight, came_by_tls};
use crate::upstream::{Choice, Introduction, Permit, Service, Tried};

/// Deadlines are kept in whole milliseconds, and may fire one early.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// One request's state, from arrival to its line in the log.
#[derive(Debug)]
pub struct Context {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) arrived: Instant,
    pub(super) time: SystemTime,
    pub(super) id: HeaderValue,
    pub(super) client: Option<IpAddr>,
    pub(super) is_from_trusted_proxy: bool,
    /// The canonical path, if it is not the one that was sent.
    pub(super) rewritten_path: Option<Box<str>>,
    pub(super) matched: Option<Matched>,
    pub(super) identity: Option<Arc<Identity>>,
    /// What its body must be for that.
    pub(super) bound: Option<Box<Bound>>,
    /// What the client is told by the service that let it in.
    pub(super) told: Vec<(HeaderName, HeaderValue)>,
    pub(super) nearest_limit: Option<Nearest>,
    /// What limits will charge by the answer.
    pub(super) charges: Vec<Charge>,
    /// The limit that refused it, would have, or let it wait.
    pub(super) noted_limit: Option<Noted>,
    /// How long it waited for limits, if it did.
    pub(super) queued: Option<Duration>,
    /// What it holds of concurrency limits as long as it is under way.
    pub(super) held: Held,
    /// How fast its bodies pass, if that is limited.
    pub(super) paced: Option<Box<Paced>>,
    /// What it has to do with answers that are kept.
    pub(super) caching: Caching,
    pub(super) preflight: Preflight,
    pub(super) body_limit: Option<u64>,
    /// Whether its connection ends with the gateway's answer: who goes on guessing has to connect again, and
    /// can't send many guesses at once.
    pub(super) is_last: bool,
    /// What there is to know of it as a call by gRPC, if it is one.
    pub(super) call: Option<Box<Call>>,
    /// How long the client gives it.
    pub(super) client_deadline: Option<Duration>,
    /// Which of the route's services gets it.
    pub(super) destination: Destination,
    pub(super) attempt: Attempts,
    /// What another service is to get too.
    pub(super) copy: Option<Box<Copy>>,
    pub(super) is_copy_decided: bool,
    /// As long as it counts among the requests under way.
    pub(super) counted: Option<Counted>,
    pub(super) flags: Flags,
    /// Its place in a trace, if requests are traced.
    pub(super) recording: Option<Box<Recording>>,
    /// The status of a reply of the gateway's own.
    pub(super) replied: Option<u16>,
    /// Whether it counts among those of its route that are under way.
    pub(super) is_under_way: bool,
    /// Whether it counts among the WebSockets of its route.
    pub(super) is_websocket: bool,
    /// Whether the request's line is in the log already.
    pub(super) is_logged: bool,
    /// The answer to the error that is on its way to the end of the request.
    pub(super) pending_reply: Option<Reply>,
}

/// The route that took the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matched {
    pub(super) route: u32,
    pub(super) parameters: Parameters,
}

/// Which of a route's services gets a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Destination {
    /// None yet.
    #[default]
    Open,
    /// This one of those that share the route's requests.
    Part(usize),
    /// The one that is asked instead, because of this.
    Fallback(FallbackOn),
}

/// How the request fares with its backends.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) count: u32,
    /// How many of them were at the service before this one.
    pub(super) count_before: u32,
    pub(super) tried: Tried,
    /// Connections that could not be opened, since an endpoint was last given up.
    pub(super) connect_failures: usize,
    pub(super) choice: Option<Choice>,
    /// What the latest one was answered.
    pub(super) status: Option<StatusCode>,
    /// How long its header took from the connection on.
    pub(super) answered_in: Option<Duration>,
    /// With which the service let the request pass.
    pub(super) permit: Option<Permit>,
    /// Whether it is noted already how the latest one went.
    pub(super) is_settled: bool,
    /// Whether the latest one has been counted.
    pub(super) is_counted: bool,
    /// Whether the answer of the latest one is not passed on, but asked for again.
    pub(super) is_repeated: bool,
    /// How long to wait before the next one.
    pub(super) pause: Duration,
    /// What the chosen endpoint is told of the client in front of a connection, if it is.
    pub(super) introduction: Option<Introduction>,
    /// With the chosen endpoint, if the client wants to speak another protocol.
    pub(super) handshake: Option<Arc<Handshake>>,
    /// When the request was there as a whole, body included.
    pub(super) complete: Option<Instant>,
    pub(super) pipeline: Option<Duration>,
    /// When the latest one began.
    pub(super) begun: Duration,
    pub(super) connected: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
}

impl Context {
    /// A request that arrives now, under `snapshot`.
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            connection: None,
            arrived: Instant::now(),
            time: SystemTime::now(),
            id: HeaderValue::from_static("-"),
            client: None,
            is_from_trusted_proxy: false,
            rewritten_path: None,
            matched: None,
            identity: None,
            bound: None,
            told: Vec::new(),
            nearest_limit: None,
            charges: Vec::new(),
            noted_limit: None,
            queued: None,
            held: Held::default(),
            paced: None,
            caching: Caching::Off,
            preflight: Preflight::No,
            body_limit: None,
            is_last: false,
            call: None,
            client_deadline: None,
            destination: Destination::default(),
            attempt: Attempts::default(),
            copy: None,
            is_copy_decided: false,
            counted: None,
            flags: Flags::default(),
            recording: None,
            replied: None,
            is_under_way: false,
            is_websocket: false,
            is_logged: false,
            pending_reply: None,
        }
    }

    /// The time, which is taken for that of its arrival unless it had to wait.
    pub(super) fn now(&self) -> Instant {
        match self.queued {
            None => self.arrived,
            Some(_) => Instant::now(),
        }
    }

    /// The route that took the request.
    pub(super) fn route(&self) -> Option<&Route> {
        self.matched
            .map(|matched| self.snapshot.route(matched.route))
    }

    /// The service that gets the request, once that is decided.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        let route = self.route()?;
        match self.destination {
            Destination::Open => None,
            Destination::Part(part) => route.forward()?.split.service(part),
            Destination::Fallback(_) => match &route.policies.fallback.as_ref()?.instead {
                Instead::Service(service) => Some(service),
                Instead::Answer(_) | Instead::Stale(_) => None,
            },
        }
    }

    /// How long all attempts together may take: what the route says, or less if the client does.
    pub(super) fn total(&self) -> Option<Duration> {
        let of_route = self.route().and_then(|route| route.policies.timeouts.total);
        of_route.into_iter().chain(self.client_deadline).min()
    }

    /// Whether the client's own deadline has passed, and the backend may not be late at all.
    pub(super) fn is_late_for_client(&self) -> bool {
        match (self.client_deadline, self.attempt.complete) {
            (Some(deadline), Some(complete)) => complete.elapsed() + TIMER_STEP >= deadline,
            _ => false,
        }
    }

    /// The client: the peer, or whom a trusted proxy speaks for.
    pub(super) fn client(&self) -> IpAddr {
        self.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Where the client is, with its port as far as it is known, and where its connection came in.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (source, destination) = self.connection.as_ref()?.ends()?;
        let client = self.client();
        let is_source = source.ip().to_canonical() == client;
        let port = if is_source { source.port() } else { 0 };
        Some((SocketAddr::new(client, port), destination))
    }

    /// Whether it came by TLS: to this gateway, or to the trusted proxy that says so.
    pub(super) fn is_over_tls(&self, request: &HeaderMap) -> bool {
        let told = self.is_from_trusted_proxy.then(|| came_by_tls(request));
        let is_ours = || {
            self.connection
                .as_ref()
                .is_some_and(|it| it.channel().is_some())
        };
        told.flatten().unwrap_or_else(is_ours)
    }

    /// The client as text, which is mostly there already.
    pub(super) fn client_text(&self) -> Option<Cow<'_, str>> {
        let client = self.client?;
        Some(match &self.connection {
            Some(connection) if connection.peer() == client => connection.peer_text().into(),
            _ => client.to_string().into(),
        })
    }

    /// The path that was matched and is forwarded.
    pub(super) fn path<'a>(&'a self, uri: &'a Uri) -> &'a str {
        self.rewritten_path.as_deref().unwrap_or_else(|| uri.path())
    }

    /// The value of a path parameter of the route, by its place in the pattern.
    pub(super) fn parameter<'a>(&'a self, uri: &'a Uri, index: usize) -> &'a str {
        match &self.matched {
            Some(matched) => matched
                .parameters
                .get(index, self.path(uri))
                .unwrap_or_default(),
            None => "",
        }
    }

    /// The request's id, as sent and logged.
    pub(super) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("-")
    }

    /// The time of arrival since 1970.
    pub(super) fn since_epoch(&self) -> Duration {
        self.time.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Notes something for the log.
    pub(super) fn note(&mut self, flag: Flag) {
        self.flags.insert(flag);
    }
}
