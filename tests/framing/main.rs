//! What is read in two ways by two programs: requests and answers of HTTP/1 that pretend to end elsewhere
//! than they do, and requests of HTTP/2 that would be two of HTTP/1. Each is refused, or passed on so that
//! there is one way to read it.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod corpus;
mod downgrade;
mod wire;
