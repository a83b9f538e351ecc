//! An answer as a file: a header with everything but the body, then the body in blocks. Each part has a
//! checksum, and the length of the file follows from its header: a file that was not written to its end,
//! or not as it was meant, is none.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use pingora_cache::CacheMeta;
use rustix::io::Errno;

use super::super::object::Head;

/// Bytes of the body under one checksum.
pub(super) const BLOCK: u64 = 64 << 10;
/// What such a file begins with. The last byte is the version of what follows.
const MAGIC: [u8; 8] = *b"tollgat\x01";
/// Bytes before the head: magic, lengths, seed, checksum, and the mark of a soft purge with its own.
const FRONT: usize = 48;
/// Where the mark is.
const MARK: Range<usize> = 32..44;
/// What headers have in common, so that they are short. With another text here they are not read any more:
/// that is another version.
const COMMON: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: \r\nVia: 1.1 \r\nX-Cache: \r\nSurrogate-Key: \r\n\
    Access-Control-Allow-Origin: *\r\nStrict-Transport-Security: max-age=31536000\r\n\
    X-Content-Type-Options: nosniff\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n\
    Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nExpires: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    ETag: W/\"\"\r\nContent-Type: application/json\r\nContent-Type: text/html; charset=utf-8\r\n\
    Cache-Control: public, s-maxage=, max-age=600, stale-while-revalidate=, stale-if-error=\r\n\
    Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: ";
/// Bytes that are read at once in the hope that the whole header is among them.
const FIRST_READ: usize = 4096;
/// Headers that are longer are no answer's.
const LONGEST_HEAD: u32 = 1 << 20;
/// Bytes of a checksum.
const CHECKSUM: u64 = 4;

/// What the header of a file says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) key: u128,
    pub(super) location: Arc<str>,
    pub(super) head: Head,
    /// As in an object.
    pub(super) expired: u64,
    pub(super) body: Body,
}

/// Where the body of an answer is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Body {
    at: u64,
    pub(in super::super) length: u64,
    /// Keeps the blocks of one answer apart from those of others.
    seed: u32,
}

