//! How values look that [`super::text`] reads: what is shown is what can be written.

use std::fmt::{self, Display, Formatter};

use serde::{Serialize, Serializer};

use super::auth::TokenPlace;
use super::bandwidth_limit::BandwidthKey;
use super::fallback::FallbackOn;
use super::quota::LimitCost;
use super::rate_limit::LimitKey;
use super::resilience::{HedgeAfter, RetryOn};
use super::root::{NameServer, Network, Threads};
use super::service::{HashKey, HostHeader};
use super::units::Period;

/// Writes a value as its text, or as a number if that is one.
pub(super) fn serialize<S: Serializer>(
    value: &impl Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = value.to_string();
    match text.parse::<u64>() {
        Ok(number) => number.serialize(serializer),
        Err(_) => text.serialize(serializer),
    }
}

impl Display for RetryOn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailure => f.write_str("connect_failure"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => status.fmt(f),
        }
    }
}

impl Display for HedgeAfter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(percent) => write!(f, "p{percent}"),
            Self::Fixed(after) => Period(*after).fmt(f),
        }
    }
}

impl Display for FallbackOn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self, Self::NAMED.iter().find(|(_, on)| on == self)) {
            (Self::Status(status), _) => status.fmt(f),
            (_, Some((name, _))) => f.write_str(name),
            (_, None) => Ok(()),
        }
    }
}

impl Display for Threads {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Display for NameServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Display for LimitKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Consumer => f.write_str("consumer"),
            Self::Route => f.write_str("route"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

impl Display for BandwidthKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("request"),
            Self::Of(key) => key.fmt(f),
        }
    }
}

impl Display for LimitCost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(units) => units.fmt(f),
            Self::ResponseBytes => f.write_str("response_bytes"),
            Self::ResponseHeader(name) => write!(f, "response_header:{name}"),
        }
    }
}

impl Display for TokenPlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

impl Display for HashKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

impl Display for HostHeader {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream => f.write_str("upstream"),
            Self::Client => f.write_str("client"),
            Self::Fixed(host) => f.write_str(host),
        }
    }
}
