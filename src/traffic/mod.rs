//! Small policies on single requests and responses: addresses, origins, header edits, and the
//! answers that a route gives itself. They see headers and addresses, never a connection.

mod access;
mod answer;
mod client;
mod cors;
mod headers;
mod template;

pub use access::Access;
pub use answer::{Redirect, Respond};
pub use client::TrustedProxies;
pub use cors::{Cors, Preflight};
pub use headers::HeaderEdits;
pub use template::Template;
