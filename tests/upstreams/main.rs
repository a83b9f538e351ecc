//! Backends: whose turn it is, and what happens when they fail.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod balancing;
mod deadlines;
mod discovery;
mod failures;
mod fallback;
mod faults;
mod health;
mod hedging;
mod resilience;
mod split;
mod tls;
