//! Backends, good and bad.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::gateway::Gateway;
use super::tls::Secure;

/// A backend; ends when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

/// A request as the backend saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All fields of a name, each line for itself.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }
}

/// A configuration of one service, `a`, with these targets and a route `/a` to them.
pub fn service_of<'u>(targets: impl IntoIterator<Item = &'u Upstream>, rest: &str) -> String {
    let targets = targets
        .into_iter()
        .map(|it| format!("\"http://{}\"", it.address));
    let targets = targets.collect::<Vec<_>>().join(", ");
    format!("services: {{ a: {{ targets: [{targets}], routes: [{{ prefix: /a }}], {rest} }} }}")
}

pub type Body = BoxBody<Bytes, Infallible>;

impl Upstream {
    /// Answers 200 with its own address, and remembers what it saw.
    pub async fn echo() -> Self {
        Self::answering(|_| Response::new(Bytes::from_static(b"hello"))).await
    }

    /// The same at a certain address.
    pub async fn echo_at(address: &str) -> Self {
        Self::answering_at(address, |_| Response::new(Bytes::from_static(b"hello"))).await
    }

    /// Answers from a function of what it saw.
    pub async fn answering(
        answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::answering_at("127.0.0.1:0", answer).await
    }

    /// The same at a certain address.
    pub async fn answering_at(
        address: &str,
        answer: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let memory = seen.clone();
        let answer = Arc::new(answer);
        let mut upstream = Self::serving_at(address, move |request: Request<Incoming>| {
            let (memory, answer) = (memory.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default();
                let seen = Seen {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body,
                };
                let response = answer(&seen);
                memory.lock().unwrap().push(seen);
                response.map(|body| Full::new(body).boxed())
            }
        })
        .await;
        upstream.seen = seen;
        upstream
    }

    /// Serves HTTP/1.1 with an asynchronous function.
    pub async fn serving<F, R>(serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving_at("127.0.0.1:0", serve).await
    }

    async fn serving_at<F, R>(address: &str, serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw_at(address, move |stream| converse(stream, serve.clone())).await
    }

    /// The same behind TLS.
    pub async fn serving_securely<F, R>(secure: Secure, serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw(move |stream| {
            let (secure, serve) = (secure.clone(), serve.clone());
            async move {
                if let Some(stream) = secure.accept(stream).await {
                    converse(stream, serve).await;
                }
            }
        })
        .await
    }

    /// Does with each connection whatever it likes.
    pub async fn raw<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::raw_at("127.0.0.1:0", serve).await
    }

    async fn raw_at<F, R>(address: &str, serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            // Connections end with the backend.
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                count.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(stream));
            }
        });
        Self {
            address,
            connections,
            seen: Arc::default(),
            accepting,
        }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// That so many connections were made, and what came on top of the first was sent on those that were kept.
    /// The framework's pool gives a kept one up, and says so, where the task that watched it lets go of it an
    /// instant too late; another is made in its place.
    #[track_caller]
    pub fn assert_connections(&self, expected: usize, gateway: &Gateway) {
        let given_up = gateway
            .process_log()
            .matches("failed to acquire reusable stream")
            .count();
        let made = self.connections();
        assert!(
            (expected..=expected + given_up).contains(&made),
            "{made} connections instead of {expected}, {given_up} given up"
        );
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request came")
    }
}

/// Answers the requests of a connection.
pub async fn converse<S, F, R>(stream: S, serve: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = serve(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

/// The same, of a connection of HTTP/2.
pub async fn converse_by_http2<S, F, R>(stream: S, serve: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = serve(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
