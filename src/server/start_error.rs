//! Why a gateway can't start, and what to do about it.

use std::path::PathBuf;

use crate::config::Address;

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("can't listen on {address}: {source}{hint}", hint = hint(source))]
    Bind {
        /// The address.
        address: Address,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It can't be that user's.
    #[error("can't become the user `{name}`: {source}")]
    User {
        /// The user's name.
        name: Box<str>,
        /// Why not.
        source: std::io::Error,
    },
    /// Whoever is succeeded may know keys that can't be had now.
    #[error("the keys of {0} can't be fetched, and the process that serves may have them")]
    Keys(String),
    /// Where answers are to be kept.
    #[error("answers can't be kept in {path}: {source}")]
    CacheDisk {
        /// The folder.
        path: PathBuf,
        /// What the system says of it.
        source: std::io::Error,
    },
    /// No thread, no descriptor, no memory.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (is another process listening there?)",
        std::io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE; the systemd unit grants it)"
        }
        std::io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}
