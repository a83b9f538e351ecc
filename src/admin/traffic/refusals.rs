//! Which flags of a request say that it was refused.

use crate::telemetry::Flag;

/// For what it is or whom it comes from: 401, 403 or 429.
const BY_POLICY: [Flag; 5] = [
    Flag::AccessDenied,
    Flag::Unauthorized,
    Flag::Forbidden,
    Flag::RateLimited,
    Flag::ConcurrencyLimited,
];
/// For another reason of the gateway's own.
const OTHERWISE: [Flag; 13] = [
    Flag::BadRequest,
    Flag::UriTooLong,
    Flag::HeadersTooLarge,
    Flag::BodyTooLarge,
    Flag::NoRoute,
    Flag::MethodNotAllowed,
    Flag::Misdirected,
    Flag::AuthUnavailable,
    Flag::RateLimitStoreUnavailable,
    Flag::NoEndpoint,
    Flag::CircuitOpen,
    Flag::Overloaded,
    Flag::Shed,
];

/// Whether a request with this flag was refused by a policy.
pub(super) fn is_by_policy(flag: Flag) -> bool {
    BY_POLICY.contains(&flag)
}

/// Whether a request with this flag was refused.
pub(super) fn is_refusal(flag: Flag) -> bool {
    is_by_policy(flag) || OTHERWISE.contains(&flag)
}
