//! The store as its disk sees it. What is in memory and on disk is looked at under the same lock, so that
//! nothing comes back from the one that has gone from the other.

use std::cmp::Ordering;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::disk::{Disk, DiskUsage, Loaded, OnDisk};
use super::object::{Head, Object, seconds};
use super::purge::Since;
use super::shard::Shard;
use super::store::{SHARDS, Store, index, read, write};

/// What becomes of a file that was there when the process started.
#[derive(Debug)]
pub(super) enum Restored {
    /// It was known already.
    Known,
    /// It is kept, instead of an older one if there was one.
    Kept {
        instead_of: Option<Arc<OnDisk>>,
        /// Whether it was purged softly meanwhile.
        is_expired: bool,
    },
    /// There is something newer, or it was purged meanwhile.
    Refused,
}

impl Store {
    /// Keeps answers on disk from now on, too; or as much as is said now, if there is a disk already.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn open_disk(&'static self, path: &Path, capacity: u64) -> io::Result<()> {
        match self.disk.get() {
            Some(disk) => {
                disk.resize(capacity);
                Ok(())
            }
            None => Disk::open(path, capacity, self, &self.disk),
        }
    }

    /// How much is on disk; `None` if there is none.
    pub fn disk_usage(&self) -> Option<DiskUsage> {
        self.disk.get().map(|disk| disk.usage())
    }

    /// Another process takes the disk over.
    pub fn hand_over(&self) {
        if let Some(disk) = self.disk.get() {
            disk.hand_over();
        }
    }

    /// Reads what is on disk.
    pub(super) async fn load(&'static self, entry: Arc<OnDisk>) -> Option<Loaded> {
        self.disk.get()?.load(self, entry).await
    }

    /// Has an answer written, and what was there before removed.
    pub(super) fn put_on_disk(
        &self,
        shard: &mut Shard,
        (key, location): (u128, u64),
        object: &Arc<Object>,
    ) {
        let Some(disk) = self.disk.get() else { return };
        let before = match disk.admit(key, object) {
            Some(entry) => shard.put_on_disk(key, location, entry),
            None => shard.take_off_disk(key),
        };
        if let Some(before) = before {
            disk.remove(before);
        }
    }

    /// A file could not be written, or not be read.
    pub(super) fn lose(&self, entry: &Arc<OnDisk>) {
        let mut shard = write(self.shard(self.hash(&entry.location)));
        if is_on_disk(&shard, entry) {
            shard.take_off_disk(entry.key());
        }
        drop(shard);
        if let Some(disk) = self.disk.get() {
            disk.remove(entry.clone());
        }
    }

    /// Another file has taken the place of one, unless that was purged since it was.
    pub(super) fn replace(&self, of: &Arc<OnDisk>, by: &Arc<OnDisk>, expired: u64) -> bool {
        let location = self.hash(&of.location);
        let mut shard = write(self.shard(location));
        let is_same = is_on_disk(&shard, of) && of.expired() == expired;
        if is_same {
            shard.put_on_disk(of.key(), location, by.clone());
        }
        is_same
    }

    /// A file was there when the process started.
    pub(super) fn restore(&self, entry: &Arc<OnDisk>) -> Restored {
        let location = self.hash(&entry.location);
        let key = entry.key();
        let mut shard = write(self.shard(location));
        match shard.on_disk(key).map(|known| known.order(entry)) {
            Some(Ordering::Equal) => return Restored::Known,
            Some(Ordering::Greater) => return Restored::Refused,
            None if shard.stored(key).is_some() => return Restored::Refused,
            Some(Ordering::Less) | None => {}
        }
        // A purge is noted before it comes to this shard: either it stands there, or it meets the answer.
        let since = self.purges.since(0, &entry.location, &entry.tags);
        if since == Since::Purged {
            return Restored::Refused;
        }
        if since == Since::Expired {
            entry.expire(seconds(SystemTime::now()));
        }
        Restored::Kept {
            instead_of: shard.put_on_disk(key, location, entry.clone()),
            is_expired: since == Since::Expired,
        }
    }

    /// The answer that has to leave the disk next: from the part of the store that has most, of a few in turn. If
    /// all had to give as much, whatever comes into them, some would be left with so little that they give what is
    /// used; and a part that has nothing could not even keep what comes.
    pub(super) fn evict_from_disk(&self, turn: usize) -> Option<Arc<OnDisk>> {
        const GROUPS: usize = SHARDS / 4;
        (0..GROUPS).find_map(|offset| {
            let group = (turn + offset) % GROUPS;
            let shards = self.shards.iter().skip(group).step_by(GROUPS);
            let fullest = shards.max_by_key(|shard| read(shard).files())?;
            write(fullest).evict_from_disk()
        })
    }

    /// The answer that is in memory for one on disk.
    pub(super) fn stored_for(&self, entry: &OnDisk) -> Option<Arc<Object>> {
        let shard = read(self.shard(self.hash(&entry.location)));
        shard.stored(entry.key()).cloned()
    }

    /// An answer was read, and goes on in memory unless it has gone meanwhile.
    pub(super) fn promote(
        &self,
        entry: &Arc<OnDisk>,
        head: Head,
        body: Arc<[Bytes]>,
    ) -> Option<Arc<Object>> {
        let location = self.hash(&entry.location);
        let mut shard = write(self.shard(location));
        if let Some(stored) = shard.stored(entry.key()) {
            return Some(stored.clone());
        }
        if !is_on_disk(&shard, entry) {
            return None;
        }
        let object = Object::new(
            entry.number,
            head,
            body,
            entry.location.clone(),
            entry.expired(),
        );
        let object = Arc::new(object);
        let difference = shard.store(entry.key(), location, object.clone());
        drop(shard);
        self.count(difference);
        self.make_room(index(location));
        Some(object)
    }
}

