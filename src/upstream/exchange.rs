//! An exchange with a backend beside the framework's own, which has one at a time for a request: for
//! copies of requests, and for attempts that race each other.

use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::UniqueID;
use pingora::protocols::http::client::HttpSession;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::breaker::Permit;

/// So many interim responses (1xx) are kept for the client; more serve nobody.
const MOST_EARLY: usize = 8;

/// Connections to backends, for exchanges beside the framework's own. What makes them has a copy of the
/// system's authorities, which takes 10 MiB and a moment to read: it is only there if it is needed.
pub struct Backends {
    configuration: Arc<ServerConf>,
    connector: OnceLock<Connector>,
}

/// What a backend is asked, and until when it must have begun to answer.
#[derive(Debug)]
pub struct Question {
    /// Without what is about the client's connection.
    pub header: RequestHeader,
    /// All of it.
    pub body: Vec<Bytes>,
    /// From the connection on.
    pub first_byte: Option<Duration>,
    /// Whatever happens before.
    pub until: Option<Instant>,
}

/// An answer of which the header is there.
pub struct Answer {
    /// The final one.
    pub header: ResponseHeader,
    /// The interim responses before it.
    pub early: Vec<ResponseHeader>,
    /// When the connection was there.
    pub connected: Instant,
    /// How long it took, if it is a new one.
    pub opened_in: Option<Duration>,
    /// How long the header took from the connection on.
    pub took: Duration,
    /// What the body comes by.
    pub session: HttpSession,
    peer: Box<HttpPeer>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// There was no connection, so nothing was sent.
    Connecting(Box<Error>),
    /// On a connection that may have been from the pool.
    Asking {
        /// What went wrong.
        error: Box<Error>,
        /// Whether it was.
        is_reused: bool,
    },
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The socket that it comes from, if that is its own.
    pub fn socket(&self) -> Option<RawFd> {
        match &self.session {
            HttpSession::H1(session) => Some(session.id()),
            HttpSession::H2(session) => Some(session.fd()),
            HttpSession::Custom(_) => None,
        }
    }
}

impl Failed {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        match self {
            Self::Connecting(error) | Self::Asking { error, .. } => error,
        }
    }
}

impl Backends {
    /// Connections that are made and kept as `configuration` says.
    pub fn new(configuration: Arc<ServerConf>) -> Self {
        Self {
            configuration,
            connector: OnceLock::new(),
        }
    }

    /// Makes what connections are made by, so that no request has to wait for that. Blocks.
    pub fn prepare(&self) {
        self.connector();
    }

    /// Sends a request and waits for the answer's header. By `permit` it waits for a connection.
    ///
    /// # Errors
    /// If there is no connection, or no answer in time.
    pub async fn ask(
        &self,
        peer: Box<HttpPeer>,
        question: Question,
        permit: Option<&Permit>,
    ) -> Result<Answer, Failed> {
        let begun = Instant::now();
        let connection = self.connector().get_http_session(&*peer).await;
        let (mut session, is_reused) =
            connection.map_err(|error| Failed::Connecting(error.into_up()))?;
        permit.inspect(|permit| permit.connected());
        let connected = Instant::now();
        let first_byte = question.first_byte.map(|limit| connected + limit);
        let deadline = first_byte.into_iter().chain(question.until).min();
        session.set_write_timeout(peer.options.write_timeout);
        let exchange = exchange(&mut session, question.header, question.body);
        let answer = match deadline {
            None => exchange.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), exchange)
                .await
                .unwrap_or_else(|_| Err(Error::new_up(ErrorType::ReadTimedout))),
        };
        match answer {
            Ok((header, early)) => Ok(Answer {
                header,
                early,
                connected,
                opened_in: (!is_reused).then(|| connected - begun),
                took: connected.elapsed(),
                session,
                peer,
            }),
            Err(error) => Err(Failed::Asking {
                error: error.into_up(),
                is_reused,
            }),
        }
    }

    /// Keeps the connection of an answer that was read to its end.
    pub async fn keep(&self, answer: Answer) {
        let Answer { session, peer, .. } = answer;
        self.connector()
            .release_http_session(session, &*peer, peer.options.idle_timeout)
            .await;
    }

    fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| {
            Connector::new(Some(ConnectorOptions::from_server_conf(
                &self.configuration,
            )))
        })
    }
}

async fn exchange(
    session: &mut HttpSession,
    header: RequestHeader,
    body: Vec<Bytes>,
) -> Result<(ResponseHeader, Vec<ResponseHeader>)> {
    session.write_request_header(Box::new(header)).await?;
    for part in body {
        session.write_request_body(part, false).await?;
    }
    session.finish_request_body().await?;
    let mut early = Vec::new();
    loop {
        session.read_response_header().await?;
        let Some(header) = session.response_header() else {
            return Err(Error::new_up(ErrorType::ReadError));
        };
        match header.status {
            // Nothing that was asked for here.
            StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
            }
            status if status.is_informational() => {
                if early.len() < MOST_EARLY {
                    early.push(header.clone());
                }
            }
            _ => return Ok((header.clone(), early)),
        }
    }
}
