//! What stands behind the gateway: services, their endpoints, and which endpoint serves an attempt.
//!
//! Whether a failed attempt may be repeated is decided by [`crate::proxy`]; which requests come
//! here at all, by the routes.

mod balance;
mod breaker;
mod endpoint;
mod outlier;
mod resolve;
mod retry;
mod service;
mod timeouts;
mod url;
mod window;

pub use breaker::{Admission, CircuitBreaker, CircuitState, Permit};
pub use endpoint::{Endpoint, EndpointSettings};
pub use outlier::{Outcome, OutlierDetection};
pub use resolve::{RESOLVE_INTERVAL, resolve};
pub use retry::{Failure, MOST_ATTEMPTS, Retry};
pub use service::{Choice, HostPolicy, Service, Tried};
pub use timeouts::Timeouts;
pub use url::BaseUrl;
