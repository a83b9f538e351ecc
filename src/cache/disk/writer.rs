//! The thread that writes and removes files, in the order in which it is told.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::object::{Head, Object, tags};
use super::super::store::Store;
use super::folder::{Lock, Name};
use super::record::{self, Record, Unreadable};
use super::scan::Scan;
use super::{DISK_BLOCK, Disk, DiskState, Job, LARGEST_WHOLE, OnDisk, stamp};

/// How long nothing is written after that has failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Writes and removes files.
pub(super) struct Writer {
    pub(super) disk: Arc<Disk>,
    pub(super) store: &'static Store,
    todo: Receiver<Job>,
    lock: Option<Lock>,
    scan: Option<Scan>,
    /// When to try again, after that has failed.
    pause: Option<Instant>,
    /// Who waits until all files have been looked at.
    waiting: Vec<oneshot::Sender<()>>,
    /// The shard that an answer has to leave next.
    turn: usize,
}

impl Writer {
    pub(super) fn new(disk: Arc<Disk>, store: &'static Store, todo: Receiver<Job>) -> Self {
        Self {
            disk,
            store,
            todo,
            lock: None,
            scan: None,
            pause: None,
            waiting: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn run(mut self) {
        match self.take_lock() {
            Ok(lock) => {
                self.lock = Some(lock);
                self.disk.enter(DiskState::Reading);
                self.scan = Some(Scan::default());
            }
            Err(error) => {
                let path = self.disk.folder.path().display();
                log::error!("kept answers are not on disk: {path} can't be locked: {error}");
                self.disk.enter(DiskState::HandedOver);
            }
        }
        loop {
            let job = match self.scan {
                None => match self.todo.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                },
                Some(_) => match self.todo.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                },
            };
            match job {
                Some(job) => self.carry_out(job),
                None => self.go_on_reading(),
            }
        }
    }

    /// Waits until no other process writes, such as the one that this one succeeds.
    fn take_lock(&self) -> io::Result<Lock> {
        if let Some(lock) = self.disk.folder.lock(false)? {
            return Ok(lock);
        }
        let path = self.disk.folder.path().display();
        log::info!("kept answers in {path} are another process's until it ends or hands them over");
        let lock = self.disk.folder.lock(true)?;
        lock.ok_or_else(|| io::Error::other("it is another process's"))
    }

