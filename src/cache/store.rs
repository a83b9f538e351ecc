//! What is kept: in memory, bounded in bytes, and on disk, if there is one for it.
//!
//! A purge is noted first and then carried out; an answer on its way is shown first and then held against
//! what was noted since it was asked for. So one of the two always sees the other.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use ahash::RandomState;
use pingora_cache::key::CacheHashKey;
use pingora_cache::{CacheKey, CacheMeta};

use super::disk::{Disk, OnDisk};
use super::fill::{Fill, Written};
use super::key::Ticket;
use super::object::{Head, Number, seconds};
use super::purge::{PurgeLog, Since};
use super::shard::{Difference, Found, Shard};

/// Parts of the store with a lock each.
pub(super) const SHARDS: usize = 64;

/// What is kept.
#[derive(Debug)]
pub struct Store {
    pub(super) shards: Box<[RwLock<Shard>]>,
    hashing: RandomState,
    capacity: AtomicU64,
    bytes: AtomicI64,
    objects: AtomicI64,
    evicted: AtomicU64,
    numbers: AtomicU64,
    pub(super) purges: PurgeLog,
    pub(super) disk: OnceLock<Arc<Disk>>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Answers.
    pub objects: u64,
    /// Answers that went for lack of room.
    pub evicted: u64,
}

