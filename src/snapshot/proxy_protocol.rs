//! Whose word is believed about where a connection comes from.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{self, Diagnostics};
use crate::traffic::TrustedProxies;

/// How long a header may be waited for.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Those who say where a connection comes from, by the PROXY protocol.
#[derive(Debug)]
pub struct ProxyProtocol {
    from: TrustedProxies,
    /// From the connection to the end of the header.
    pub timeout: Duration,
}

impl ProxyProtocol {
    pub(super) fn compile(
        listener: &config::Listener,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let section = listener.proxy_protocol.as_ref()?;
        if section.from.0.is_empty() {
            diagnostics
                .error(section.span, "`from` is empty, so nobody would be believed")
                .help("list the networks of your load balancers, or remove `proxy_protocol`");
        }
        let timeout = section.timeout.value.0;
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            diagnostics
                .error(
                    section.timeout.span,
                    format!("`timeout` of {} is out of range", section.timeout.value),
                )
                .help("1ms to 1m; the header comes with the connection");
        }
        Some(Self {
            from: TrustedProxies::new(&section.from.0),
            timeout,
        })
    }

    /// Whether a connection from there begins with a header.
    pub fn is_from(&self, peer: IpAddr) -> bool {
        self.from.contains(peer)
    }
}
