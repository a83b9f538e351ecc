//! What becomes of a request on its way.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod edge;
mod listeners;
mod proxying;
mod routing;
mod slow;
