//! Answers that are kept and given again: what RFC 9111 says of them, section by section, and what crowds,
//! purges and several users make of it.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod backend;
mod crowds;
mod disk;
mod freshness;
mod keeping;
mod policy;
mod purge;
mod safety;
mod stale;
#[path = "../support/mod.rs"]
mod support;
mod validation;
