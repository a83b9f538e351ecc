//! How the endpoints of a service share its requests: whose turn it is, and by which law.
//!
//! Which endpoints may be used at all is known to [`super::health`] and handed in as a rank.

mod cost;
mod order;
mod pool;
mod ring;
mod tried;

use http::HeaderName;

use crate::config;

pub(super) use cost::Cost;
pub(super) use pool::{Pool, Seen};
pub(super) use tried::Rank;
pub use tried::{Choice, Tried};

/// The law by which endpoints are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Law {
    /// In turn.
    RoundRobin,
    /// In turn, unless another one, taken at random, has less to do (the power of two choices:
    /// Mitzenmacher, 2001).
    LeastRequests,
    /// Of two at random the one that promises the earlier answer (peak EWMA, as in Finagle).
    PeakEwma,
    /// At random.
    Random,
    /// The same one for the same key (ketama).
    Hash(HashKey),
}

/// What of a request always leads to the same endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The path.
    Path,
    /// The value of this header.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(Box<str>),
}

impl Law {
    /// The law as written.
    pub fn compile(written: &config::LoadBalancing) -> Self {
        match written {
            config::LoadBalancing::RoundRobin => Self::RoundRobin,
            config::LoadBalancing::LeastRequests => Self::LeastRequests,
            config::LoadBalancing::PeakEwma => Self::PeakEwma,
            config::LoadBalancing::Random => Self::Random,
            config::LoadBalancing::Hash(key) => Self::Hash(HashKey::compile(key)),
        }
    }
}

impl HashKey {
    /// The key as written.
    pub fn compile(written: &config::HashKey) -> Self {
        match written {
            config::HashKey::ClientIp => Self::ClientIp,
            config::HashKey::Path => Self::Path,
            config::HashKey::Cookie(name) => Self::Cookie(name.as_str().into()),
            config::HashKey::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Self::Header(name),
                // The name was checked when it was read.
                Err(_) => Self::Path,
            },
        }
    }
}

#[cfg(test)]
mod tests;
