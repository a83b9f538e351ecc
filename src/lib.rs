//! Tollgate: an API gateway on Pingora.
//!
//! A module imports only from floors below its own (`tests/layering.rs` holds it to that):
//!
//! ```text
//! 8  cli        the command line: one file a command
//! 7  server     listeners, connections, background work, signals, reload, upgrade
//! 6  admin      health, status, metrics and commands for operators
//! 5  proxy      a request's way, phase by phase: start at proxy/gateway.rs and proxy/pipeline.rs
//! 4  snapshot   a configuration compiled: routes with their policies, immutable
//! 3  acme       certificates that the gateway gets by itself
//! 2  routing    which route takes a request
//!    limits     how many requests may come
//!    auth       who may come in
//!    cache      which answers are kept, for how long and for whom
//!    upstream   services, their endpoints, and whose turn it is
//!    tls        certificates, and handshakes with clients
//!    traffic    small policies: addresses, countries, origins, header edits, redirects, answers
//! 1  telemetry  the access log, metrics, traces
//! 0  config     the language: types, loading, diagnostics, schema
//! ```
//!
//! What the operator wrote ([`config::Config`]), what it means ([`snapshot::Snapshot`]) and what lives
//! on across reloads ([`snapshot::State`]) are three different things and never mix.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod acme;
pub mod admin;
pub mod auth;
pub mod cache;
pub mod cli;
pub mod config;
pub mod limits;
pub mod proxy;
pub mod routing;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod traffic;
pub mod upstream;
