//! Where lines go, as a name: checked, but not opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use http::Uri;

use super::output::{Datagrams, Framing, Output, Stream, SyslogConnection};
use crate::config::{self, Diagnostics, Facility, LogOutput, Spanned};

/// Ports that syslog servers listen on (RFC 5426 §3.3, RFC 6587 §3.4.1 by its assignment).
const UDP_PORT: u16 = 514;
const TCP_PORT: u16 = 601;
/// RFC 5424 §6.
const LONGEST_APP_NAME: usize = 48;

/// Where lines go.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// To standard output.
    Stdout,
    /// To standard error.
    Stderr,
    /// To the end of a file.
    File(PathBuf),
    /// To a syslog server.
    Syslog(Syslog),
    /// To the journal that has this socket.
    Journald(PathBuf),
}

/// A syslog server, and how the gateway introduces itself there.
#[derive(Debug, Clone, PartialEq)]
pub struct Syslog {
    address: Address,
    pub(super) facility: Facility,
    pub(super) app_name: Box<str>,
}

/// Where a syslog server listens.
#[derive(Debug, Clone, PartialEq)]
enum Address {
    Unix(PathBuf),
    Udp(Box<str>),
    Tcp(Box<str>),
}

/// Why lines can't go where they should.
#[derive(Debug, thiserror::Error)]
#[error("the access log {destination} can't be opened: {source}")]
pub struct OpenError {
    destination: Destination,
    source: io::Error,
}

impl Destination {
    pub(super) fn compile(
        written: &Spanned<LogOutput>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        Some(match &written.value {
            LogOutput::Stdout => Self::Stdout,
            LogOutput::Stderr => Self::Stderr,
            LogOutput::File(path) => Self::File(path.clone()),
            LogOutput::Journald(journald) => Self::Journald(journald.socket.clone()),
            LogOutput::Syslog(syslog) => Self::Syslog(Syslog::compile(syslog, diagnostics)?),
        })
    }

    /// Opens it. Connections to servers are opened later, and again after they have failed.
    pub(super) fn open(&self) -> Result<Box<dyn Output>, OpenError> {
        let opened: io::Result<Box<dyn Output>> = match self {
            Self::Stdout => Stream::duplicate(&io::stdout()).map(|it| Box::new(it) as _),
            Self::Stderr => Stream::duplicate(&io::stderr()).map(|it| Box::new(it) as _),
            Self::File(path) => Stream::append(path).map(|it| Box::new(it) as _),
            Self::Journald(socket) => {
                let framing = Framing::journal();
                Ok(Box::new(Datagrams::to_socket(socket.clone(), framing)))
            }
            Self::Syslog(syslog) => Ok(syslog.open()),
        };
        opened.map_err(|source| OpenError {
            destination: self.clone(),
            source,
        })
    }

    /// The file, if it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

impl Syslog {
    fn compile(section: &config::Syslog, diagnostics: &mut Diagnostics) -> Option<Self> {
        let name = section.app_name.as_str();
        let is_name = (1..=LONGEST_APP_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name {
            diagnostics
                .error(
                    section.app_name.span,
                    format!("`{name}` is not an `APP-NAME` (RFC 5424)"),
                )
                .help("1 to 48 visible ASCII characters, such as `tollgate`");
        }
        let address = Address::parse(&section.address);
        if address.is_none() {
            diagnostics
                .error(
                    section.address.span,
                    format!(
                        "`{}` is not the address of a syslog server",
                        section.address
                    ),
                )
                .help("write `unix:/dev/log`, `udp://HOST:514` or `tcp://HOST:601`");
        }
        Some(Self {
            address: address?,
            facility: section.facility,
            app_name: is_name.then(|| name.into())?,
        })
    }

    fn open(&self) -> Box<dyn Output> {
        match &self.address {
            Address::Unix(socket) => {
                Box::new(Datagrams::to_socket(socket.clone(), Framing::syslog(self)))
            }
            Address::Udp(server) => {
                Box::new(Datagrams::to_server(server.clone(), Framing::syslog(self)))
            }
            Address::Tcp(server) => {
                Box::new(SyslogConnection::new(server.clone(), Framing::syslog(self)))
            }
        }
    }
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let uri: Uri = text.parse().ok()?;
        let host = uri.host().filter(|host| !host.is_empty())?;
        let authority = uri.authority()?.as_str();
        if uri.path().len() > 1 || uri.query().is_some() || authority.contains('@') {
            return None;
        }
        let at = |port: u16| {
            let has_port = authority.len() > host.len();
            let port = if has_port { uri.port_u16()? } else { port };
            Some(format!("{host}:{port}").into())
        };
        match uri.scheme_str()? {
            "udp" => at(UDP_PORT).map(Self::Udp),
            "tcp" => at(TCP_PORT).map(Self::Tcp),
            _ => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
            Self::Journald(socket) => write!(f, "journald ({})", socket.display()),
            Self::Syslog(syslog) => match &syslog.address {
                Address::Unix(socket) => write!(f, "syslog (unix:{})", socket.display()),
                Address::Udp(server) => write!(f, "syslog (udp://{server})"),
                Address::Tcp(server) => write!(f, "syslog (tcp://{server})"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_three_forms() {
        let udp = |server: &str| Some(Address::Udp(server.into()));
        for (text, expected) in [
            ("unix:/dev/log", Some(Address::Unix("/dev/log".into()))),
            ("udp://log.internal", udp("log.internal:514")),
            ("udp://[::1]:5514", udp("[::1]:5514")),
            ("udp://[::1]", udp("[::1]:514")),
            (
                "tcp://192.0.2.1",
                Some(Address::Tcp("192.0.2.1:601".into())),
            ),
            (
                "tcp://192.0.2.1:6514/",
                Some(Address::Tcp("192.0.2.1:6514".into())),
            ),
            ("unix:dev/log", None),
            ("log.internal:514", None),
            ("udp://", None),
            ("udp://a:b", None),
            ("udp://h:99999", None),
            ("udp://u@h", None),
            ("tls://h:6514", None),
            ("tcp://h/x", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
    }
}
