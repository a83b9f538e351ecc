//! An answer on its way into the store, and those who read it meanwhile.
//!
//! One that turns out to be too large is let go: who reads it already reads on, and what all have read is
//! freed. It is fetched no faster than they read then, as far as the framework can be held back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora_cache::CacheMeta;
use tokio::sync::watch;

use super::key::Ticket;
use super::object::{Head, Object, expire, tags};

/// Bytes of an answer that is not kept which may wait for readers before its backend is held back.
const FREE_BACKLOG: u64 = 4 << 20;
/// Bytes above which it ends, since nobody reads it.
const MOST_BACKLOG: u64 = 32 << 20;
/// Bytes of such an answer that are read at once.
const READ_AT_ONCE: usize = 1 << 20;
/// The longest its backend is held back for a part.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) key: u128,
    pub(super) number: u64,
    pub(super) head: Head,
    pub(super) tags: Arc<[Box<str>]>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) refreshing: Arc<AtomicBool>,
    /// Whether it is purged, so that only those read it who do already.
    is_revoked: AtomicBool,
    /// As in an object.
    expired: AtomicU64,
    progress: Mutex<Progress>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Progress {
    parts: VecDeque<Bytes>,
    /// How many parts before them are freed.
    freed: usize,
    /// Bytes so far.
    size: u64,
    /// Bytes of the parts that are not freed.
    held: u64,
    is_too_large: bool,
    end: End,
    /// The next part of each reader.
    readers: Vec<Arc<AtomicUsize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Open,
    Whole,
    Broken,
}

/// Someone who reads an answer as it comes.
pub(super) struct Reader {
    fill: Arc<Fill>,
    next: Arc<AtomicUsize>,
    changed: watch::Receiver<()>,
}

/// What became of a part that was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is one of an answer that may be kept.
    Kept,
    /// It is one of an answer that is too large.
    PassedOn,
    /// Nobody reads it.
    InVain,
}

/// The answer broke off before its end.
#[derive(Debug)]
pub(super) struct Broken;

/// Bytes that were fetched and not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog(u64);

impl Backlog {
    /// How long to wait before more is fetched.
    pub fn delay(self) -> Option<Duration> {
        let excess = self.0.checked_sub(FREE_BACKLOG)?;
        let delay = Duration::from_millis(excess * 20 / (1 << 20));
        (!delay.is_zero()).then_some(delay.min(LONGEST_DELAY))
    }
}

