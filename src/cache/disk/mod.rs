//! The part of what is kept that is on disk, one file an answer, and outlives the process.
//!
//! What is where stands in the store's shards, so that purges meet it like everything else. All files are
//! written and removed by one thread, in the order in which it was told; whoever answers requests only
//! tells it, and waits for nothing. Files are read by threads that may wait for the disk.

mod entry;
mod folder;
mod read;
mod record;
mod scan;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Semaphore, oneshot};

pub(super) use self::entry::OnDisk;
pub use self::folder::make as make_folder;
use self::folder::{Folder, Name};
pub(super) use self::read::{FileHit, Loaded};
use self::writer::Writer;
use super::object::{Head, Object};
use super::store::Store;

/// Bytes of answers that may wait to be written; what comes when there are more is not.
const MOST_WAITING: u64 = 32 << 20;
/// Larger bodies are given from the disk, part by part; others are read whole and go on in memory.
const LARGEST_WHOLE: u64 = 1 << 20;
/// What can be given for a shorter time is not worth a file.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);
/// Bytes of a header that are written at most.
const LARGEST_HEADER: u64 = 64 << 10;
/// Files that are read at a time.
const READERS: usize = 64;
/// Files take whole blocks of the disk.
const DISK_BLOCK: u64 = 4096;

/// What is on disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: Folder,
    capacity: AtomicU64,
    jobs: Sender<Job>,
    state: AtomicU8,
    /// Bytes that wait to be written.
    waiting: AtomicU64,
    /// Whoever reads a file keeps others from reading the same one.
    turns: [Arc<Mutex<()>>; READERS],
    /// Bounds those that read parts.
    readers: Arc<Semaphore>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    objects: AtomicU64,
    hits: AtomicU64,
    evicted: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
}

/// Where the disk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// Another process writes into the folder; nothing is read or written until it ends.
    Waiting,
    /// It is looked what is there.
    Reading,
    /// All that is there is known.
    Ready,
    /// Nothing can be written.
    Failing,
    /// Another process has taken over.
    HandedOver,
}

/// How much is on disk, and what it did.
#[derive(Debug, Clone, Copy)]
pub struct DiskUsage {
    /// Where it stands.
    pub state: DiskState,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that there may be.
    pub max_bytes: u64,
    /// Answers.
    pub objects: u64,
    /// Answers that were read.
    pub hits: u64,
    /// Answers that went for lack of room.
    pub evicted: u64,
    /// Answers that were not written because too many waited.
    pub busy: u64,
    /// Answers that could not be written.
    pub failed: u64,
    /// Files that were not what had been written.
    pub damaged: u64,
}

/// What there is to do.
#[derive(Debug)]
enum Job {
    /// An answer is to be written.
    Write(Arc<Object>, Arc<OnDisk>),
    /// The header of an answer has changed, which is not in memory.
    Restate {
        of: Arc<OnDisk>,
        head: Box<Head>,
        expired: u64,
    },
    /// An answer is not kept any more.
    Remove(Arc<OnDisk>),
    /// A purge has met these, and is to be answered when it holds for their files.
    Purge {
        gone: Vec<Arc<OnDisk>>,
        expired: Vec<Arc<OnDisk>>,
        done: oneshot::Sender<()>,
    },
    /// Another process takes over.
    HandOver,
    /// There may be less room.
    Resize,
}

/// A purge under way.
#[derive(Debug, Default)]
pub(super) struct Purging {
    gone: Vec<Arc<OnDisk>>,
    expired: Vec<Arc<OnDisk>>,
    /// Whether it has met any that may be in the hands of whoever writes.
    has_met: bool,
}

