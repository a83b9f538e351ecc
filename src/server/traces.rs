//! Spans on their way to the collector.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::snapshot::Store;
use crate::telemetry::tracing::{Collector, Exporter, Problem, Traces, Tracing};
use crate::upstream::Backends;

/// How soon it is noticed that there is a collector.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long spans may take on their way when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Sends spans to the collector of the configuration in force.
pub(super) struct SpanExports {
    pub(super) snapshots: Arc<Store>,
    pub(super) traces: Arc<Traces>,
    pub(super) backends: Arc<Backends>,
}

/// Sends what the OpenTelemetry crates have to say over HTTP.
#[derive(Debug)]
struct Client {
    backends: Arc<Backends>,
    authorities: Option<Box<str>>,
    within: Duration,
    problem: Problem,
}

#[async_trait]
impl BackgroundService for SpanExports {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut followed: Option<Arc<Tracing>> = None;
        let mut exporter: Option<Exporter> = None;
        loop {
            let tracing = self.snapshots.load().tracing.clone();
            if tracing.as_ref().map(Arc::as_ptr) != followed.as_ref().map(Arc::as_ptr) {
                let next = tracing.as_ref().and_then(|tracing| {
                    Exporter::new(tracing, |collector, problem| {
                        self.client(collector, problem)
                    })
                });
                if let (Some(before), None) = (&mut exporter, &next) {
                    // Nobody else would take what was noted until now.
                    before.send().await;
                }
                exporter = next;
            }
            if let Some(exporter) = &mut exporter {
                exporter.send().await;
            }
            self.traces.emptied();
            followed = tracing;
            let collector = followed.as_ref().and_then(|it| it.collector());
            let interval = collector.map_or(LOOK_AGAIN, |collector| collector.interval);
            self.traces.due(interval).await;
        }
    }
}

impl SpanExports {
    fn client(&self, collector: &Collector, problem: Problem) -> Client {
        Client {
            backends: self.backends.clone(),
            authorities: collector.authorities.clone(),
            within: collector.timeout,
            problem,
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let authorities = self.authorities.as_deref();
        let delivered = self.backends.deliver(request, authorities, self.within);
        delivered.await.map_err(|problem| {
            self.problem.note(&problem);
            problem.into()
        })
    }
}

/// Sends what has not been sent yet, before the process ends.
pub(super) async fn send_last(snapshots: &Store, traces: &Traces) {
    let tracing = snapshots.load().tracing.clone();
    if tracing.is_some_and(|tracing| tracing.collector().is_some()) {
        let lost = traces.end(LAST_SPANS).await;
        if lost > 0 {
            log::warn!("the collector took too long at the end: lost_traces={lost}");
        }
    }
}
