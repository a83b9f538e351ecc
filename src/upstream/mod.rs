//! What stands behind the gateway: services, their endpoints, and which endpoint serves an attempt.
//!
//! Whether a failed attempt may be repeated is decided by [`crate::proxy`]; which requests come
//! here at all, by the routes.

mod adaptive;
mod balance;
mod breaker;
mod compile;
mod deliver;
mod discovery;
mod endpoint;
mod exchange;
mod fetch;
mod health;
mod hedge;
mod introduction;
mod latencies;
mod retry;
mod service;
mod split;
mod targets;
mod timeouts;
mod trust;
mod url;
mod window;

pub use balance::{Choice, HashKey, Law, Tried};
pub use breaker::{Admission, CircuitBreaker, CircuitMode, CircuitState, Permit};
pub use discovery::{Discovery, Resolver, discover};
pub use endpoint::Endpoint;
pub use exchange::{Answer, Backends, Failed, Question};
pub use fetch::Document;
pub use health::{HealthCheck, Outcome, OutlierDetection, Prober};
pub use hedge::Hedge;
pub use introduction::Introduction;
pub use retry::{Failure, MOST_ATTEMPTS, Retry};
pub use service::{ByHand, EndpointState, HostPolicy, NoChoice, Service, Standing};
pub use split::Split;
pub use timeouts::Timeouts;
pub use trust::EndpointSettings;
pub use url::BaseUrl;

#[cfg(test)]
mod tests;
