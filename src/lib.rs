//! Tollgate: an API gateway on Pingora.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod auth;
pub mod config;
pub mod limits;
pub mod routing;
pub mod telemetry;
pub mod traffic;
pub mod upstream;
