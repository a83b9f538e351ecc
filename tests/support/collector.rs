//! A collector that takes spans over OTLP, HTTP or gRPC, and keeps them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::codegen::Service;

use super::support::{Authority, Body, Upstream};

/// Nothing in a test takes longer; what does hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running collector; ends when dropped.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _serving: Serving,
}

enum Serving {
    Http(Upstream),
    Grpc(JoinHandle<()>),
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    /// Header fields of each batch.
    fields: Vec<HeaderMap>,
}

/// A span as it was told.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty for none.
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: otlp::span::SpanKind,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) is_sampled: bool,
    pub(super) is_failed: bool,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) resource: BTreeMap<String, String>,
}

impl Span {
    pub(super) fn says(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    pub(super) fn is_server(&self) -> bool {
        self.kind == otlp::span::SpanKind::Server
    }

    pub(super) fn is_client(&self) -> bool {
        self.kind == otlp::span::SpanKind::Client
    }
}

impl Collector {
    /// Over HTTP.
    pub(super) async fn http() -> Self {
        let kept = Arc::default();
        let upstream = Upstream::serving(over_http(&kept)).await;
        Self::of(upstream.address, kept, Serving::Http(upstream))
    }

    /// Over HTTP and TLS, at an address that `authority` vouches for.
    pub(super) async fn https(authority: &Authority) -> Self {
        let kept = Arc::default();
        let secure = authority.certify("127.0.0.1");
        let upstream = Upstream::serving_securely(secure, over_http(&kept)).await;
        Self::of(upstream.address, kept, Serving::Http(upstream))
    }

    /// Over gRPC.
    pub(super) async fn grpc() -> Self {
        Self::grpc_at("127.0.0.1:0".parse().unwrap(), None).await
    }

    /// Over gRPC at an address, and TLS if an authority vouches for it.
    pub(super) async fn grpc_at(address: SocketAddr, authority: Option<&Authority>) -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let secure = authority.map(|authority| authority.certify_http2("127.0.0.1"));
        let service = TraceServiceServer::new(OverGrpc(kept.clone()));
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (service, secure) = (service.clone(), secure.clone());
                open.spawn(async move {
                    match secure {
                        None => converse(stream, service).await,
                        Some(secure) => {
                            if let Some(stream) = secure.accept(stream).await {
                                converse(stream, service).await;
                            }
                        }
                    }
                });
            }
        });
        Self::of(address, kept, Serving::Grpc(serving))
    }

    fn of(address: SocketAddr, kept: Arc<Mutex<Kept>>, serving: Serving) -> Self {
        Self {
            address,
            kept,
            _serving: serving,
        }
    }

    /// What came so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().spans.clone()
    }

    /// Header fields of the last batch.
    pub(super) fn fields(&self) -> HeaderMap {
        let kept = self.kept.lock().unwrap();
        kept.fields.last().cloned().expect("a batch came")
    }

    /// All spans, as soon as those of so many requests are there.
    pub(super) async fn requests(&self, count: usize) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if spans.iter().filter(|span| span.is_server()).count() >= count {
                return spans;
            }
            assert!(Instant::now() < deadline, "only these came: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Spans go over HTTP to a collector as soon as there are some; `rest` is more of `tracing`.
pub(super) fn traced(collector: &Collector, rest: &str) -> String {
    let otlp = format!(
        "otlp: {{ endpoint: \"http://{}\", interval: 20ms }}",
        collector.address
    );
    format!("tracing: {{ {otlp}, {rest} }}\n")
}

/// The one span of which this is true.
#[track_caller]
pub(super) fn the(spans: &[Span], is: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<_> = spans.iter().filter(|span| is(span)).collect();
    let [span] = found[..] else {
        panic!("{} of {spans:#?}", found.len())
    };
    span
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Self::Grpc(serving) = self {
            serving.abort();
        }
    }
}

impl Kept {
    fn keep(&mut self, fields: HeaderMap, request: ExportTraceServiceRequest) {
        self.fields.push(fields);
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.map(|it| it.attributes);
            let resource = told(resource.unwrap_or_default());
            let spans = of_resource.scope_spans.into_iter().flat_map(|it| it.spans);
            self.spans.extend(spans.map(|span| read(span, &resource)));
        }
    }
}

fn read(span: otlp::Span, resource: &BTreeMap<String, String>) -> Span {
    let kind = span.kind();
    let status = span.status.clone().unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind,
        begun: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        is_sampled: span.flags & 1 != 0,
        is_failed: status.code() == otlp::status::StatusCode::Error,
        attributes: told(span.attributes),
        resource: resource.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn told(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let attributes = attributes.into_iter();
    attributes
        .map(|it| (it.key, text(it.value.unwrap_or_default())))
        .collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            let texts: Vec<_> = list.values.into_iter().map(text).collect();
            texts.join(",")
        }
        other => format!("{other:?}"),
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn over_http(
    kept: &Arc<Mutex<Kept>>,
) -> impl Fn(Request<Incoming>) -> Answering + Clone + Send + Sync + 'static {
    let kept = kept.clone();
    move |request: Request<Incoming>| {
        let kept = kept.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let is_right = parts.method == "POST"
                && parts.uri.path() == "/v1/traces"
                && parts.headers["content-type"] == "application/x-protobuf";
            let read = ExportTraceServiceRequest::decode(body).ok();
            let Some(spans) = read.filter(|_| is_right) else {
                let mut response = Response::new(Full::new(Bytes::new()).boxed());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response;
            };
            kept.lock().unwrap().keep(parts.headers, spans);
            let answer = ExportTraceServiceResponse::default().encode_to_vec();
            Response::new(Full::new(Bytes::from(answer)).boxed())
        })
    }
}

async fn converse<S>(stream: S, service: TraceServiceServer<OverGrpc>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| service.clone().call(request));
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

struct OverGrpc(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl TraceService for OverGrpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let fields = request.metadata().clone().into_headers();
        self.0.lock().unwrap().keep(fields, request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}
