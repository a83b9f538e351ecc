//! Answers that are read from disk: small ones whole, to go on in memory, and large ones as they are
//! given, part by part.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pingora_cache::CacheMeta;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::super::object::{Head, Object, expire};
use super::super::store::Store;
use super::record::{Body, Record, Unreadable};
use super::{Disk, LARGEST_WHOLE, OnDisk, READERS};

/// How long a request waits for the disk before its backend is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for the next part of an answer that is given already.
const PATIENCE_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that are read at once of what is given part by part.
const PART: u64 = 256 << 10;

/// What was read.
pub(in super::super) enum Loaded {
    /// All of it, which is in memory now.
    Object(Arc<Object>),
    /// What is known of it; its body is still to be read.
    File(CacheMeta, FileHit),
}

/// An answer on disk, as it is read.
pub(in super::super) struct FileHit {
    from: From,
    file: Arc<File>,
    body: Body,
    /// The bytes that are still to be read.
    rest: Range<u64>,
    read: VecDeque<Bytes>,
}

/// Where an answer is read from.
#[derive(Clone)]
struct From {
    store: &'static Store,
    disk: Arc<Disk>,
    entry: Arc<OnDisk>,
}

impl Disk {
    /// Reads an answer, if that is a matter of a moment.
    pub(in super::super) async fn load(
        self: &Arc<Self>,
        store: &'static Store,
        entry: Arc<OnDisk>,
    ) -> Option<Loaded> {
        if !entry.is_written() {
            return None;
        }
        let from = From {
            store,
            disk: self.clone(),
            entry,
        };
        let loaded = match from.entry.length > LARGEST_WHOLE {
            true => timeout(PATIENCE, from.begin()).await,
            false => timeout(PATIENCE, from.whole()).await,
        };
        loaded.ok().flatten()
    }
}

impl From {
    /// The answer, which goes on in memory. Whoever asks for the same meanwhile waits for that.
    async fn whole(self) -> Option<Loaded> {
        let turn = (self.entry.name.key % READERS as u128) as usize;
        let turn = self.disk.turns[turn].clone().lock_owned().await;
        if let Some(object) = self.store.stored_for(&self.entry) {
            return Some(Loaded::Object(object));
        }
        // It is read to its end even if the request goes away, and nobody else reads meanwhile.
        let reading = spawn_blocking(move || {
            let _turn = turn;
            self.read_whole()
        });
        reading.await.ok().flatten().map(Loaded::Object)
    }

    fn read_whole(&self) -> Option<Arc<Object>> {
        let read = self.open().and_then(|(file, record)| {
            let body = record.body.read(&file, 0..record.body.length)?;
            Ok((record.head, body))
        });
        let (head, body) = self.unless_lost(read)?;
        self.store.promote(&self.entry, head, body.into())
    }

    /// An answer that is given part by part.
    async fn begin(self) -> Option<Loaded> {
        let permit = self.disk.readers.clone().acquire_owned().await.ok()?;
        let reading = spawn_blocking(move || {
            let _permit = permit;
            let (file, record) = self.unless_lost(self.open())?;
            let meta = self.meta(&record.head);
            let hit = FileHit {
                from: self,
                file: Arc::new(file),
                body: record.body,
                rest: 0..record.body.length,
                read: VecDeque::new(),
            };
            Some(Loaded::File(meta, hit))
        });
        reading.await.ok().flatten()
    }

    fn open(&self) -> Result<(File, Record), Unreadable> {
        let file = File::open(self.disk.folder.file(self.entry.name))?;
        let record = Record::read(&file)?;
        match record.key == self.entry.name.key {
            true => Ok((file, record)),
            false => Err(Unreadable::Damaged),
        }
    }

    fn meta(&self, head: &Head) -> CacheMeta {
        let mut meta = head.meta(self.entry.number, self.entry.refreshing());
        expire(&mut meta, self.entry.expired());
        meta
    }

    /// Counts what was read. What can't be read is not kept any more.
    fn unless_lost<T>(&self, read: Result<T, Unreadable>) -> Option<T> {
        match read {
            Ok(read) => {
                self.disk.counts.hits.fetch_add(1, Ordering::Relaxed);
                Some(read)
            }
            Err(error) => {
                self.lose(&error);
                None
            }
        }
    }

    fn lose(&self, error: &Unreadable) {
        log::debug!("a kept answer on disk is not read: {error}");
        if error.is_loss() {
            // What went just now is no damage.
            let damaged = u64::from(!error.has_gone());
            self.disk
                .counts
                .damaged
                .fetch_add(damaged, Ordering::Relaxed);
            self.store.lose(&self.entry);
        }
    }
}

impl FileHit {
    /// The next part; `None` at the end.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if let Some(part) = self.read.pop_front() {
            return Ok(Some(part));
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest.start;
        let end = (start / PART * PART + PART).min(self.rest.end);
        let late = || Unreadable::System(io::ErrorKind::TimedOut.into());
        let permit = self.from.disk.readers.clone().acquire_owned();
        let permit = timeout(PATIENCE_WITHIN, permit).await;
        let permit = permit.map_err(|_| late())?.map_err(|_| late())?;
        let (file, body) = (self.file.clone(), self.body);
        let reading = spawn_blocking(move || {
            let _permit = permit;
            body.read(&file, start..end)
        });
        let read = timeout(PATIENCE_WITHIN, reading).await;
        let read = read.map_err(|_| late())?.map_err(|_| late())?;
        if let Err(error) = &read {
            self.from.lose(error);
        }
        self.read = read?.into();
        self.rest.start = end;
        Ok(self.read.pop_front())
    }

    /// Goes on with a part of the body. `false` if there is none.
    pub(in super::super) fn seek(&mut self, start: u64, end: Option<u64>) -> bool {
        let length = self.body.length;
        self.read.clear();
        self.rest = start..end.map_or(length, |end| length.min(end));
        start < length
    }
}
