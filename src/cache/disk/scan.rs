//! What a process finds in its folder when it starts: all that is kept there becomes known again, file by
//! file, while requests are answered.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::object::tags;
use super::super::tiers::Restored;
use super::folder::{Name, PARTS};
use super::record::{Record, Unreadable};
use super::writer::Writer;
use super::{DISK_BLOCK, OnDisk};

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Scan {
    part: u16,
    names: Vec<Name>,
}

impl Scan {
    /// Looks at one file. `false` if there are no more.
    pub(super) fn step(&mut self, writer: &Writer) -> bool {
        while self.names.is_empty() {
            if self.part == PARTS {
                return false;
            }
            self.names = writer.disk.folder.names(self.part);
            self.part += 1;
        }
        if let Some(name) = self.names.pop() {
            look(name, writer);
        }
        true
    }
}

fn look(name: Name, writer: &Writer) {
    let path = writer.disk.folder.file(name);
    let entry = match read(name, &path, writer) {
        Ok(entry) => entry,
        Err(error) if error.has_gone() => return,
        Err(error) if !error.is_loss() => {
            return log::error!("a kept answer on disk can't be read: {error}");
        }
        Err(error) => {
            log::debug!("a kept answer on disk is dropped: {error}");
            writer.disk.counts.damaged.fetch_add(1, Ordering::Relaxed);
            return remove(&path);
        }
    };
    match writer.store.restore(&entry) {
        Restored::Known => {}
        Restored::Refused => remove(&path),
        Restored::Kept {
            instead_of,
            is_expired,
        } => {
            writer.count(&entry);
            if is_expired {
                writer.expire(name, entry.expired());
            }
            if let Some(older) = instead_of
                && older.let_go()
            {
                writer.remove(&older);
            }
        }
    }
}

fn read(name: Name, path: &std::path::Path, writer: &Writer) -> Result<Arc<OnDisk>, Unreadable> {
    let file = File::open(path)?;
    let record = Record::read(&file)?;
    if record.key != name.key {
        return Err(Unreadable::Damaged);
    }
    let size = file.metadata()?.len().next_multiple_of(DISK_BLOCK);
    let about = (record.location, tags(record.head.headers()));
    let entry = OnDisk::new(
        name,
        writer.store.number(),
        about,
        &record.head,
        (size, record.body.length),
        record.expired,
    );
    entry.written();
    Ok(Arc::new(entry))
}

fn remove(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::error!("a file of a kept answer can't be removed: {error}");
    }
}