    /// Looks at one more of the files that were there.
    fn go_on_reading(&mut self) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        if scan.step(self) {
            self.scan = Some(scan);
            return;
        }
        self.make_room(0);
        self.disk.enter(match self.pause {
            None => DiskState::Ready,
            Some(_) => DiskState::Failing,
        });
        for done in self.waiting.drain(..) {
            // Who waited may have gone.
            let _ = done.send(());
        }
        let usage = self.disk.usage();
        log::info!(
            "kept answers on disk: path={} objects={} bytes={} damaged={}",
            self.disk.folder.path().display(),
            usage.objects,
            usage.bytes,
            usage.damaged,
        );
    }

    fn carry_out(&mut self, job: Job) {
        match job {
            Job::Write(object, entry) => {
                self.disk.waiting.fetch_sub(object.size, Ordering::Relaxed);
                self.write(&object, &entry);
            }
            Job::Restate { of, head, expired } => {
                if let Err(error) = self.restate(&of, &head, expired) {
                    log::debug!("the header of a kept answer was not written anew: {error}");
                }
                of.end_restating();
            }
            Job::Remove(entry) => {
                self.remove(&entry);
            }
            Job::Purge {
                gone,
                expired,
                done,
            } => self.purge(&gone, &expired, done),
            Job::HandOver => {
                self.lock = None;
                self.scan = None;
                self.waiting.clear();
                self.disk.enter(DiskState::HandedOver);
            }
            Job::Resize => {
                self.make_room(0);
            }
        }
    }

    fn write(&mut self, object: &Object, entry: &Arc<OnDisk>) {
        if entry.is_gone() {
            return;
        }
        let is_paused = self.pause.is_some_and(|until| Instant::now() < until);
        if self.lock.is_none() || is_paused || !self.make_room(entry.size) {
            self.disk.counts.failed.fetch_add(1, Ordering::Relaxed);
            return self.store.lose(entry);
        }
        match self.write_file(object, entry) {
            Ok(()) => self.succeeded(),
            Err(error) => {
                self.store.lose(entry);
                self.failed(&error);
            }
        }
    }

    fn write_file(&self, object: &Object, entry: &OnDisk) -> io::Result<()> {
        let seed = fastrand::u32(..);
        let of = (entry.name.key, &*entry.location, &object.head);
        let front = record::encode(of, entry.expired(), (entry.length, seed));
        let front = front.ok_or_else(|| io::Error::other("its header can't be written"))?;
        self.place(entry.name, entry.length, |file| {
            file.write_all(&front)?;
            record::write_body(file, &object.body, seed)
        })?;
        self.count(entry);
        if !entry.written() {
            self.remove(entry);
        }
        Ok(())
    }

    /// Writes a file and gives it its name when it is there as a whole.
    fn place(
        &self,
        name: Name,
        length: u64,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (path, file) = self.disk.folder.incoming()?;
        let mut buffer = BufWriter::with_capacity(1 << 17, &file);
        let written = write(&mut buffer).and_then(|()| buffer.flush());
        drop(buffer);
        // What is given before it has been read to its end has to be there to its end, even after the
        // power has failed.
        let synced = written.and_then(|()| match length > LARGEST_WHOLE {
            true => file.sync_data(),
            false => Ok(()),
        });
        let placed = synced.and_then(|()| self.disk.folder.admit(&path, name));
        if placed.is_err() {
            // The next one is written over it in any case.
            let _ = std::fs::remove_file(&path);
        }
        placed
    }

    /// Writes the header of an answer anew, whose body stays.
    fn restate(&mut self, of: &Arc<OnDisk>, head: &Head, expired: u64) -> Result<(), Unreadable> {
        if self.lock.is_none() || !of.is_written() {
            return Ok(());
        }
        let mut file = File::open(self.disk.folder.file(of.name))?;
        let record = Record::read(&file)?;
        let (front, rest) = record::restate(&record, head).ok_or(Unreadable::Damaged)?;
        let key = of.name.key;
        let name = Name {
            key,
            stamp: stamp(),
        };
        let length = rest.end - rest.start;
        let size = (front.len() as u64 + length).next_multiple_of(DISK_BLOCK);
        if !self.make_room(size) {
            return Ok(());
        }
        self.place(name, record.body.length, |to| {
            to.write_all(&front)?;
            file.seek(SeekFrom::Start(rest.start))?;
            io::copy(&mut file.take(length), to).map(drop)
        })?;
        let about = (of.location.clone(), tags(head.headers()));
        let sizes = (size, record.body.length);
        let entry = Arc::new(OnDisk::new(name, of.number, about, head, sizes, 0));
        self.count(&entry);
        entry.written();
        let is_replaced = self.store.replace(of, &entry, expired);
        let loser = if is_replaced { of } else { &entry };
        if loser.let_go() {
            self.remove(loser);
        }
        Ok(())
    }

    /// Carries a purge out, and says so when it will not be undone.
    fn purge(&mut self, gone: &[Arc<OnDisk>], expired: &[Arc<OnDisk>], done: oneshot::Sender<()>) {
        let mut parts = BTreeSet::new();
        let mut is_done = true;
        for entry in gone {
            is_done &= self.remove(entry);
            parts.insert(entry.name.part());
        }
        for entry in expired {
            is_done &= self.expire(entry.name, entry.expired());
        }
        for part in parts {
            // Not every file system does that for folders.
            let _ = self.disk.folder.sync(part);
        }
        match (is_done, &self.scan) {
            (false, _) => {}
            (true, Some(_)) => self.waiting.push(done),
            // Who waited may have gone.
            (true, None) => drop(done.send(())),
        }
    }

    /// Says in the file of an answer that it was purged softly.
    pub(super) fn expire(&self, name: Name, seconds: u64) -> bool {
        let path = self.disk.folder.file(name);
        let file = OpenOptions::new().read(true).write(true).open(path);
        match file
            .map_err(Unreadable::from)
            .and_then(|file| record::expire(&file, seconds))
        {
            Ok(()) => true,
            Err(Unreadable::System(error)) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                log::error!("a kept answer on disk can't be made stale: {error}");
                false
            }
        }
    }

    /// Removes the file of an answer that was let go.
    pub(super) fn remove(&self, entry: &OnDisk) -> bool {
        match std::fs::remove_file(self.disk.folder.file(entry.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!("a kept answer can't be removed from disk: {error}");
                return false;
            }
            _ => {}
        }
        let counts = &self.disk.counts;
        counts.bytes.fetch_sub(entry.size, Ordering::Relaxed);
        counts.objects.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// A file is there.
    pub(super) fn count(&self, entry: &OnDisk) {
        let counts = &self.disk.counts;
        counts.bytes.fetch_add(entry.size, Ordering::Relaxed);
        counts.objects.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets answers go until there is room for another one. Whether there is.
    fn make_room(&mut self, size: u64) -> bool {
        if self.lock.is_none() {
            return false;
        }
        let counts = &self.disk.counts;
        let capacity = self.disk.capacity.load(Ordering::Relaxed);
        while counts.bytes.load(Ordering::Relaxed) + size > capacity {
            self.turn += 1;
            let Some(entry) = self.store.evict_from_disk(self.turn) else {
                return false;
            };
            counts.evicted.fetch_add(1, Ordering::Relaxed);
            if entry.let_go() && !self.remove(&entry) {
                return false;
            }
        }
        true
    }

    fn failed(&mut self, error: &io::Error) {
        self.disk.counts.failed.fetch_add(1, Ordering::Relaxed);
        if self.pause.replace(Instant::now() + PAUSE).is_none() {
            let path = self.disk.folder.path().display();
            log::error!("kept answers can't be written to disk: path={path} error={error}");
            self.enter(DiskState::Failing);
        }
    }

    fn succeeded(&mut self) {
        if self.pause.take().is_some() {
            let path = self.disk.folder.path().display();
            log::info!("kept answers are written to disk again: path={path}");
            self.enter(DiskState::Ready);
        }
    }

    fn enter(&self, state: DiskState) {
        if self.scan.is_none() {
            self.disk.enter(state);
        }
    }
}
