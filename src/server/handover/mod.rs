//! The talk between a process and its successor: steps that are done, the listening sockets, and what else goes on.
//!
//! It goes over a pair of sockets that the successor is born with as its standard input. Nobody else
//! can join in, as anybody could with a socket in the file system, and either side learns at once
//! that the other has gone.

mod predecessor;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt,
};
use serde::{Deserialize, Serialize};

pub use self::predecessor::Predecessor;
use crate::config::Address;
use crate::tls::{SealedKeys, TicketKeys};
use crate::upstream::ByHand;

/// Tells a process that its standard input leads to its predecessor, whose number it holds.
const VARIABLE: &str = "TOLLGATE_HANDOVER";
/// Sockets in one message; the kernel allows 253.
const MOST_SOCKETS: usize = 128;
/// Bytes of one message. A reason is cut to half of it.
const LARGEST_MESSAGE: usize = 32 * 1024;
/// Endpoints in one message; a name has 255 bytes at most, and a port.
const MOST_ENDPOINTS: usize = 64;

/// What a successor does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// The program starts.
    Start,
    /// It reads and compiles the configuration.
    Configuration,
    /// It takes the sockets over and binds new ones.
    Listeners,
    /// It answers a request of its own.
    Health,
    /// It accepts clients.
    Accept,
}

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// To the successor: as many sockets as addresses come along.
    Sockets {
        addresses: Vec<Address>,
        is_last: bool,
        /// With the last ones: what clients take up their TLS sessions by.
        #[serde(default)]
        ticket_keys: Option<SealedKeys>,
        /// What operators have changed of a service, in messages without sockets.
        #[serde(default)]
        by_hand: Option<ByHand>,
    },
    /// To the successor: accept clients.
    Accept,
    /// To the predecessor.
    Done { step: Step },
    /// To the predecessor: the successor ends.
    Failed { step: Step, reason: String },
}

/// What goes on in the next process.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    pub(super) sockets: Vec<(Address, OwnedFd)>,
    /// What operators have changed of services.
    pub(super) by_hand: Vec<ByHand>,
}

/// One end of the talk.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Configuration => "configuration",
            Self::Listeners => "listeners",
            Self::Health => "health",
            Self::Accept => "accept",
        })
    }
}

impl Line {
    /// A line and its other end.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (this, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(this), other))
    }

    /// Says something, with sockets.
    pub(super) fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(
            &self.0,
            &[IoSlice::new(&text)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Hands over all that goes on, and the keys.
    pub(super) fn hand_over(
        &self,
        inheritance: &Inheritance,
        ticket_keys: &TicketKeys,
    ) -> io::Result<()> {
        for by_hand in inheritance.by_hand.iter().flat_map(parts) {
            let message = Message::Sockets {
                addresses: Vec::new(),
                is_last: false,
                ticket_keys: None,
                by_hand: Some(by_hand),
            };
            self.send(&message, &[])?;
        }
        let mut rest = &inheritance.sockets[..];
        loop {
            let (part, after) = rest.split_at(rest.len().min(MOST_SOCKETS));
            let is_last = after.is_empty();
            let message = Message::Sockets {
                addresses: part.iter().map(|(address, _)| address.clone()).collect(),
                is_last,
                ticket_keys: is_last.then(|| ticket_keys.seal()),
                by_hand: None,
            };
            let part: Vec<_> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
            self.send(&message, &part)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    /// What is said next; `None` if the other side has gone.
    ///
    /// # Errors
    /// When nothing is said within `patience`, or something that makes no sense.
    pub(super) fn receive(
        &self,
        patience: Option<Duration>,
    ) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, patience)?;
        let mut text = vec![0; LARGEST_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The other side went without having read all: said once, before what it had said itself.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                other => break other?,
            }
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&text[..received.bytes])?;
        Ok(Some((message, sockets)))
    }
}

/// Makes `command` start a successor at the other end of a line.
pub(super) fn prepare(command: &mut std::process::Command, end: OwnedFd) {
    command
        .env(VARIABLE, std::process::id().to_string())
        // It names the process that systemd watches, which is about to change.
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(end));
}

/// What was changed of a service, in parts that fit into messages.
fn parts(by_hand: &ByHand) -> Vec<ByHand> {
    let mut drained = by_hand.drained.chunks(MOST_ENDPOINTS);
    let first = drained.next().unwrap_or_default();
    std::iter::once(first)
        .chain(drained)
        .map(|drained| ByHand {
            drained: drained.to_vec(),
            ..by_hand.clone()
        })
        .collect()
}