impl Fill {
    pub(super) fn new(key: u128, number: u64, head: Head, ticket: Arc<Ticket>) -> Arc<Self> {
        Arc::new(Self {
            key,
            number,
            tags: tags(head.headers()),
            head,
            ticket,
            refreshing: Arc::default(),
            is_revoked: AtomicBool::new(false),
            expired: AtomicU64::new(0),
            progress: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    /// Takes the next part.
    pub(super) fn write(&self, part: &Bytes) -> Written {
        let mut progress = self.lock();
        if !part.is_empty() {
            progress.size += part.len() as u64;
            progress.held += part.len() as u64;
            // The framework's buffers are larger than what came in them.
            progress.parts.push_back(Bytes::copy_from_slice(part));
        }
        progress.is_too_large |= progress.size > self.ticket.max_object_size;
        let written = match progress.is_too_large {
            false => Written::Kept,
            true => progress.free(),
        };
        drop(progress);
        self.changed.send_replace(());
        written
    }

    /// The answer has ended. It is not whole if its length is not the one that was announced.
    pub(super) fn end(&self) -> bool {
        let mut progress = self.lock();
        let announced = self.head.headers().get(CONTENT_LENGTH);
        let announced =
            announced.and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
        let is_whole = announced.is_none_or(|length| length == progress.size);
        progress.end = if is_whole { End::Whole } else { End::Broken };
        drop(progress);
        self.changed.send_replace(());
        is_whole
    }

    /// The answer breaks off, unless it has ended.
    pub(super) fn break_off(&self) {
        let mut progress = self.lock();
        if progress.end == End::Open {
            progress.end = End::Broken;
        }
        drop(progress);
        self.changed.send_replace(());
    }

    /// Nobody else may read it.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    pub(super) fn expire(&self, seconds: u64) {
        self.expired.fetch_max(seconds, Ordering::Relaxed);
    }

    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Whether those who come now may read it.
    pub(super) fn is_open(&self) -> bool {
        let progress = self.lock();
        !self.is_revoked.load(Ordering::Relaxed)
            && !progress.is_too_large
            && progress.end != End::Broken
    }

    /// The answer as a whole, if it is one to keep.
    pub(super) fn object(&self) -> Option<Object> {
        if !self.is_open() {
            return None;
        }
        let progress = self.lock();
        if progress.end != End::Whole {
            return None;
        }
        let mut head = self.head.clone();
        head.set_length(progress.size);
        let body: Arc<[Bytes]> = progress.parts.iter().cloned().collect();
        let location = Arc::from(&*self.ticket.location);
        Some(Object::new(
            self.number,
            head,
            body,
            location,
            self.expired(),
        ))
    }

    /// As the framework knows it.
    pub(super) fn meta(&self) -> CacheMeta {
        let mut meta = self.head.meta(self.number, &self.refreshing);
        expire(&mut meta, self.expired());
        meta
    }

    pub(super) fn reader(self: &Arc<Self>) -> Reader {
        let next = Arc::new(AtomicUsize::new(0));
        self.lock().readers.push(next.clone());
        Reader {
            fill: self.clone(),
            next,
            changed: self.changed.subscribe(),
        }
    }

    /// What waits for readers, if it is not kept.
    pub(super) fn backlog(&self) -> Option<Backlog> {
        let progress = self.lock();
        progress.is_too_large.then_some(Backlog(progress.held))
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Frees what everybody has read who reads at all.
    fn free(&mut self) -> Written {
        self.readers.retain(|reader| Arc::strong_count(reader) > 1);
        let slowest = self
            .readers
            .iter()
            .map(|next| next.load(Ordering::Relaxed))
            .min();
        let Some(slowest) = slowest else {
            return Written::InVain;
        };
        while self.freed < slowest
            && let Some(part) = self.parts.pop_front()
        {
            self.freed += 1;
            self.held -= part.len() as u64;
        }
        match self.held > MOST_BACKLOG {
            true => Written::InVain,
            false => Written::PassedOn,
        }
    }

    /// The parts from one on that are read at once.
    fn read(&self, next: usize) -> Option<(Bytes, usize)> {
        let index = next - self.freed;
        let first = self.parts.get(index)?;
        if !self.is_too_large {
            return Some((first.clone(), 1));
        }
        let mut joined = Vec::new();
        let mut count = 0;
        for part in self.parts.range(index..) {
            if count > 0 && joined.len() + part.len() > READ_AT_ONCE {
                break;
            }
            joined.extend_from_slice(part);
            count += 1;
        }
        Some((joined.into(), count))
    }
}

impl Reader {
    /// The next part; `None` at the end.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            self.changed.borrow_and_update();
            {
                let progress = self.fill.lock();
                let next = self.next.load(Ordering::Relaxed);
                if let Some((part, count)) = progress.read(next) {
                    self.next.store(next + count, Ordering::Relaxed);
                    return Ok(Some(part));
                }
                match progress.end {
                    End::Whole => return Ok(None),
                    End::Broken => return Err(Broken),
                    End::Open => {}
                }
            }
            // The sender lives as long as the fill.
            if self.changed.changed().await.is_err() {
                return Err(Broken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::FutureExt;
    use pingora::http::ResponseHeader;

    use super::*;

    fn fill(most: u64, length: Option<u64>) -> Arc<Fill> {
        let mut header = ResponseHeader::build(200, None).unwrap();
        if let Some(length) = length {
            header.insert_header(CONTENT_LENGTH, length).unwrap();
        }
        let now = SystemTime::now();
        let head = Head::of(&CacheMeta::new(now, now, 0, 0, header));
        Fill::new(1, 1, head, Ticket::new(String::new(), 0, most))
    }

    fn read(reader: &mut Reader) -> Option<Result<Option<Bytes>, Broken>> {
        reader.read().now_or_never()
    }

    #[test]
    fn readers_follow_and_wait_for_what_is_yet_to_come() {
        let fill = fill(100, None);
        let mut early = fill.reader();
        assert!(read(&mut early).is_none());
        assert_eq!(fill.write(&Bytes::from_static(b"a")), Written::Kept);
        let mut late = fill.reader();
        for reader in [&mut early, &mut late] {
            assert_eq!(read(reader).unwrap().unwrap().unwrap(), "a");
            assert!(read(reader).is_none());
        }
        assert!(fill.object().is_none());
        assert!(fill.end());
        assert!(read(&mut early).unwrap().unwrap().is_none());
        assert_eq!(fill.object().unwrap().length(), 1);
    }

    #[test]
    fn what_breaks_off_or_has_another_length_is_not_whole() {
        let broken = fill(100, None);
        let mut reader = broken.reader();
        broken.break_off();
        assert!(read(&mut reader).unwrap().is_err());
        assert!(!broken.is_open() && broken.object().is_none());
        let short = fill(100, Some(5));
        short.write(&Bytes::from_static(b"1234"));
        assert!(!short.end() && short.object().is_none());
    }

    #[test]
    fn what_is_too_large_is_freed_as_it_is_read_and_ends_with_its_last_reader() {
        let fill = fill(10, None);
        let mut reader = fill.reader();
        assert_eq!(
            fill.write(&Bytes::from_static(b"0123456789")),
            Written::Kept
        );
        assert_eq!(fill.backlog(), None);
        assert_eq!(fill.write(&Bytes::from_static(b"a")), Written::PassedOn);
        assert!(!fill.is_open());
        assert_eq!(fill.backlog(), Some(Backlog(11)));
        assert_eq!(read(&mut reader).unwrap().unwrap().unwrap(), "0123456789a");
        assert_eq!(fill.write(&Bytes::from_static(b"b")), Written::PassedOn);
        assert_eq!(fill.backlog(), Some(Backlog(1)));
        drop(reader);
        assert_eq!(fill.write(&Bytes::from_static(b"c")), Written::InVain);
    }

    #[test]
    fn a_backend_is_held_back_the_more_the_more_waits() {
        assert_eq!(Backlog(FREE_BACKLOG).delay(), None);
        let delay = |mebibytes: u64| Backlog(mebibytes << 20).delay();
        assert_eq!(delay(5), Some(Duration::from_millis(20)));
        assert_eq!(delay(1000), Some(LONGEST_DELAY));
    }
}