impl Disk {
    /// Takes a folder into use, of which a store is to know everything.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(super) fn open(
        path: &Path,
        capacity: u64,
        store: &'static Store,
        slot: &OnceLock<Arc<Self>>,
    ) -> std::io::Result<()> {
        let folder = Folder::open(path)?;
        record::prepare();
        let (jobs, todo): (_, Receiver<Job>) = channel();
        let disk = Arc::new(Self {
            folder,
            capacity: AtomicU64::new(capacity),
            jobs,
            state: AtomicU8::new(DiskState::Waiting as u8),
            waiting: AtomicU64::new(0),
            turns: std::array::from_fn(|_| Arc::default()),
            readers: Arc::new(Semaphore::new(READERS)),
            counts: Counts::default(),
        });
        if slot.set(disk.clone()).is_ok() {
            let writer = Writer::new(disk, store, todo);
            std::thread::Builder::new()
                .name("kept answers".to_owned())
                .spawn(move || writer.run())?;
        }
        Ok(())
    }

    pub(super) fn resize(&self, capacity: u64) {
        if self.capacity.swap(capacity, Ordering::Relaxed) != capacity {
            self.tell(Job::Resize);
        }
    }

    pub(super) fn usage(&self) -> DiskUsage {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DiskUsage {
            state: self.state(),
            bytes: read(&self.counts.bytes),
            max_bytes: read(&self.capacity),
            objects: read(&self.counts.objects),
            hits: read(&self.counts.hits),
            evicted: read(&self.counts.evicted),
            busy: read(&self.counts.busy),
            failed: read(&self.counts.failed),
            damaged: read(&self.counts.damaged),
        }
    }

    /// Another process takes over: from here on nothing is written.
    pub(super) fn hand_over(&self) {
        self.tell(Job::HandOver);
    }

    /// Has an answer written, unless that is in vain or too much waits already.
    pub(super) fn admit(&self, key: u128, object: &Arc<Object>) -> Option<Arc<OnDisk>> {
        let is_written = self.state() != DiskState::HandedOver
            && object.head.life(SystemTime::now()) >= SHORTEST_LIFE
            && object.head.size() <= LARGEST_HEADER
            && object.size <= self.capacity.load(Ordering::Relaxed);
        if !is_written {
            return None;
        }
        if self.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
            self.counts.busy.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.waiting.fetch_add(object.size, Ordering::Relaxed);
        let name = Name {
            key,
            stamp: stamp(),
        };
        let length = object.length();
        let size = record::most_bytes(object.size, length).next_multiple_of(DISK_BLOCK);
        let about = (object.location.clone(), object.tags.clone());
        let entry = Arc::new(OnDisk::new(
            name,
            object.number,
            about,
            &object.head,
            (size, length),
            object.expired(),
        ));
        self.tell(Job::Write(object.clone(), entry.clone()));
        Some(entry)
    }

    /// An answer is not kept any more.
    pub(super) fn remove(&self, entry: Arc<OnDisk>) {
        if entry.let_go() {
            self.tell(Job::Remove(entry));
        }
    }

    /// The backend said that an answer has not changed, which is not in memory.
    pub(super) fn restate(&self, of: &Arc<OnDisk>, head: Head) {
        if of.begin_restating() {
            let expired = of.expired();
            let (of, head) = (of.clone(), head.into());
            self.tell(Job::Restate { of, head, expired });
        }
    }

    /// Carries a purge out. What is returned comes when it will not be undone by a restart; `None` if
    /// there is nothing to wait for.
    pub(super) fn purge(&self, purging: Purging) -> Option<oneshot::Receiver<()>> {
        let knows_all = !matches!(self.state(), DiskState::Waiting | DiskState::Reading);
        if knows_all && !purging.has_met {
            return None;
        }
        let (done, carried_out) = oneshot::channel();
        let Purging { gone, expired, .. } = purging;
        self.tell(Job::Purge {
            gone,
            expired,
            done,
        });
        Some(carried_out)
    }

    /// Has the files removed of what a request has changed.
    pub(super) fn invalidate(&self, purging: Purging) {
        for entry in purging.gone {
            self.tell(Job::Remove(entry));
        }
    }

    fn tell(&self, job: Job) {
        // Whoever writes lives as long as the process.
        let _ = self.jobs.send(job);
    }

    fn state(&self) -> DiskState {
        match self.state.load(Ordering::Acquire) {
            0 => DiskState::Waiting,
            1 => DiskState::Reading,
            2 => DiskState::Ready,
            3 => DiskState::Failing,
            _ => DiskState::HandedOver,
        }
    }

    fn enter(&self, state: DiskState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

impl Purging {
    /// An answer goes.
    pub(super) fn remove(&mut self, entry: Arc<OnDisk>) {
        self.has_met = true;
        if entry.let_go() {
            self.gone.push(entry);
        }
    }

    /// An answer is stale from now on.
    pub(super) fn expire(&mut self, entry: &Arc<OnDisk>, seconds: u64) {
        self.has_met = true;
        entry.expire(seconds);
        self.expired.push(entry.clone());
    }
}

impl DiskState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Ready => "ready",
            Self::Failing => "failing",
            Self::HandedOver => "handed_over",
        }
    }
}

fn stamp() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