/// Why a file gives no answer.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Unreadable {
    /// It is not what was written.
    #[error("it is damaged")]
    Damaged,
    /// It can't be read.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Unreadable {
    /// Whether the file is of no use any more, and not only out of reach.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Damaged => true,
            Self::System(error) => matches!(
                Errno::from_io_error(error),
                Some(Errno::IO | Errno::NOENT | Errno::STALE)
            ),
        }
    }

    /// Whether it is not there any more.
    pub(super) fn has_gone(&self) -> bool {
        matches!(self, Self::System(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl Body {
    fn blocks(self) -> u64 {
        self.length.div_ceil(BLOCK)
    }

    /// The end of the file.
    fn end(self) -> u64 {
        self.at + self.length + self.blocks() * CHECKSUM
    }

    /// A part of the body, which is checked: all blocks that it touches are read for it.
    pub(in super::super) fn read(
        self,
        file: &File,
        part: Range<u64>,
    ) -> Result<Vec<Bytes>, Unreadable> {
        let part = part.start..part.end.min(self.length);
        if part.is_empty() {
            return Ok(Vec::new());
        }
        let blocks = part.start / BLOCK..part.end.div_ceil(BLOCK);
        let end = (self.at + blocks.end * (BLOCK + CHECKSUM)).min(self.end());
        let start = self.at + blocks.start * (BLOCK + CHECKSUM);
        let mut bytes = vec![0; (end - start) as usize];
        read_all(file, &mut bytes, start)?;
        let bytes = Bytes::from(bytes);
        let mut pieces = Vec::with_capacity((blocks.end - blocks.start) as usize);
        for (index, at) in blocks.zip((0..).step_by((BLOCK + CHECKSUM) as usize)) {
            let length = (self.length - index * BLOCK).min(BLOCK);
            let block = bytes.slice(at..at + length as usize);
            let said = &bytes[at + length as usize..][..CHECKSUM as usize];
            if checksum(self.seed, index, &block).to_le_bytes() != said {
                return Err(Unreadable::Damaged);
            }
            let from = part.start.saturating_sub(index * BLOCK) as usize;
            let to = (part.end - index * BLOCK).min(length) as usize;
            pieces.push(block.slice(from..to));
        }
        Ok(pieces)
    }
}

impl Record {
    /// Reads the header of a file and checks that the file is as long as that says.
    pub(super) fn read(file: &File) -> Result<Self, Unreadable> {
        let length = file.metadata()?.len();
        let mut bytes = vec![0; FIRST_READ.min(length as usize)];
        read_all(file, &mut bytes, 0)?;
        let head = match number(&bytes, 12) {
            Some(head) if head <= LONGEST_HEAD => head as usize,
            _ => return Err(Unreadable::Damaged),
        };
        if FRONT + head > bytes.len() {
            let read = bytes.len();
            if (FRONT + head) as u64 > length {
                return Err(Unreadable::Damaged);
            }
            bytes.resize(FRONT + head, 0);
            read_all(file, &mut bytes[read..], read as u64)?;
        }
        bytes.truncate(FRONT + head);
        let record = Self::decode(&bytes).ok_or(Unreadable::Damaged)?;
        match record.body.end() == length {
            true => Ok(record),
            false => Err(Unreadable::Damaged),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (front, mut rest) = bytes.split_at_checked(FRONT)?;
        let seed = number(front, 24)?;
        let mut hasher = Hasher::new();
        hasher.update(&front[..28]);
        hasher.update(rest);
        if front[..8] != MAGIC || number(front, 28)? != hasher.finalize() {
            return None;
        }
        let mark = &front[MARK];
        let is_marked = number(mark, 8)? == checksum(seed, 0, &mark[..8]);
        if !is_marked || front[MARK.end..] != [0; FRONT - MARK.end] {
            return None;
        }
        let key = u128::from_le_bytes(take(&mut rest, 16)?.try_into().ok()?);
        let mut part = || {
            let length = take(&mut rest, 4)?;
            take(&mut rest, number(length, 0)? as usize)
        };
        let location = std::str::from_utf8(part()?).ok()?.into();
        let meta = CacheMeta::deserialize(part()?, part()?).ok()?;
        Some(Self {
            key,
            location,
            head: Head::of(&meta),
            expired: u64::from_le_bytes(mark[..8].try_into().ok()?),
            body: Body {
                at: bytes.len() as u64,
                length: u64::from_le_bytes(front[16..24].try_into().ok()?),
                seed,
            },
        })
    }
}

/// Has the framework write headers in the form of these files.
pub(super) fn prepare() {
    // It is the same for the whole process.
    pingora_cache::set_compression_dict_content(COMMON.into());
}

/// The header of a file, for an answer with a body of this length.
pub(super) fn encode(
    (key, location, head): (u128, &str, &Head),
    expired: u64,
    (length, seed): (u64, u32),
) -> Option<Vec<u8>> {
    let (times, header) = head.serialise()?;
    let mut rest = key.to_le_bytes().to_vec();
    for part in [location.as_bytes(), &times, &header] {
        rest.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        rest.extend_from_slice(part);
    }
    let size = u32::try_from(rest.len())
        .ok()
        .filter(|it| *it <= LONGEST_HEAD)?;
    let mut bytes = Vec::with_capacity(FRONT + rest.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&seed.to_le_bytes());
    let mut hasher = Hasher::new();
    hasher.update(&bytes);
    hasher.update(&rest);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes.extend_from_slice(&mark(expired, seed));
    bytes.resize(FRONT, 0);
    bytes.extend_from_slice(&rest);
    Some(bytes)
}

/// Writes a body that comes in parts, in blocks with their checksums.
pub(super) fn write_body(to: &mut impl Write, parts: &[Bytes], seed: u32) -> io::Result<()> {
    let mut index = 0;
    let mut room = BLOCK as usize;
    let mut hasher = begin(seed, index);
    for part in parts {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(room));
            to.write_all(now)?;
            hasher.update(now);
            (room, rest) = (room - now.len(), later);
            if room == 0 {
                to.write_all(&hasher.finalize().to_le_bytes())?;
                (index, room) = (index + 1, BLOCK as usize);
                hasher = begin(seed, index);
            }
        }
    }
    match room == BLOCK as usize {
        true => Ok(()),
        false => to.write_all(&hasher.finalize().to_le_bytes()),
    }
}

/// Says in a file that its answer was purged softly.
pub(super) fn expire(file: &File, expired: u64) -> Result<(), Unreadable> {
    let mut front = [0; FRONT];
    read_all(file, &mut front, 0)?;
    let seed = number(&front, 24).ok_or(Unreadable::Damaged)?;
    // Both are within one sector, which is written as a whole or not at all.
    file.write_all_at(&mark(expired, seed), MARK.start as u64)?;
    Ok(file.sync_data()?)
}

/// The header that a file gets instead of its own, and what of the file stays.
pub(super) fn restate(record: &Record, head: &Head) -> Option<(Vec<u8>, Range<u64>)> {
    let of = (record.key, &*record.location, head);
    let front = encode(of, 0, (record.body.length, record.body.seed))?;
    Some((front, record.body.at..record.body.end()))
}

/// The length of a file at most, for an answer that takes so much memory.
pub(super) fn most_bytes(in_memory: u64, length: u64) -> u64 {
    in_memory + length.div_ceil(BLOCK) * CHECKSUM
}

fn mark(expired: u64, seed: u32) -> [u8; 12] {
    let mut mark = [0; 12];
    mark[..8].copy_from_slice(&expired.to_le_bytes());
    let sum = checksum(seed, 0, &mark[..8]);
    mark[8..].copy_from_slice(&sum.to_le_bytes());
    mark
}

fn begin(seed: u32, index: u64) -> Hasher {
    Hasher::new_with_initial(seed.wrapping_add(index as u32))
}

fn checksum(seed: u32, index: u64, bytes: &[u8]) -> u32 {
    let mut hasher = begin(seed, index);
    hasher.update(bytes);
    hasher.finalize()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

/// A file that ends too early is damaged.
fn read_all(file: &File, bytes: &mut [u8], at: u64) -> Result<(), Unreadable> {
    match file.read_exact_at(bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unreadable::Damaged),
        result => Ok(result?),
    }
}