fn is_on_disk(shard: &Shard, entry: &Arc<OnDisk>) -> bool {
    let on_disk = shard.on_disk(entry.key());
    on_disk.is_some_and(|it| Arc::ptr_eq(it, entry))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    use pingora::http::ResponseHeader;
    use pingora_cache::{CacheKey, CacheMeta};

    use super::super::disk::DiskState;
    use super::super::key::Ticket;
    use super::super::purge::{Purge, Target};
    use super::super::shard::Found;
    use super::*;

    /// A store with a disk; both live as long as the test's process.
    fn store(folder: &Path, memory: u64, disk: u64) -> &'static Store {
        let store: &'static Store = Box::leak(Box::new(Store::new(memory)));
        store.open_disk(folder, disk).unwrap();
        until(|| store.disk_usage().unwrap().state == DiskState::Ready);
        store
    }

    fn until(holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "it never comes true");
            std::thread::yield_now();
        }
    }

    fn key(store: &Store, name: &str) -> CacheKey {
        let ticket = Ticket::new(format!("h/{name}"), store.generation(), 1 << 30);
        let mut key = CacheKey::new(name.to_owned(), String::new());
        key.extensions.insert(ticket);
        key
    }

    fn keep(store: &Store, name: &str, body: &[u8]) {
        let now = SystemTime::now();
        let header = ResponseHeader::build(200, None).unwrap();
        let meta = CacheMeta::new(now + Duration::from_secs(60), now, 0, 60, header);
        let fill = store.begin(&key(store, name), &meta).unwrap();
        assert!(store.write(&fill, &Bytes::copy_from_slice(body)));
        assert!(fill.end());
        store.complete(&fill);
    }

    fn files(store: &Store) -> u64 {
        store.disk_usage().unwrap().objects
    }

    /// Answers that have been dealt with.
    fn written(store: &Store) -> u64 {
        let usage = store.disk_usage().unwrap();
        usage.objects + usage.evicted + usage.busy + usage.failed
    }

    /// Lets what is in memory go.
    fn forget_memory(store: &Store) {
        store.resize(0);
        store.resize(1 << 20);
        assert_eq!(store.usage().objects, 0);
    }

    fn hard(name: &str) -> Purge {
        let target = Target::Url(format!("h/{name}"));
        Purge {
            target,
            soft: false,
        }
    }

    fn load(store: &'static Store, name: &str) -> Option<Loaded> {
        let Some(Found::Disk(entry)) = store.find(&key(store, name)) else {
            return None;
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(store.load(entry))
    }

    #[test]
    fn what_is_read_from_disk_goes_on_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 1 << 20, 1 << 20);
        keep(store, "a", b"body");
        until(|| files(store) == 1);
        forget_memory(store);
        assert!(matches!(load(store, "a"), Some(Loaded::Object(object)) if object.length() == 4));
        assert_eq!(store.usage().objects, 1);
        assert!(matches!(
            store.find(&key(store, "a")),
            Some(Found::Object(_))
        ));
    }

    #[test]
    fn nothing_comes_back_from_disk_that_is_purged_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 1 << 20, 1 << 20);
        for round in 0..200 {
            keep(store, "a", b"body");
            until(|| files(store) == 1);
            forget_memory(store);
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    drop(load(store, "a"));
                });
                barrier.wait();
                let (_, done) = store.purge(&hard("a"), SystemTime::now());
                done.expect("it is on disk").blocking_recv().unwrap();
                assert_eq!(files(store), 0);
            });
            assert!(store.find(&key(store, "a")).is_none(), "round {round}");
        }
    }

    #[test]
    fn a_purge_meets_what_is_still_to_be_written_and_still_to_be_found() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path(), 1 << 20, 1 << 24);
        for number in 0..100 {
            keep(first, &number.to_string(), &[0; 1000]);
            let (purged, done) = first.purge(&hard(&number.to_string()), SystemTime::now());
            assert_eq!(purged.objects, 1);
            done.expect("it was to be written").blocking_recv().unwrap();
            assert_eq!(files(first), 0);
        }
        for number in 0..100 {
            keep(first, &number.to_string(), b"x");
        }
        until(|| files(first) == 100);
        first.hand_over();
        let second: &'static Store = Box::leak(Box::new(Store::new(1 << 20)));
        second.open_disk(folder.path(), 1 << 24).unwrap();
        let purge = Purge {
            target: Target::Prefix("h/1".to_owned()),
            soft: false,
        };
        let (_, done) = second.purge(&purge, SystemTime::now());
        if let Some(done) = done {
            done.blocking_recv().unwrap();
        }
        until(|| second.disk_usage().unwrap().state == DiskState::Ready);
        assert_eq!(files(second), 89);
        for number in 0..100 {
            let name = number.to_string();
            let is_there = second.find(&key(second, &name)).is_some();
            assert_eq!(is_there, !name.starts_with('1'), "{name}");
        }
    }

    #[test]
    fn what_is_used_in_memory_does_not_leave_the_disk_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 1 << 30, 4 << 20);
        let body = [0; 4000];
        (0..50).for_each(|number| keep(store, &format!("often/{number}"), &body));
        until(|| files(store) == 50);
        for number in 0..3000 {
            if number % 20 == 0 {
                // They are written in their time, and used in between.
                until(|| written(store) == 50 + number);
                for number in 0..50 {
                    store.find(&key(store, &format!("often/{number}")));
                }
            }
            keep(store, &format!("once/{number}"), &body);
        }
        until(|| store.disk_usage().unwrap().evicted > 2000);
        store.resize(0);
        let is_there = |number: &u32| {
            store
                .find(&key(store, &format!("often/{number}")))
                .is_some()
        };
        let left = (0..50).filter(is_there).count();
        assert!(left >= 45, "only {left} of 50 are left");
    }
}
