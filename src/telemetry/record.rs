//! What is logged of one request. How it is written is the access log's business.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Version};

use super::flags::Flags;
use super::grpc::GrpcStatus;
use super::tracing::{SpanId, TraceId};

/// What is written about one request. All durations are from the request's arrival.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the names are those of the log's fields, documented there"
)]
pub struct Record<'a> {
    pub time: SystemTime,
    pub id: &'a str,
    /// Its trace, and its own span in it.
    pub trace: Option<(TraceId, SpanId)>,
    /// The client's address as text.
    pub client: Option<&'a str>,
    pub method: &'a Method,
    pub host: Option<&'a [u8]>,
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: Option<&'a str>,
    pub version: Version,
    pub route: Option<&'a str>,
    pub service: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    /// The name of the consumer that it comes from.
    pub consumer: Option<&'a str>,
    /// The fingerprint of the certificate that was shown for the connection.
    pub client_certificate: Option<&'a str>,
    /// The name of the limit that refused it, would have, or let it wait.
    pub limit: Option<&'a str>,
    /// What it had to do with answers that are kept, and why.
    pub cache: Option<(&'a str, Option<&'a str>)>,
    pub status: u16,
    /// How it ended, if it was a call by gRPC.
    pub grpc_status: Option<GrpcStatus>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub total: Duration,
    /// How long it waited for rate limits, if it did.
    pub queued: Option<Duration>,
    /// Until the pipeline was done and the first backend was chosen.
    pub pipeline: Option<Duration>,
    /// Until a connection to the backend was there.
    pub connected: Option<Duration>,
    /// Until the response's header came from the backend.
    pub first_byte: Option<Duration>,
    pub attempts: u32,
    pub flags: Flags,
    pub headers: &'a HeaderMap,
}
