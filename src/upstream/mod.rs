//! What stands behind the gateway: services, their endpoints, and which endpoint serves an attempt.
//!
//! Whether a failed attempt may be repeated is decided by [`crate::proxy`]; which requests come
//! here at all, by the routes.

mod balance;
mod endpoint;
mod resolve;
mod service;
mod timeouts;
mod url;

pub use endpoint::{Endpoint, EndpointSettings};
pub use resolve::{RESOLVE_INTERVAL, resolve};
pub use service::{Choice, HostPolicy, Service, Tried};
pub use timeouts::Timeouts;
pub use url::BaseUrl;
