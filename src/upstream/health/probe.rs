//! One check of one endpoint, over a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::Semaphore;

use super::check::{HealthCheck, Question};
use crate::upstream::Service;
use crate::upstream::endpoint::Endpoint;

/// Checks under way at most.
const MOST_AT_ONCE: usize = 64;
const USER_AGENT: &str = concat!("tollgate-health-check/", env!("CARGO_PKG_VERSION"));
/// The most that is read of a gRPC answer, which has two bytes and their frame.
const LONGEST_ANSWER: usize = 1024;
/// `SERVING` of `grpc.health.v1.HealthCheckResponse`: field 1, value 1.
const SERVING: &[u8] = &[0x08, 0x01];
/// Before each gRPC message: not compressed, and the length.
const FRAME: usize = 5;

/// Asks endpoints whether they are well.
pub struct Prober {
    http: Connector,
    transport: TransportConnector,
    slots: Arc<Semaphore>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            http: Connector::new(None),
            transport: TransportConnector::new(None),
            slots: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// Begins the checks of a service that are due.
    pub fn check(self: &Arc<Self>, service: &Arc<Service>) {
        for endpoint in service.due_for_check(Instant::now()) {
            let (prober, service) = (self.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(_slot) = prober.slots.acquire().await else {
                    return;
                };
                let Some(rule) = service.health_check() else {
                    return;
                };
                let result = prober.ask(rule, &endpoint).await;
                service.checked(&endpoint, result, Instant::now());
            });
        }
    }

    async fn ask(&self, rule: &HealthCheck, endpoint: &Endpoint) -> Result<(), String> {
        let Some(peer) = endpoint.peer_for_check(rule.timeout) else {
            return Err("its name is not resolved".to_owned());
        };
        let asked = async {
            match &rule.question {
                Question::Tcp => match self.transport.get_stream(&peer).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(reason(&error)),
                },
                Question::Http(path, statuses) => {
                    self.get(&peer, endpoint, path.as_str(), statuses).await
                }
                Question::Grpc(service) => self.call(peer, endpoint, service).await,
            }
        };
        match tokio::time::timeout(rule.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(late(rule.timeout)),
        }
    }

    async fn get(
        &self,
        peer: &HttpPeer,
        endpoint: &Endpoint,
        path: &str,
        statuses: &[StatusCode],
    ) -> Result<(), String> {
        let request = request(Method::GET, path, endpoint)?;
        let session = self.open(peer, request).await?;
        let status = status(&session)?;
        let is_well = match statuses {
            [] => status.is_success(),
            statuses => statuses.contains(&status),
        };
        is_well
            .then_some(())
            .ok_or_else(|| format!("it answered {}", status.as_u16()))
    }

    async fn call(
        &self,
        mut peer: HttpPeer,
        endpoint: &Endpoint,
        service: &str,
    ) -> Result<(), String> {
        peer.options.set_http_version(2, 2);
        let path = "/grpc.health.v1.Health/Check";
        let mut request = request(Method::POST, path, endpoint)?;
        insert(&mut request, header::CONTENT_TYPE, "application/grpc")?;
        insert(&mut request, header::TE, "trailers")?;
        let (mut session, _) = self.connect(&peer).await?;
        let sent = async {
            session.write_request_header(Box::new(request)).await?;
            session.write_request_body(message(service), true).await?;
            session.read_response_header().await
        };
        sent.await.map_err(|error| reason(&error))?;
        let status = status(&session)?;
        if status != StatusCode::OK {
            return Err(format!("it answered {}", status.as_u16()));
        }
        let mut answer = Vec::new();
        while let Some(part) = session
            .read_response_body()
            .await
            .map_err(|it| reason(&it))?
        {
            answer.extend_from_slice(&part);
            if answer.len() > LONGEST_ANSWER {
                return Err("its answer is too long".to_owned());
            }
        }
        // A failed call has no message; its status stands in the header or the trailers.
        match answer.get(FRAME..) {
            Some(SERVING) => Ok(()),
            Some(_) => Err("it says that it is not serving".to_owned()),
            None => Err("it did not say whether it is serving".to_owned()),
        }
    }

    async fn open(
        &self,
        peer: &HttpPeer,
        mut request: RequestHeader,
    ) -> Result<HttpSession, String> {
        let (mut session, _) = self.connect(peer).await?;
        if session.as_http1().is_some() {
            insert(&mut request, header::CONNECTION, "close")?;
        }
        let asked = async {
            session.write_request_header(Box::new(request)).await?;
            session.finish_request_body().await?;
            session.read_response_header().await
        };
        asked.await.map_err(|error| reason(&error))?;
        Ok(session)
    }

    async fn connect(&self, peer: &HttpPeer) -> Result<(HttpSession, bool), String> {
        self.http
            .get_http_session(peer)
            .await
            .map_err(|error| reason(&error))
    }
}

fn request(method: Method, path: &str, endpoint: &Endpoint) -> Result<RequestHeader, String> {
    let mut request =
        RequestHeader::build(method, path.as_bytes(), None).map_err(|error| reason(&error))?;
    let host = request.insert_header(header::HOST, endpoint.host().clone());
    host.map_err(|error| reason(&error))?;
    insert(&mut request, header::USER_AGENT, USER_AGENT)?;
    Ok(request)
}

fn insert(
    request: &mut RequestHeader,
    name: http::HeaderName,
    value: &'static str,
) -> Result<(), String> {
    request
        .insert_header(name, value)
        .map_err(|error| reason(&error))
}

fn status(session: &HttpSession) -> Result<StatusCode, String> {
    session
        .response_header()
        .map(|response| response.status)
        .ok_or_else(|| "it did not answer".to_owned())
}

/// `HealthCheckRequest { service }` in its frame. The name has at most 127 bytes.
fn message(service: &str) -> Bytes {
    let mut message = vec![0; FRAME];
    if !service.is_empty() {
        message.extend([0x0a, service.len() as u8]);
        message.extend(service.as_bytes());
    }
    message[FRAME - 1] = (message.len() - FRAME) as u8;
    message.into()
}

fn reason(error: &pingora::Error) -> String {
    match error.etype() {
        pingora::ErrorType::ConnectTimedout => "no connection in time".to_owned(),
        kind => kind.as_str().to_owned(),
    }
}

fn late(after: Duration) -> String {
    format!("no answer within {after:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_question_is_framed() {
        assert_eq!(*message(""), [0, 0, 0, 0, 0]);
        assert_eq!(*message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }
}
