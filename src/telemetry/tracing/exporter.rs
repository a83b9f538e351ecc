//! Sends traces to a collector, batch by batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use super::Tracing;
use super::collector::Collector;
use super::queue::Traces;
use super::spans::spans;
use crate::config::OtlpProtocol;

/// Spans that are sent at once, and a few more.
const BATCH: usize = 512;

/// The way to one collector.
#[derive(Debug)]
pub struct Exporter {
    tracing: Arc<Tracing>,
    sender: SpanExporter,
    problem: Problem,
    is_failing: bool,
    dropped_before: u64,
    is_dropping: bool,
}

/// Why what was sent over HTTP got no answer. The crate between says only that there was none.
#[derive(Debug, Clone, Default)]
pub struct Problem(Arc<Mutex<Option<String>>>);

impl Problem {
    /// This is why.
    pub fn note(&self, problem: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_owned());
    }

    fn take(&self) -> Option<String> {
        let mut problem = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        problem.take()
    }
}

impl Exporter {
    /// The way to the collector of `tracing`; `None` if it has none, or there is no way. Over HTTP, `client`
    /// sends, and notes what goes wrong.
    pub fn new<C>(
        tracing: &Arc<Tracing>,
        client: impl FnOnce(&Collector, Problem) -> C,
    ) -> Option<Self>
    where
        C: HttpClient + 'static,
    {
        let collector = tracing.collector()?;
        let problem = Problem::default();
        let mut sender = match collector.protocol {
            OtlpProtocol::Http => over_http(collector, client(collector, problem.clone())),
            OtlpProtocol::Grpc => over_grpc(collector),
        }
        .map_err(|error| {
            let endpoint = &collector.endpoint;
            log::error!("spans can't be exported: to={endpoint} error={error}");
        })
        .ok()?;
        sender.set_resource(&resource(collector));
        Some(Self {
            tracing: tracing.clone(),
            sender,
            problem,
            is_failing: false,
            dropped_before: tracing.traces.dropped(),
            is_dropping: false,
        })
    }

    /// Sends all that waits.
    pub async fn send(&mut self) {
        let traces = self.tracing.traces.clone();
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            let mut count = 0;
            while batch.len() < BATCH
                && let Some(trace) = traces.pop()
            {
                batch.extend(spans(&trace));
                count += 1;
            }
            if batch.is_empty() {
                break;
            }
            self.send_batch(batch, count, &traces).await;
        }
        self.tell_of_drops(&traces);
    }

    async fn send_batch(&mut self, batch: Vec<SpanData>, count: u64, traces: &Traces) {
        let Some(collector) = self.tracing.collector() else {
            return;
        };
        // Of the batch before.
        self.problem.take();
        let (within, endpoint) = (collector.timeout, &collector.endpoint);
        let problem = match tokio::time::timeout(within, self.sender.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.problem.take().unwrap_or_else(|| error.to_string())),
            Err(_) => Some(format!("no answer within {within:?}")),
        };
        match problem {
            None => {
                traces.exported(count);
                if self.is_failing {
                    log::info!("spans are exported again: to={endpoint}");
                }
                self.is_failing = false;
            }
            Some(problem) => {
                traces.lost(count);
                if !self.is_failing {
                    log::warn!(
                        "spans can't be exported and are lost: to={endpoint} error={problem}"
                    );
                }
                self.is_failing = true;
            }
        }
    }

    /// Says once that more come than can be sent, as long as that goes on.
    fn tell_of_drops(&mut self, traces: &Traces) {
        let dropped = traces.dropped();
        let is_dropping = dropped > self.dropped_before;
        if is_dropping && !self.is_dropping && !self.is_failing {
            log::warn!("more spans come than the collector takes, some are lost");
        }
        self.is_dropping = is_dropping;
        self.dropped_before = dropped;
    }
}

fn over_http(
    collector: &Collector,
    client: impl HttpClient + 'static,
) -> Result<SpanExporter, String> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = collector.headers.iter();
    let headers: HashMap<String, String> = headers
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let builder = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_headers(headers)
        .with_endpoint(collector.endpoint.to_string())
        .with_timeout(collector.timeout);
    builder.build().map_err(|error| error.to_string())
}

fn over_grpc(collector: &Collector) -> Result<SpanExporter, String> {
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_metadata(MetadataMap::from_headers(collector.headers.clone()))
        .with_endpoint(collector.endpoint.to_string())
        .with_timeout(collector.timeout);
    if collector.endpoint.scheme_str() == Some("https") {
        let tls = ClientTlsConfig::new();
        builder = builder.with_tls_config(match &collector.authorities {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(&**pem)),
            None => tls.with_native_roots(),
        });
    }
    builder.build().map_err(|error| error.to_string())
}

fn resource(collector: &Collector) -> Resource {
    let configured = collector.resource.iter();
    let configured = configured.map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(configured)
        .build()
}
