//! What is known of an answer that has a file.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::super::object::Head;
use super::folder::Name;

/// It waits to be written.
const PENDING: u8 = 0;
/// Its file is there.
const WRITTEN: u8 = 1;
/// It is no longer kept.
const GONE: u8 = 2;

/// An answer that has a file, or is to get one.
#[derive(Debug)]
pub(in super::super) struct OnDisk {
    pub(super) name: Name,
    pub(in super::super) number: u64,
    pub(in super::super) location: Arc<str>,
    pub(in super::super) tags: Arc<[Box<str>]>,
    pub(in super::super) fresh_until: SystemTime,
    /// Bytes of its file as the disk counts them.
    pub(in super::super) size: u64,
    /// Bytes of its body.
    pub(super) length: u64,
    pub(in super::super) uses: AtomicU8,
    /// The last round of its shard in which its use in memory counted.
    pub(in super::super) round: AtomicU8,
    /// As in an object.
    pub(super) expired: AtomicU64,
    state: AtomicU8,
    is_restating: AtomicBool,
    refreshing: OnceLock<Arc<AtomicBool>>,
}

impl OnDisk {
    pub(super) fn new(
        name: Name,
        number: u64,
        (location, tags): (Arc<str>, Arc<[Box<str>]>),
        head: &Head,
        (size, length): (u64, u64),
        expired: u64,
    ) -> Self {
        Self {
            name,
            number,
            location,
            tags,
            fresh_until: head.fresh_until(),
            size,
            length,
            uses: AtomicU8::new(0),
            round: AtomicU8::new(0),
            expired: AtomicU64::new(expired),
            state: AtomicU8::new(PENDING),
            is_restating: AtomicBool::new(false),
            refreshing: OnceLock::new(),
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.state.load(Ordering::Acquire) == WRITTEN
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.load(Ordering::Acquire) == GONE
    }

    /// Its file is there. `false` if nobody wants it any more.
    pub(super) fn written(&self) -> bool {
        let from = (Ordering::AcqRel, Ordering::Acquire);
        let exchanged = self
            .state
            .compare_exchange(PENDING, WRITTEN, from.0, from.1);
        exchanged.is_ok()
    }

    /// It is no longer kept. Whether its file has to be removed; otherwise whoever writes it does that.
    pub(super) fn let_go(&self) -> bool {
        self.state.swap(GONE, Ordering::AcqRel) == WRITTEN
    }

    pub(in super::super) fn key(&self) -> u128 {
        self.name.key
    }

    /// Which of two files of one answer is the newer one.
    pub(in super::super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.name.stamp.cmp(&other.name.stamp)
    }

    /// Bytes of its body.
    pub(in super::super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether a header of later would make a difference: it is stale and that is not, or it would be
    /// fresh for longer than that.
    pub(in super::super) fn is_outdated(&self, head: &Head) -> bool {
        let now = SystemTime::now();
        let is_stale = self.fresh_until < now || self.expired() > 0;
        let gains = is_stale && head.is_fresh(now + super::SHORTEST_LIFE);
        gains || head.fresh_until() < self.fresh_until
    }

    /// Whether somebody refreshes it.
    pub(super) fn refreshing(&self) -> &Arc<AtomicBool> {
        self.refreshing.get_or_init(Arc::default)
    }

    /// Whether nobody else has its header written anew.
    pub(super) fn begin_restating(&self) -> bool {
        !self.is_restating.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_restating(&self) {
        self.is_restating.store(false, Ordering::Relaxed);
    }

    pub(in super::super) fn expire(&self, seconds: u64) {
        self.expired.fetch_max(seconds, Ordering::Relaxed);
    }

    pub(in super::super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }
}
