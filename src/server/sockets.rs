//! The listening sockets of this process: bound here or taken over from the process before, and kept
//! so that they can be handed on.
//!
//! The framework gets copies. It would retry a bind that fails and then go on without the listener,
//! so it never binds itself.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StartError;

/// The listening sockets, by the address that they were asked for.
#[derive(Debug)]
pub(super) struct Sockets(Mutex<Vec<(SocketAddr, TcpListener)>>);

impl Sockets {
    /// Listens on all `addresses`. What is not `inherited` is bound now; what is and is not needed
    /// any more is closed.
    pub(super) fn open(
        addresses: impl IntoIterator<Item = SocketAddr>,
        inherited: Vec<(SocketAddr, OwnedFd)>,
    ) -> Result<Self, StartError> {
        let mut inherited: Vec<_> = inherited
            .into_iter()
            .map(|(address, socket)| (address, TcpListener::from(socket)))
            .collect();
        let mut listeners = Vec::new();
        for address in addresses {
            let known = inherited.iter().position(|(known, _)| *known == address);
            let listener = match known {
                Some(index) => Ok(inherited.swap_remove(index).1),
                None => TcpListener::bind(address),
            };
            let listener = listener.and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            let listener = listener.map_err(|source| StartError::Bind { address, source })?;
            listeners.push((address, listener));
        }
        Ok(Self(Mutex::new(listeners)))
    }

    /// A copy of the socket of one address.
    pub(super) fn copy(&self, address: SocketAddr) -> std::io::Result<OwnedFd> {
        let listeners = self.lock();
        let found = listeners.iter().find(|(known, _)| *known == address);
        let (_, listener) = found.ok_or(std::io::ErrorKind::NotFound)?;
        Ok(listener.try_clone()?.into())
    }

    /// Copies of all.
    pub(super) fn copies(&self) -> std::io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let copy = |(address, listener): &(SocketAddr, TcpListener)| {
            Ok((*address, listener.try_clone()?.into()))
        };
        self.lock().iter().map(copy).collect()
    }

    /// Lets go of them. An address that no process holds any more refuses connections at once
    /// instead of leaving them waiting.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SocketAddr, TcpListener)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> (SocketAddr, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener.into())
    }

    #[test]
    fn inherited_sockets_are_used_and_superfluous_ones_closed() {
        let (kept, dropped) = (bound(), bound());
        let addresses = [kept.0, dropped.0];
        let sockets = Sockets::open([kept.0], vec![kept, dropped]).unwrap();
        assert!(std::net::TcpStream::connect(addresses[0]).is_ok());
        assert!(std::net::TcpStream::connect(addresses[1]).is_err());
        assert!(sockets.copy(addresses[1]).is_err());
        sockets.close();
        assert!(std::net::TcpStream::connect(addresses[0]).is_err());
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let (address, _taken) = bound();
        let error = Sockets::open([address], Vec::new()).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
