//! How many requests may come, how fast, and how many at once.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod answers;
mod bandwidth;
mod concurrency;
mod overload;
mod queue;
mod quotas;
mod rates;
mod redis;
mod shared_quotas;
