//! Who a request comes from: finds its token, verifies it (RFC 7519, RFC 7515, RFC 8725), and
//! decides whether it may do what it asks for.
//!
//! Whatever is wrong with a credential is a refusal, never an error that lets a request go on.

mod identity;
mod jwt;
mod place;
mod provider;
mod refusal;
mod rule;

pub use identity::Identity;
pub use jwt::{Awaited, Change, KeyPlace, KeySet, KeySets, KeySource, count_keys, is_safe_origin};
pub use provider::Provider;
pub use refusal::{Forbidden, Refusal};
pub use rule::Rule;
