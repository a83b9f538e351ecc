//! The listening sockets of this process: bound here or taken over from the process before, and kept
//! so that they can be handed on.
//!
//! The framework gets copies. It would retry a bind that fails and then go on without the listener,
//! so it never binds itself.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StartError;
use crate::config::Address;

/// The listening sockets, by the address that they were asked for.
#[derive(Debug)]
pub(super) struct Sockets(Mutex<Vec<Listening>>);

#[derive(Debug)]
struct Listening {
    address: Address,
    /// Who may open it, if it is one in the file system.
    mode: u32,
    socket: OwnedFd,
}

impl Sockets {
    /// Listens on all `addresses`, each with its mode. What is not `inherited` is bound now; what is and is
    /// not needed any more is closed.
    pub(super) fn open(
        addresses: impl IntoIterator<Item = (Address, u32)>,
        mut inherited: Vec<(Address, OwnedFd)>,
    ) -> Result<Self, StartError> {
        let mut sockets = Vec::new();
        for (address, mode) in addresses {
            let known = inherited.iter().position(|(known, _)| *known == address);
            let socket = match known {
                Some(index) => Ok(inherited.swap_remove(index).1),
                None => bind(&address, mode),
            };
            match socket {
                Ok(socket) => sockets.push(Listening {
                    address,
                    mode,
                    socket,
                }),
                Err(source) => return Err(StartError::Bind { address, source }),
            }
        }
        Ok(Self(Mutex::new(sockets)))
    }

    /// A copy of the socket of one address, and its mode.
    pub(super) fn copy(&self, address: &Address) -> io::Result<(OwnedFd, u32)> {
        let sockets = self.lock();
        let found = sockets.iter().find(|it| it.address == *address);
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        Ok((found.socket.try_clone()?, found.mode))
    }

    /// Copies of all.
    pub(super) fn copies(&self) -> io::Result<Vec<(Address, OwnedFd)>> {
        let copy = |it: &Listening| Ok((it.address.clone(), it.socket.try_clone()?));
        self.lock().iter().map(copy).collect()
    }

    /// Lets go of them. An address that no process holds any more refuses connections at once
    /// instead of leaving them waiting.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new socket at an address. That it does not block is true of all its copies, in any process.
fn bind(address: &Address, mode: u32) -> io::Result<OwnedFd> {
    match address {
        Address::Inet(address) => {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
        Address::Unix(path) => {
            if is_left_over(path) {
                fs::remove_file(path)?;
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
    }
}

/// Whether a file is the socket of a process that has ended. Nobody takes it away but the next one.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: u32 = 0o600;

    fn bound() -> (Address, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap().into(), listener.into())
    }

    fn is_open(address: &Address) -> bool {
        match address {
            Address::Inet(address) => std::net::TcpStream::connect(address).is_ok(),
            Address::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }

    #[test]
    fn inherited_sockets_are_used_and_superfluous_ones_closed() {
        let (kept, dropped) = (bound(), bound());
        let addresses = [kept.0.clone(), dropped.0.clone()];
        let wanted = [(kept.0.clone(), MODE)];
        let sockets = Sockets::open(wanted, vec![kept, dropped]).unwrap();
        assert!(is_open(&addresses[0]));
        assert!(!is_open(&addresses[1]));
        assert!(sockets.copy(&addresses[1]).is_err());
        sockets.close();
        assert!(!is_open(&addresses[0]));
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let (address, _taken) = bound();
        let error = Sockets::open([(address.clone(), MODE)], Vec::new()).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_socket_in_the_file_system_takes_the_place_of_one_that_was_left_over_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let address = Address::Unix(path.clone());
        let open = || Sockets::open([(address.clone(), MODE)], Vec::new());
        let sockets = open().unwrap();
        assert!(is_open(&address));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert!(open().is_err(), "another process listens");
        sockets.close();
        assert!(!is_open(&address));
        assert!(open().is_ok());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert!(open().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
