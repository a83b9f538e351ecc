//! Lines as messages over TCP, each with its length before it (RFC 6587 §3.4.1).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Framing, Output, Taken};

/// Bytes that are sent at once, about.
const BATCH_BYTES: usize = 16 * 1024;
/// How long each address of a server is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// A connection to a syslog server, which is opened when there is something to send, and again after it failed.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct SyslogConnection {
    server: Box<str>,
    stream: Option<TcpStream>,
    framing: Framing,
    batch: Batch,
}

/// Messages that are being sent.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes of lines that it was made of.
    of: usize,
    message: Vec<u8>,
}

impl SyslogConnection {
    /// To `host:port`.
    pub(in crate::telemetry::access_log) fn new(server: Box<str>, framing: Framing) -> Self {
        Self {
            server,
            stream: None,
            framing,
            batch: Batch::default(),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("its name has no address");
        for address in self.server.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Batch {
    fn fill(&mut self, lines: &[u8], framing: &Framing) {
        self.bytes.clear();
        (self.sent, self.of) = (0, 0);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.message.clear();
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            framing.frame(text, &mut self.message);
            let mut length = itoa::Buffer::new();
            self.bytes
                .extend_from_slice(length.format(self.message.len()).as_bytes());
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(&self.message);
            self.of += line.len();
            if self.bytes.len() >= BATCH_BYTES {
                break;
            }
        }
    }
}

impl Output for SyslogConnection {
    fn write(&mut self, lines: &[u8]) -> io::Result<Taken> {
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => {
                // A message that was cut off is sent again as a whole.
                self.batch.sent = 0;
                self.connect()?
            }
        };
        let batch = &mut self.batch;
        if batch.of == 0 {
            batch.fill(lines, &self.framing);
        }
        while batch.sent < batch.bytes.len() {
            match stream.write(&batch.bytes[batch.sent..]) {
                Ok(sent) => batch.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        self.stream = Some(stream);
                    }
                    return Err(error);
                }
            }
        }
        self.stream = Some(stream);
        Ok(std::mem::take(&mut batch.of).into())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }
}

/// Whether the server has not closed its end, of which a write would be told too late.
fn is_open(stream: &TcpStream) -> bool {
    // It has nothing to say; if it speaks, nobody listens.
    let mut nothing = [0; 64];
    let mut stream = stream;
    match stream.read(&mut nothing) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
