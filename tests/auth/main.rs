//! Who may come in: every way to prove it, and to fail.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod api_keys;
mod authorisation;
mod basic;
mod client_certificates;
mod consumers;
mod failures;
mod forward_auth;
mod jwt;
mod key_sets;
mod signed;
mod smuggling;
