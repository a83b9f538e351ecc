//! What is counted, logged and traced.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/collector.rs"]
mod collector;
#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod metrics;
mod monitoring;
mod span_export;
mod tracing;
