//! Messages of HTTP/1 as bytes: read by the letter of RFC 9112, and by nothing that was taken from the gateway.

use std::fmt::Write;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::support::PATIENCE;

/// Reads messages, one behind the other.
pub struct Reader<S> {
    stream: S,
    /// What has come and was not read yet.
    rest: Vec<u8>,
}

/// A message of which the header was read.
pub struct Head(Vec<u8>);

/// What comes next on a connection.
pub enum Next {
    Head(Head),
    /// It was closed where a message could have begun.
    End,
}

impl Head {
    pub fn first_line(&self) -> &str {
        let end = self.0.windows(2).position(|it| it == b"\r\n").unwrap();
        std::str::from_utf8(&self.0[..end]).unwrap()
    }

    pub fn status(&self) -> u16 {
        self.first_line()[9..12].parse().unwrap()
    }

    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<String> {
        let lines = self.0.split(|byte| *byte == b'\n').skip(1);
        lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let is_it = line[..colon].eq_ignore_ascii_case(name.as_bytes());
                is_it.then(|| String::from_utf8_lossy(line[colon + 1..].trim_ascii()).into())
            })
            .collect()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads more; whether there is any.
    pub async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.rest);
        let read = tokio::time::timeout(PATIENCE, read).await;
        // A connection that is reset has ended, too.
        read.expect("nothing comes").is_ok_and(|count| count > 0)
    }

    /// Whether nothing has come for so long that was not read.
    pub async fn is_silent(&mut self, silence: Duration) -> bool {
        self.rest.is_empty() && {
            let read = self.stream.read_buf(&mut self.rest);
            tokio::time::timeout(silence, read).await.is_err()
        }
    }

    /// All that comes until the other side closes.
    pub async fn all(mut self) -> Vec<u8> {
        while self.more().await {}
        self.rest
    }

    async fn until(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = end(&self.rest) {
                return Some(self.rest.drain(..end).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub async fn head(&mut self) -> Next {
        let head = self.until(|rest| Some(find(rest, b"\r\n\r\n")? + 4)).await;
        match head {
            Some(head) => {
                let text = String::from_utf8_lossy(&head).replace("\r\n", "");
                assert!(!text.contains(['\r', '\n']), "{}", head.escape_ascii());
                Next::Head(Head(head))
            }
            None if self.rest.is_empty() => Next::End,
            None => panic!("half a message: {}", self.rest.escape_ascii()),
        }
    }

    /// The body as it came, and whether it came as a whole. One without a length is none.
    pub async fn body(&mut self, head: &Head) -> (Vec<u8>, bool) {
        let lengths = head.values("content-length");
        let codings = head.values("transfer-encoding");
        let length = match (&lengths[..], &codings[..]) {
            ([], []) => 0,
            ([length], []) => length.parse().unwrap(),
            ([], [coding]) => {
                assert_eq!(coding, "chunked");
                let mut body = Vec::new();
                let is_whole = self.chunks(&mut body).await.is_some();
                return (body, is_whole);
            }
            _ => panic!("in two ways: {}", head.bytes().escape_ascii()),
        };
        let body = self.until(|rest| (rest.len() >= length).then_some(length));
        match body.await {
            Some(body) => (body, true),
            None => (std::mem::take(&mut self.rest), false),
        }
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.until(|rest| Some(find(rest, b"\r\n")? + 2)).await?;
            let size = std::str::from_utf8(&line).unwrap().trim_end();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend(&line);
            let chunk = self.until(|rest| (rest.len() >= size + 2).then_some(size + 2));
            let chunk = chunk.await?;
            assert!(chunk.ends_with(b"\r\n"), "{}", chunk.escape_ascii());
            body.extend(&chunk);
            if size == 0 {
                assert_eq!(chunk, b"\r\n", "trailers are not passed on");
                return Some(());
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

/// The bytes that a text stands for: line ends count for nothing, and `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN`
/// for one byte each. `\*NN{…}` is the text in the braces so many times.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\n' => {}
            '\\' => match rest.next().unwrap() {
                'r' => out.push(b'\r'),
                'n' => out.push(b'\n'),
                't' => out.push(b'\t'),
                '0' => out.push(0),
                '\\' => out.push(b'\\'),
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                '*' => {
                    let count: String = rest.by_ref().take_while(|it| *it != '{').collect();
                    let part: String = rest.by_ref().take_while(|it| *it != '}').collect();
                    out.extend(bytes(&part).repeat(count.parse().unwrap()));
                }
                other => panic!("\\{other} stands for nothing"),
            },
            char => out.extend(char.to_string().bytes()),
        }
    }
    out
}

/// The text of bytes, with an end of line behind each LF.
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n\n"),
            b'\t' => out.push_str("\\t"),
            0 => out.push_str("\\0"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(*byte as char),
            byte => write!(out, "\\x{byte:02x}").unwrap(),
        }
    }
    out
}
