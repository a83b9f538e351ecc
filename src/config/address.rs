//! Where a listener is: an address of the network, or a socket in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How the address of a socket in the file system begins.
const UNIX: &str = "unix:";
/// Bytes that the system has for a path of a socket (unix(7)), with the end of the text.
const LONGEST_PATH: usize = 107;

/// `IP:PORT`, or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Of the network.
    Inet(SocketAddr),
    /// In the file system.
    Unix(PathBuf),
}

/// The path of `unix:/path`; `None` for an address that begins otherwise.
///
/// # Errors
/// What is wrong with the path, as one sentence.
pub fn socket_path(text: &str) -> Option<Result<&Path, String>> {
    let path = text.strip_prefix(UNIX)?;
    Some(if !path.starts_with('/') {
        Err(format!("`{text}` has no absolute path"))
    } else if path.len() > LONGEST_PATH {
        Err(format!(
            "the path of `{text}` is longer than {LONGEST_PATH} bytes"
        ))
    } else if path.ends_with('/') || path.contains('\0') {
        Err(format!("`{text}` names no file"))
    } else {
        Ok(Path::new(path))
    })
}

impl Address {
    /// Its path, if it is one in the file system.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Inet(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match socket_path(text) {
            Some(path) => path.map(|path| Self::Unix(path.to_owned())),
            None => match text.parse() {
                Ok(address) => Ok(Self::Inet(address)),
                Err(_) => Err(format!("`{text}` is not an address to listen on")),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:80", "[::1]:443", "unix:/run/tollgate.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }
        for text in [
            "localhost:80",
            "unix:",
            "unix:a.sock",
            "unix:/run/",
            "/run/a.sock",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!(
            format!("unix:/{}", "a".repeat(107))
                .parse::<Address>()
                .is_err()
        );
    }
}
