//! Small policies on single requests and responses: addresses and their countries, origins, security
//! headers, header edits, and the answers that a route gives itself. They see headers and addresses,
//! never a connection.

mod access;
mod answer;
mod client;
mod cors;
mod countries;
mod geoip;
mod headers;
mod origin;
mod security;
mod template;

#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests in tests/ use other parts of it"
)]
#[path = "../../tests/support/geoip.rs"]
mod database;

pub use access::{Access, Denied};
pub use answer::{Redirect, Respond};
pub use client::{TrustedProxies, came_by_tls};
pub use cors::{Cors, Preflight};
pub use geoip::GeoIp;
pub use headers::HeaderEdits;
pub use security::SecurityHeaders;
pub use template::Template;
