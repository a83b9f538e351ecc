//! Limits that several gateways keep together, with real Redis servers: how much they admit, whatever
//! happens to the servers, the network and the gateways.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod access;
mod cluster;
mod drills;
mod exact;
mod fleet;
mod load;
mod outages;
mod reload;
mod sentinel;
#[path = "../support/mod.rs"]
mod support;
