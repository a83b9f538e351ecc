//! The talk between a process and its successor: steps that are done, and the listening sockets.
//!
//! It goes over a pair of sockets that the successor is born with as its standard input. Nobody else
//! can join in, as anybody could with a socket in the file system, and either side learns at once
//! that the other has gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt,
};
use serde::{Deserialize, Serialize};

use crate::config::Address;
use crate::tls::{SealedKeys, TicketKeys};

/// Tells a process that its standard input leads to its predecessor, whose number it holds.
const VARIABLE: &str = "TOLLGATE_HANDOVER";
/// Sockets in one message; the kernel allows 253.
const MOST_SOCKETS: usize = 128;
/// Bytes of one message. A reason is cut to half of it.
const LARGEST_MESSAGE: usize = 32 * 1024;

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
    },
    /// To the successor: accept clients.
    Accept,
    /// To the predecessor.
    Done { step: Step },
    /// To the predecessor: the successor ends.
    Failed { step: Step, reason: String },
}

/// One end of the talk.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

/// The process before this one, which still serves.
#[derive(Debug)]
pub struct Predecessor {
    line: Line,
    pid: u32,
}

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

    /// Says which sockets there are, and which keys.
    pub(super) fn send_sockets(
        &self,
        sockets: &[(Address, OwnedFd)],
        ticket_keys: &TicketKeys,
    ) -> io::Result<()> {
        let mut rest = sockets;
        loop {
            let (part, after) = rest.split_at(rest.len().min(MOST_SOCKETS));
            let is_last = after.is_empty();
            let message = Message::Sockets {
                addresses: part.iter().map(|(address, _)| address.clone()).collect(),
                is_last,
                ticket_keys: is_last.then(|| ticket_keys.seal()),
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
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it that a step is done.
    pub(super) fn done(&self, step: Step) -> io::Result<()> {
        self.line.send(&Message::Done { step }, &[])
    }

    /// Tells it why this process ends.
    pub(super) fn fail(&self, step: Step, reason: &str) {
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

    /// Its listening sockets, and its keys if it has some.
    ///
    /// # Errors
    /// When they do not come, or are not what they are said to be.
    pub(super) fn receive_sockets(
        &self,
        patience: Duration,
        keys: &TicketKeys,
    ) -> io::Result<Vec<(Address, OwnedFd)>> {
        let mut received = Vec::new();
        loop {
            let Some((
                Message::Sockets {
                    addresses,
                    is_last,
                    ticket_keys,
                },
                sockets,
            )) = self.line.receive(Some(patience))?
            else {
                return Err(io::Error::other("the old process did not send its sockets"));
            };
            if let Some(sealed) = ticket_keys {
                keys.take_over(&sealed);
            }
            if addresses.len() != sockets.len() {
                return Err(io::Error::other("sockets were lost on the way"));
            }
            for (address, socket) in addresses.into_iter().zip(sockets) {
                let socket = check(&address, socket)?;
                received.push((address, socket));
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
    pub(super) fn await_leave(&self, patience: Duration) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn talk() -> (Line, Predecessor) {
        let (line, other) = Line::pair().unwrap();
        let predecessor = Predecessor {
            line: Line(other),
            pid: 1,
        };
        (line, predecessor)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn many_sockets_arrive_and_still_listen() {
        let (line, predecessor) = talk();
        let sockets: Vec<(Address, OwnedFd)> = (0..MOST_SOCKETS + 3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .map(|it| (it.local_addr().unwrap().into(), it.into()))
            .collect();
        line.send_sockets(&sockets, &TicketKeys::default()).unwrap();
        let addresses: Vec<_> = sockets.iter().map(|(address, _)| address.clone()).collect();
        drop(sockets);
        let received = predecessor.receive_sockets(SOON, &TicketKeys::default());
        let received = received.unwrap();
        let arrived: Vec<_> = received
            .iter()
            .map(|(address, _)| address.clone())
            .collect();
        assert_eq!(arrived, addresses);
        let last = arrived[MOST_SOCKETS].to_string();
        assert!(std::net::TcpStream::connect(last).is_ok());
    }

    #[test]
    fn a_socket_that_is_not_what_it_is_said_to_be_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], address.port() ^ 1));
        for (claimed, socket) in [
            (elsewhere, OwnedFd::from(listener.try_clone().unwrap())),
            (
                address,
                std::net::TcpStream::connect(address).unwrap().into(),
            ),
        ] {
            let (line, predecessor) = talk();
            let keys = TicketKeys::default();
            line.send_sockets(&[(claimed.into(), socket)], &keys)
                .unwrap();
            assert!(predecessor.receive_sockets(SOON, &keys).is_err());
        }
    }

    #[test]
    fn silence_nonsense_and_the_end_are_told_apart() {
        let (line, predecessor) = talk();
        let silent = line.receive(Some(Duration::from_millis(1))).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        rustix::net::send(&predecessor.line.0, b"hello?", SendFlags::empty()).unwrap();
        assert!(line.receive(Some(SOON)).is_err());
        predecessor.fail(Step::Health, &"ä".repeat(LARGEST_MESSAGE));
        let Some((Message::Failed { step, reason }, _)) = line.receive(Some(SOON)).unwrap() else {
            panic!("not a failure");
        };
        assert_eq!(step, Step::Health);
        assert!(reason.ends_with('ä'));
        drop(predecessor);
        assert!(line.receive(Some(SOON)).unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_though_their_speaker_did_not_listen() {
        let (line, predecessor) = talk();
        line.send(&Message::Accept, &[]).unwrap();
        predecessor.done(Step::Configuration).unwrap();
        drop(predecessor);
        let said = line.receive(Some(SOON)).unwrap();
        assert!(matches!(said, Some((Message::Done { .. }, _))), "{said:?}");
        assert!(line.receive(Some(SOON)).unwrap().is_none());
    }
}
