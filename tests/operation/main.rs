//! What operators do, see and rely on.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod admin_api;
mod cli;
mod lifecycle;
mod operating;
mod process_log;
mod readiness;
mod recent_requests;
mod reload;
mod traffic;
mod upgrade;
