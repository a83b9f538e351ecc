//! How many bad credentials an address may send, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::shape::Toggle;
use super::super::source::Spanned;
use super::super::units::Period;

/// `auth_failures`, or `off`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AuthFailuresSlot(pub Toggle<AuthFailures>);

/// Bad credentials of one address (or IPv6 network of 64 bits) after which its further ones are answered
/// with 429, unverified. Those that are remembered as good still pass, and so does what costs next to
/// nothing to verify.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthFailures {
    /// Bad signatures of public keys. Default 1000: what they cost is a thousandth of a processor.
    pub signatures: Spanned<u64>,
    /// Wrong passwords. Default 20: each costs as much as thousands of requests.
    pub passwords: Spanned<u64>,
    /// In how long. Default `1m`.
    pub window: Spanned<Period>,
    /// Guesses that were answered so after which new connections from the address are closed unread, by whoever
    /// shares it too; or `off`. Default 1000: who goes on then must not cost the gateway more than himself.
    pub refuse_connections_after: Spanned<Toggle<u64>>,
}

impl Default for AuthFailures {
    fn default() -> Self {
        Self {
            signatures: 1000.into(),
            passwords: 20.into(),
            window: Period::seconds(60).into(),
            refuse_connections_after: Toggle::On(1000).into(),
        }
    }
}

impl Default for AuthFailuresSlot {
    fn default() -> Self {
        Self(Toggle::On(AuthFailures::default()))
    }
}
