//! Whether the gateway has started, and whether it should get traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;

/// A listener of one's own that does not accept within this time is not ready.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the gateway has started and should get traffic.
#[derive(Debug)]
pub struct Readiness {
    listeners: Vec<Address>,
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
    pub fn new(listeners: Vec<Address>, is_draining: Arc<AtomicBool>) -> Self {
        Self {
            listeners,
            is_accepting: AtomicBool::new(false),
            is_draining,
        }
    }

    /// Whether the gateway itself should get traffic now, whatever it depends on.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn check(&self) -> Result<(), Unready> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Unready::Draining);
        }
        if self.is_accepting().await {
            Ok(())
        } else {
            Err(Unready::Starting)
        }
    }

    /// Whether the gateway has started, which it has for good: one that drains has long been up,
    /// and its closed listeners must not make a supervisor start it anew.
    pub(super) async fn has_started(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed) || self.is_accepting().await
    }

    /// Whether every listener has been seen to accept. Asks them until then.
    async fn is_accepting(&self) -> bool {
        if self.is_accepting.load(Ordering::Relaxed) {
            return true;
        }
        for listener in &self.listeners {
            match tokio::time::timeout(CONNECT_TIMEOUT, connect(listener)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        self.is_accepting.store(true, Ordering::Relaxed);
        true
    }
}

async fn connect(listener: &Address) -> std::io::Result<()> {
    match listener {
        Address::Inet(address) => drop(TcpStream::connect(reachable(*address)).await?),
        Address::Unix(path) => drop(UnixStream::connect(path).await?),
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_has_started_for_good_once_the_listener_accepts() {
        // Bound but not listening: connections are refused, and nobody else gets the port.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let is_draining = Arc::new(AtomicBool::new(false));
        let readiness = Readiness::new(vec![address.into()], Arc::clone(&is_draining));
        assert!(!readiness.has_started().await);
        assert_eq!(readiness.check().await, Err(Unready::Starting));

        let listener = socket.listen(8).unwrap();
        assert!(readiness.has_started().await);
        assert_eq!(readiness.check().await, Ok(()));

        drop(listener);
        is_draining.store(true, Ordering::Relaxed);
        assert!(readiness.has_started().await);
        assert_eq!(readiness.check().await, Err(Unready::Draining));
    }

    #[tokio::test]
    async fn one_that_drains_before_anybody_asked_has_started() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let closed = socket.local_addr().unwrap();
        let readiness = Readiness::new(vec![closed.into()], Arc::new(AtomicBool::new(true)));
        assert!(readiness.has_started().await);
    }
}
