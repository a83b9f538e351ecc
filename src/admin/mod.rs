//! The address for operators: whether the process lives, and whether it should get traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

/// A listener of one's own that does not accept within this time is not ready.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the gateway should get traffic.
#[derive(Debug)]
pub struct Readiness {
    listeners: Vec<SocketAddr>,
    is_accepting: AtomicBool,
    is_draining: Arc<AtomicBool>,
}

/// Why it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// A listener does not accept yet.
    Starting,
    /// The gateway is about to end.
    Draining,
}

impl Readiness {
    /// Ready as soon as all `listeners` accept, until the gateway `is_draining`.
    pub fn new(listeners: Vec<SocketAddr>, is_draining: Arc<AtomicBool>) -> Self {
        Self {
            listeners,
            is_accepting: AtomicBool::new(false),
            is_draining,
        }
    }

    /// Whether the gateway should get traffic now.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), Unready> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Unready::Draining);
        }
        if self.is_accepting.load(Ordering::Relaxed) {
            return Ok(());
        }
        for listener in &self.listeners {
            let connected = tokio::net::TcpStream::connect(reachable(*listener));
            match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err(Unready::Starting),
            }
        }
        self.is_accepting.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A listener on every address is reached on the loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let address = match listener.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listener.port())
}

/// `/healthz` and `/readyz`.
#[derive(Debug)]
pub struct Health(pub Arc<Readiness>);

#[async_trait]
impl ServeHttp for Health {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let (status, text) = match request.uri.path() {
            "/healthz" | "/readyz" if !is_read => {
                (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
            }
            "/healthz" => (StatusCode::OK, "ok\n"),
            "/readyz" => match self.0.check().await {
                Ok(()) => (StatusCode::OK, "ready\n"),
                Err(Unready::Starting) => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
                Err(Unready::Draining) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            },
            _ => (StatusCode::NOT_FOUND, "here are /healthz and /readyz\n"),
        };
        let body = if session.req_header().method == Method::HEAD {
            ""
        } else {
            text
        };
        let mut response = Response::new(body.as_bytes().to_vec());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::CONTENT_LENGTH,
            header::HeaderValue::from(text.len()),
        );
        headers.insert(
            header::CACHE_CONTROL,
            header::HeaderValue::from_static("no-store"),
        );
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
