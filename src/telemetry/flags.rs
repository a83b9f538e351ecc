//! Why the gateway did what it did with a request.

/// Why the gateway did what it did: the words of the `flags` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Flag {
    /// The request could not be understood.
    BadRequest = 1,
    /// The request target was too long.
    UriTooLong = 1 << 1,
    /// The header was too large.
    HeadersTooLarge = 1 << 2,
    /// The body was too large.
    BodyTooLarge = 1 << 3,
    /// No route took the request.
    NoRoute = 1 << 4,
    /// A route's path matched, but no method of it.
    MethodNotAllowed = 1 << 5,
    /// The client's address may not come in.
    AccessDenied = 1 << 6,
    /// A rate limit refused the request.
    RateLimited = 1 << 7,
    /// No credential, or a bad one.
    Unauthorized = 1 << 8,
    /// A good credential without the right.
    Forbidden = 1 << 9,
    /// Answered by the route itself.
    DirectResponse = 1 << 10,
    /// Redirected by the route.
    Redirected = 1 << 11,
    /// A cross-origin preflight, answered here.
    CorsPreflight = 1 << 12,
    /// No backend has a known address.
    NoEndpoint = 1 << 13,
    /// No connection to the backend.
    UpstreamConnectFailed = 1 << 14,
    /// The backend's certificate was not accepted.
    UpstreamTlsFailed = 1 << 15,
    /// The backend took too long.
    UpstreamTimeout = 1 << 16,
    /// The backend ended the connection early.
    UpstreamReset = 1 << 17,
    /// The backend's answer could not be understood.
    UpstreamProtocol = 1 << 18,
    /// Tried again, at another backend or on a new connection.
    Retried = 1 << 19,
    /// The client went away before the end.
    ClientGone = 1 << 20,
    /// The client took too long.
    ClientTimeout = 1 << 21,
    /// The connection was handed over to another protocol.
    Upgraded = 1 << 22,
    /// A fault of the gateway itself.
    Internal = 1 << 23,
    /// The circuit of the service was open.
    CircuitOpen = 1 << 24,
    /// As many requests were under way as the service bears.
    Overloaded = 1 << 25,
    /// The client got what is there instead.
    Fallback = 1 << 26,
    /// A copy was sent to another service.
    Mirrored = 1 << 27,
    /// The gateway itself had too much to do.
    Shed = 1 << 28,
    /// A second attempt began while the first went on.
    Hedged = 1 << 29,
    /// What the credential would be verified with is not known.
    AuthUnavailable = 1 << 30,
    /// A rate limit would have refused the request if it were enforced.
    RateLimitWouldRefuse = 1 << 31,
    /// As many requests of the client were under way as a concurrency limit allows.
    ConcurrencyLimited = 1 << 32,
    /// So they were, but the limit is not enforced.
    WouldLimitConcurrency = 1 << 33,
    /// The request waited for a rate limit.
    Queued = 1 << 34,
    /// The store of a rate limit did not answer, and without it nothing is admitted.
    RateLimitStoreUnavailable = 1 << 35,
    /// The client asked for nothing but a kept answer, and there is none.
    NotCached = 1 << 36,
    /// It came on a connection that was made for another host.
    Misdirected = 1 << 37,
    /// A WebSocket was open for as long as it may be.
    Expired = 1 << 38,
}

impl Flag {
    pub(super) const ALL: [(Self, &'static str); 39] = [
        (Self::BadRequest, "bad_request"),
        (Self::UriTooLong, "uri_too_long"),
        (Self::HeadersTooLarge, "headers_too_large"),
        (Self::BodyTooLarge, "body_too_large"),
        (Self::NoRoute, "no_route"),
        (Self::MethodNotAllowed, "method_not_allowed"),
        (Self::AccessDenied, "access_denied"),
        (Self::RateLimited, "rate_limited"),
        (Self::Unauthorized, "unauthorized"),
        (Self::Forbidden, "forbidden"),
        (Self::DirectResponse, "direct_response"),
        (Self::Redirected, "redirected"),
        (Self::CorsPreflight, "cors_preflight"),
        (Self::NoEndpoint, "no_endpoint"),
        (Self::UpstreamConnectFailed, "upstream_connect_failed"),
        (Self::UpstreamTlsFailed, "upstream_tls_failed"),
        (Self::UpstreamTimeout, "upstream_timeout"),
        (Self::UpstreamReset, "upstream_reset"),
        (Self::UpstreamProtocol, "upstream_protocol"),
        (Self::Retried, "retried"),
        (Self::ClientGone, "client_gone"),
        (Self::ClientTimeout, "client_timeout"),
        (Self::Upgraded, "upgraded"),
        (Self::Internal, "internal"),
        (Self::CircuitOpen, "circuit_open"),
        (Self::Overloaded, "overloaded"),
        (Self::Fallback, "fallback"),
        (Self::Mirrored, "mirrored"),
        (Self::Shed, "shed"),
        (Self::Hedged, "hedged"),
        (Self::AuthUnavailable, "auth_unavailable"),
        (Self::RateLimitWouldRefuse, "rate_limit_would_refuse"),
        (Self::ConcurrencyLimited, "concurrency_limited"),
        (Self::WouldLimitConcurrency, "would_limit_concurrency"),
        (Self::Queued, "queued"),
        (
            Self::RateLimitStoreUnavailable,
            "rate_limit_store_unavailable",
        ),
        (Self::NotCached, "not_cached"),
        (Self::Misdirected, "misdirected"),
        (Self::Expired, "expired"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        let place = (self as u64).trailing_zeros() as usize;
        Self::ALL[place].1
    }
}

/// A set of [`Flag`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// These flags.
    pub(super) const fn of(flags: &[Flag]) -> Self {
        let mut set = 0;
        let mut rest = flags;
        while let [first, others @ ..] = rest {
            set |= *first as u64;
            rest = others;
        }
        Self(set)
    }

    /// Whether any of these flags is set.
    pub(super) fn has_any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Adds a flag.
    pub fn insert(&mut self, flag: Flag) {
        self.0 |= flag as u64;
    }

    /// Whether a flag is set.
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & flag as u64 != 0
    }

    /// The words of the flags that are set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Flag::ALL
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, word)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_word() {
        for (flag, word) in Flag::ALL {
            assert_eq!(flag.word(), word);
        }
    }
}
