//! The talk as the successor has it: what it is given, and what it says of its steps.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::net::{SocketType, sockopt};

use super::{Inheritance, LARGEST_MESSAGE, Line, Message, Step, VARIABLE};
use crate::config::Address;
use crate::tls::TicketKeys;

/// The process before this one, which still serves.
#[derive(Debug)]
pub struct Predecessor {
    pub(super) line: Line,
    pub(super) pid: u32,
}

impl Predecessor {
    /// The process that started this one to be succeeded by it, if any did.
    pub fn find() -> Option<Self> {
        let pid = std::env::var(VARIABLE).ok()?.parse().ok()?;
        let line = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
        // The variable may have been left over in an environment that knows nothing of it.
        let is_line = sockopt::socket_type(&line).is_ok_and(|kind| kind == SocketType::SEQPACKET);
        is_line.then_some(Self {
            line: Line(line),
            pid,
        })
    }

    /// Its number.
    pub(in crate::server) fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it that a step is done.
    pub(in crate::server) fn done(&self, step: Step) -> io::Result<()> {
        self.line.send(&Message::Done { step }, &[])
    }

    /// Tells it why this process ends.
    pub(in crate::server) fn fail(&self, step: Step, reason: &str) {
        let mut end = reason.len().min(LARGEST_MESSAGE / 4);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason[..end].to_owned();
        if let Err(error) = self.line.send(&Message::Failed { step, reason }, &[]) {
            log::warn!("the process before this one was not told of the failure: {error}");
        }
    }

    /// Tells it that the configuration can't be used.
    pub fn refuse_configuration(&self, reason: &str) {
        self.fail(Step::Configuration, reason);
    }

    /// What goes on in this process: its listening sockets, what operators have changed, and its keys if it has
    /// some.
    ///
    /// # Errors
    /// When they do not come, or are not what they are said to be.
    pub(in crate::server) fn receive_inheritance(
        &self,
        patience: Duration,
        keys: &TicketKeys,
    ) -> io::Result<Inheritance> {
        let mut received = Inheritance::default();
        loop {
            let Some((
                Message::Sockets {
                    addresses,
                    is_last,
                    ticket_keys,
                    by_hand,
                },
                sockets,
            )) = self.line.receive(Some(patience))?
            else {
                return Err(io::Error::other("the old process did not send its sockets"));
            };
            if let Some(sealed) = ticket_keys {
                keys.take_over(&sealed);
            }
            received.by_hand.extend(by_hand);
            if addresses.len() != sockets.len() {
                return Err(io::Error::other("sockets were lost on the way"));
            }
            for (address, socket) in addresses.into_iter().zip(sockets) {
                let socket = check(&address, socket)?;
                received.sockets.push((address, socket));
            }
            if is_last {
                return Ok(received);
            }
        }
    }

    /// Waits until it says that clients may be accepted.
    ///
    /// # Errors
    /// When it does not.
    pub(in crate::server) fn await_leave(&self, patience: Duration) -> io::Result<()> {
        match self.line.receive(Some(patience))? {
            Some((Message::Accept, _)) => Ok(()),
            _ => Err(io::Error::other(
                "the old process has gone or goes on itself",
            )),
        }
    }
}

/// Whether a socket listens on the address that it was sent for.
fn check(address: &Address, socket: OwnedFd) -> io::Result<OwnedFd> {
    let is_listening = sockopt::socket_acceptconn(&socket)?;
    let (is_there, socket): (bool, OwnedFd) = match address {
        Address::Inet(address) => {
            let listener = TcpListener::from(socket);
            (listener.local_addr()? == *address, listener.into())
        }
        Address::Unix(path) => {
            let listener = UnixListener::from(socket);
            let is_there = listener.local_addr()?.as_pathname() == Some(path);
            (is_there, listener.into())
        }
    };
    if !is_listening || !is_there {
        let text = format!("the socket for {address} is not one that listens there");
        return Err(io::Error::other(text));
    }
    Ok(socket)
}
