//! Whether the gateway should get traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A listener of one's own that does not accept within this time is not ready.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the gateway should get traffic.
#[derive(Debug)]
pub struct Readiness {
    listeners: Vec<SocketAddr>,
    is_accepting: AtomicBool,
    is_draining: Arc<AtomicBool>,
}

/// Why it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unready {
    /// A listener does not accept yet.
    Starting,
    /// The gateway is about to end.
    Draining,
}

impl Readiness {
    /// Ready as soon as all `listeners` accept, until the gateway `is_draining`.
    pub fn new(listeners: Vec<SocketAddr>, is_draining: Arc<AtomicBool>) -> Self {
        Self {
            listeners,
            is_accepting: AtomicBool::new(false),
            is_draining,
        }
    }

    /// Whether the gateway should get traffic now.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn check(&self) -> Result<(), Unready> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Unready::Draining);
        }
        if self.is_accepting.load(Ordering::Relaxed) {
            return Ok(());
        }
        for listener in &self.listeners {
            let connected = tokio::net::TcpStream::connect(reachable(*listener));
            match tokio::time::timeout(CONNECT_TIMEOUT, connected).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err(Unready::Starting),
            }
        }
        self.is_accepting.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A listener on every address is reached on the loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let address = match listener.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listener.port())
}
