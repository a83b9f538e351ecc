//! Files, and what else is written to like one: pipes, terminals, the standard streams.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::{Output, Taken, is_ready};

/// So much is taken at once by a pipe that is ready to take anything, and never mixed with what other processes
/// write (`PIPE_BUF`, pipe(7)). So lines stay whole that two processes write during an upgrade.
const PIPE_BYTES: usize = 4096;
/// Nobody but the owner writes, and the group may read.
const MODE: u32 = 0o640;

/// An open file or the like.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Stream {
    file: File,
    /// A disk takes whatever fits.
    is_disk: bool,
}

impl Stream {
    /// A stream that others have, too. They would notice if it stopped to block, so it does not.
    pub(in crate::telemetry::access_log) fn duplicate(stream: &impl AsFd) -> io::Result<Self> {
        Self::of(stream.as_fd().try_clone_to_owned()?.into())
    }

    /// The end of a file, which is made if there is none.
    pub(in crate::telemetry::access_log) fn append(path: &Path) -> io::Result<Self> {
        // A pipe that nobody reads would keep the process from starting.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(MODE)
            .custom_flags(nonblocking)
            .open(path)?;
        Self::of(file)
    }

    fn of(file: File) -> io::Result<Self> {
        let is_disk = file.metadata()?.is_file();
        Ok(Self { file, is_disk })
    }
}

impl Output for Stream {
    fn write(&mut self, lines: &[u8]) -> io::Result<Taken> {
        if self.is_disk {
            return self.file.write(lines).map(Taken::from);
        }
        if !is_ready(self.file.as_fd(), Duration::ZERO) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.write(whole_lines(lines)).map(Taken::from)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// As many lines as are written at once, or a part of the first.
fn whole_lines(lines: &[u8]) -> &[u8] {
    let most = &lines[..lines.len().min(PIPE_BYTES)];
    if most.len() == lines.len() {
        return most;
    }
    match most.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => &most[..=end],
        None => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_given_whole_lines_unless_one_is_longer_than_it_takes_at_once() {
        let line = [b'x'; 1000];
        let mut lines = Vec::new();
        for _ in 0..9 {
            lines.extend_from_slice(&line[1..]);
            lines.push(b'\n');
        }
        assert_eq!(whole_lines(&lines).len(), 4000);
        assert_eq!(whole_lines(&lines[..3500]).len(), 3500);
        assert_eq!(whole_lines(&[b'x'; 9000]).len(), PIPE_BYTES);
    }
}