impl Store {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hashing: RandomState::new(),
            capacity: AtomicU64::new(capacity),
            bytes: AtomicI64::new(0),
            objects: AtomicI64::new(0),
            evicted: AtomicU64::new(0),
            numbers: AtomicU64::new(1),
            purges: PurgeLog::default(),
            disk: OnceLock::new(),
        }
    }

    /// What may be kept from now on, in bytes.
    pub fn resize(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
        self.make_room(0);
    }

    /// How much is kept.
    pub fn usage(&self) -> Usage {
        let sum = |sum: &AtomicI64| u64::try_from(sum.load(Ordering::Relaxed)).unwrap_or(0);
        Usage {
            bytes: sum(&self.bytes),
            objects: sum(&self.objects),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// The number of the newest purge.
    pub fn generation(&self) -> u64 {
        self.purges.generation()
    }

    pub(super) fn find(&self, key: &CacheKey) -> Option<Found> {
        let ticket = ticket(key)?;
        let location = self.hash(&ticket.location);
        read(self.shard(location)).find(number(key))
    }

    /// Whether something fresh is there, or on its way.
    pub(super) fn has_fresh(&self, key: &CacheKey, now: SystemTime) -> bool {
        match self.find(key) {
            Some(Found::Fill(fill)) => fill.expired() == 0 && fill.head.is_fresh(now),
            Some(Found::Object(object)) => object.is_fresh(now),
            // Whoever asks has looked there.
            Some(Found::Disk(_)) | None => false,
        }
    }

    /// Whether what is there has to be asked about each time.
    pub(super) fn is_never_fresh(&self, key: &CacheKey) -> bool {
        let Some(ticket) = ticket(key) else {
            return false;
        };
        let shard = read(self.shard(self.hash(&ticket.location)));
        match shard.look(number(key)) {
            (_, Some(fill)) => fill.head.is_never_fresh,
            (Some(object), None) => object.head.is_never_fresh,
            (None, None) => false,
        }
    }

    /// An answer begins to come, and others may read it.
    pub(super) fn begin(&self, key: &CacheKey, meta: &CacheMeta) -> Option<Arc<Fill>> {
        let ticket = ticket(key)?;
        let location = self.hash(&ticket.location);
        let fill = Fill::new(number(key), self.number(), Head::of(meta), ticket.clone());
        ticket.writes(&fill);
        let shard = self.shard(location);
        write(shard).begin(location, &fill);
        match self
            .purges
            .since(ticket.generation, &ticket.location, &fill.tags)
        {
            Since::Valid => {}
            Since::Expired => fill.expire(seconds(SystemTime::now())),
            Since::Purged => {
                fill.revoke();
                write(shard).abandon(fill.key, fill.number);
            }
        }
        Some(fill)
    }

    /// A part of it comes. `false` if nobody is there for it.
    pub(super) fn write(&self, fill: &Fill, part: &bytes::Bytes) -> bool {
        match fill.write(part) {
            Written::Kept => true,
            Written::PassedOn => {
                self.abandon(fill);
                true
            }
            Written::InVain => false,
        }
    }

    /// It does not come any more, or not to be kept.
    pub(super) fn abandon(&self, fill: &Fill) {
        let location = self.hash(&fill.ticket.location);
        write(self.shard(location)).abandon(fill.key, fill.number);
    }

    /// It is there as a whole.
    pub(super) fn complete(&self, fill: &Fill) {
        let location = self.hash(&fill.ticket.location);
        {
            let mut shard = write(self.shard(location));
            // Purges meet it under this lock: before, or after it is kept.
            if let Some(object) = fill.object() {
                let object = Arc::new(object);
                self.put_on_disk(&mut shard, (fill.key, location), &object);
                let difference = shard.store(fill.key, location, object);
                self.count(difference);
            }
            shard.abandon(fill.key, fill.number);
        }
        self.make_room(index(location));
    }

    /// The backend said that an answer has not changed. `false` if it is not there any more.
    pub(super) fn update(&self, key: &CacheKey, meta: &CacheMeta) -> bool {
        let (Some(ticket), Some(Number(found))) = (ticket(key), meta.extensions().get::<Number>())
        else {
            return false;
        };
        let location = self.hash(&ticket.location);
        let mut shard = write(self.shard(location));
        let stored = shard
            .stored(number(key))
            .filter(|stored| stored.number == *found)
            .cloned();
        let Some(stored) = stored else {
            return self.update_on_disk(&shard, (key, ticket), (meta, *found));
        };
        let since = self
            .purges
            .since(ticket.generation, &ticket.location, &stored.tags);
        if since != Since::Valid {
            return false;
        }
        let mut head = Head::of(meta);
        head.set_length(stored.length());
        let object = Arc::new(stored.updated(head));
        let is_outdated = |entry: &Arc<OnDisk>| {
            !object.head.agrees_with(&stored.head) || entry.is_outdated(&object.head)
        };
        if shard.on_disk(number(key)).is_some_and(is_outdated) {
            self.put_on_disk(&mut shard, (number(key), location), &object);
        }
        let difference = shard.store(number(key), location, object);
        self.count(difference);
        true
    }

    /// The same for an answer that is on disk and not in memory.
    fn update_on_disk(
        &self,
        shard: &Shard,
        (key, ticket): (&CacheKey, &Ticket),
        (meta, found): (&CacheMeta, u64),
    ) -> bool {
        let entry = shard
            .on_disk(number(key))
            .filter(|entry| entry.number == found);
        let (Some(disk), Some(entry)) = (self.disk.get(), entry) else {
            return false;
        };
        let since = self
            .purges
            .since(ticket.generation, &ticket.location, &entry.tags);
        if since == Since::Valid {
            let mut head = Head::of(meta);
            head.set_length(entry.length());
            if head.is_fresh(SystemTime::now()) || entry.is_outdated(&head) {
                disk.restate(entry, head);
            }
        }
        since == Since::Valid
    }

    /// An answer is not what its backend has any more.
    pub fn forget(&self, key: &CacheKey) {
        let Some(ticket) = ticket(key) else { return };
        let location = self.hash(&ticket.location);
        let mut shard = write(self.shard(location));
        let difference = shard.remove(number(key));
        self.count(difference);
        if let (Some(disk), Some(entry)) = (self.disk.get(), shard.take_off_disk(number(key))) {
            disk.remove(entry);
        }
    }

    /// The number of the next answer.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets answers go until the rest has room, beginning with a shard.
    pub(super) fn make_room(&self, first: usize) {
        let capacity = i64::try_from(self.capacity.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        for offset in 0..SHARDS {
            let shard = &self.shards[(first + offset) % SHARDS];
            while self.bytes.load(Ordering::Relaxed) > capacity {
                let Some(difference) = write(shard).evict() else {
                    break;
                };
                self.evicted.fetch_add(1, Ordering::Relaxed);
                self.count(difference);
            }
        }
    }

    pub(super) fn count(&self, difference: Difference) {
        self.bytes.fetch_add(difference.bytes, Ordering::Relaxed);
        self.objects
            .fetch_add(difference.objects, Ordering::Relaxed);
    }

    pub(super) fn hash(&self, location: &str) -> u64 {
        self.hashing.hash_one(location)
    }

    pub(super) fn shard(&self, location: u64) -> &RwLock<Shard> {
        &self.shards[index(location)]
    }
}

fn ticket(key: &CacheKey) -> Option<&Arc<Ticket>> {
    key.extensions.get::<Arc<Ticket>>()
}

fn number(key: &CacheKey) -> u128 {
    u128::from_be_bytes(key.combined_bin())
}

/// Hash tables use the lower bits.
pub(super) fn index(location: u64) -> usize {
    (location >> 32) as usize % SHARDS
}

pub(super) fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
