//! The ways out of the process. None of them waits for whoever reads, and none leaves half a line behind: what
//! is not taken stays with the writer.

mod connection;
mod datagrams;
mod framing;
mod stream;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(super) use self::connection::SyslogConnection;
pub(super) use self::datagrams::Datagrams;
pub(super) use self::framing::Framing;
pub(super) use self::stream::Stream;

/// What was taken of some lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes from their beginning.
    pub(super) bytes: usize,
    /// Lines among them that are lost, for they are longer than the output can bear.
    pub(super) lost: u64,
}

impl From<usize> for Taken {
    fn from(bytes: usize) -> Self {
        Self { bytes, lost: 0 }
    }
}

/// A way out.
pub(super) trait Output: Send + fmt::Debug {
    /// Takes as much from the beginning of `lines` as it can without waiting. What it leaves, whole lines or
    /// the rest of one, it is given again at the next call.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it can't take anything now; else why it can't.
    fn write(&mut self, lines: &[u8]) -> io::Result<Taken>;

    /// What becomes ready when more can be taken.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Whether a descriptor can be written to, or becomes so within this time.
pub(super) fn is_ready(descriptor: BorrowedFd<'_>, within: Duration) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
    let within = Timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: within.subsec_nanos().into(),
    };
    // Whatever else it is ready for, a write finds out.
    poll(&mut descriptors, Some(&within)).is_ok_and(|ready| ready > 0)
}
