//! Who a request comes from: finds its token, verifies it (RFC 7519, RFC 7515, RFC 8725), and
//! decides whether it may do what it asks for.
//!
//! Whatever is wrong with a credential is a refusal, never an error that lets a request go on.

mod cache;
mod extract;
mod jwks;
mod keys;
mod provider;
mod refusal;
mod rule;
mod verified;
mod verify;

pub use provider::Provider;
pub use refusal::{Forbidden, Refusal};
pub use rule::Rule;
pub use verified::Verified;
