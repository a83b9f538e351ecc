//! Lines as datagrams, one each: to a socket of this machine, or over UDP (RFC 5426).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::io::Errno;

use super::{Framing, Output, Taken};

/// A server of datagrams. The way to it is opened when there is something to send, and again after it failed.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Datagrams {
    server: Server,
    socket: Option<Socket>,
    framing: Framing,
    /// The message that is being sent.
    message: Vec<u8>,
}

#[derive(Debug)]
enum Server {
    Socket(PathBuf),
    Udp(Box<str>),
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Datagrams {
    /// To the socket of this name.
    pub(in crate::telemetry::access_log) fn to_socket(path: PathBuf, framing: Framing) -> Self {
        Self::new(Server::Socket(path), framing)
    }

    /// To `host:port`.
    pub(in crate::telemetry::access_log) fn to_server(server: Box<str>, framing: Framing) -> Self {
        Self::new(Server::Udp(server), framing)
    }

    fn new(server: Server, framing: Framing) -> Self {
        Self {
            server,
            socket: None,
            framing,
            message: Vec::new(),
        }
    }
}

impl Server {
    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Socket(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket))
            }
            Self::Udp(server) => {
                let address = server
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::other("its name has no address"))?;
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => ([0; 4], 0).into(),
                    SocketAddr::V6(_) => ([0; 16], 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(socket))
            }
        }
    }
}

impl Socket {
    fn send(&self, message: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.send(message),
            Self::Udp(socket) => socket.send(message),
        }
    }
}

impl Output for Datagrams {
    fn write(&mut self, lines: &[u8]) -> io::Result<Taken> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.server.connect()?,
        };
        let mut taken = Taken::from(0);
        let mut is_broken = false;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.message.clear();
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            self.framing.frame(text, &mut self.message);
            match socket.send(&self.message) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    taken.lost += 1;
                }
                Err(error) => {
                    is_broken = error.kind() != io::ErrorKind::WouldBlock;
                    if taken.bytes == 0 {
                        if !is_broken {
                            self.socket = Some(socket);
                        }
                        return Err(error);
                    }
                    break;
                }
            }
            taken.bytes += line.len();
        }
        if !is_broken {
            self.socket = Some(socket);
        }
        Ok(taken)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| match socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        })
    }
}
