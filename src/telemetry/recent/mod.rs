//! Requests that operators ask about afterwards: those that failed last, those that were turned away last, and the
//! slowest of the last minutes.
//!
//! Each thread keeps its own, in memory that it uses again and again, so that no flood takes more. Workers wait
//! neither for each other nor for who reads: a place that is in use is passed over for the next. Whoever is turned
//! away, which costs a client nothing, can't push out what failed.

mod kept;
mod report;
mod ring;
mod slowest;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use self::kept::{Kept, Moment};
pub use self::report::RecentRequest;
use self::ring::Ring;
use self::slowest::Slowest;
use super::flags::{Flag, Flags};
use super::record::Record;
use super::thread::number_of_this_thread;

/// Places for threads; at least as many as worker threads on common machines. More threads share.
const SHARDS: usize = 64;
/// So many of them are looked at for one that is not in use. Only one at a time is read.
const TRIES: usize = 3;
/// The gateway itself turned the request away.
const TURNED_AWAY: Flags = Flags::of(&[
    Flag::AccessDenied,
    Flag::RateLimited,
    Flag::ConcurrencyLimited,
    Flag::Unauthorized,
    Flag::Forbidden,
    Flag::Shed,
]);

/// The requests that are kept, of all threads.
#[derive(Debug)]
pub struct RecentRequests {
    shards: Box<[Shard]>,
    /// Moments are counted from here.
    begun: Instant,
}

/// Those of one thread, aligned so that two threads never write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    failures: Mutex<Ring>,
    refusals: Mutex<Ring>,
    slowest: Slowest,
}

/// Why a request is kept beside being slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecentKind {
    /// It failed.
    Failure,
    /// It was turned away.
    Refusal,
}

/// Why a request that is over is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    kind: Option<RecentKind>,
    is_slow: bool,
    moment: Moment,
}

impl Default for RecentRequests {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            begun: Instant::now(),
        }
    }
}

impl RecentKind {
    /// What a request with this status and these flags is; `is_failure` if the status or a broken answer says
    /// that it failed.
    pub fn of(status: u16, flags: Flags, is_failure: bool) -> Option<Self> {
        match status {
            401 | 403 | 429 => Some(Self::Refusal),
            _ if flags.has_any(TURNED_AWAY) => Some(Self::Refusal),
            _ => is_failure.then_some(Self::Failure),
        }
    }
}

impl RecentRequests {
    /// Whether a request is kept that is over at `ended` and took so long.
    pub fn choose(&self, kind: Option<RecentKind>, took: Duration, ended: Instant) -> Option<Keep> {
        let moment = Moment {
            ended: ended.saturating_duration_since(self.begun),
            took,
        };
        let is_slow = self.mine().slowest.has_room(moment);
        (is_slow || kind.is_some()).then_some(Keep {
            kind,
            is_slow,
            moment,
        })
    }

    /// Keeps a request of this client, as far as the client may be told.
    pub fn keep(&self, keep: Keep, record: &Record<'_>, client: Option<IpAddr>) {
        let write = |kept: &mut Kept| kept.write(record, client, keep.moment);
        let mine = number_of_this_thread();
        let shards = || (mine..mine + TRIES).map(|number| &self.shards[number % SHARDS]);
        if keep.is_slow {
            // The first that takes it.
            let _ = shards().any(|shard| shard.slowest.keep(keep.moment, write));
        }
        if let Some(kind) = keep.kind
            && let Some(mut ring) = shards().find_map(|shard| unused(shard.ring(kind)))
        {
            ring.keep(write);
        }
    }

    /// The last requests of a kind, so many at most, those first that ended last. As many as a thread keeps are
    /// never missing; more may be.
    pub fn last(&self, kind: RecentKind, count: usize) -> Vec<RecentRequest> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let ring = shard.ring(kind).lock();
            let ring = ring.unwrap_or_else(PoisonError::into_inner);
            found.extend(ring.newest(count));
        }
        found.sort_by_key(|kept| std::cmp::Reverse(kept.moment.ended));
        found.iter().take(count).map(RecentRequest::of).collect()
    }

    /// The slowest requests of the last minutes, so many at most, the slowest first.
    pub fn slowest(&self, count: usize, now: Instant) -> Vec<RecentRequest> {
        let now = now.saturating_duration_since(self.begun);
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.slowest.since(now));
        }
        found.sort_by_key(|kept| std::cmp::Reverse(kept.moment.took));
        found.iter().take(count).map(RecentRequest::of).collect()
    }

    fn mine(&self) -> &Shard {
        &self.shards[number_of_this_thread() % SHARDS]
    }
}

impl Shard {
    fn ring(&self, kind: RecentKind) -> &Mutex<Ring> {
        match kind {
            RecentKind::Failure => &self.failures,
            RecentKind::Refusal => &self.refusals,
        }
    }
}

/// What nobody else uses now.
fn unused<T>(shared: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match shared.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests;
