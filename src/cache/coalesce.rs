//! Who fetches an answer that many ask for: one of them, while the others wait.

use std::time::SystemTime;

use http::Extensions;
use pingora_cache::CacheKey;
use pingora_cache::lock::{CacheKeyLock, LockCore, LockStatus, LockStub, Locked, WritePermit};

use super::{Cache, LONGEST_FILL, Refusal};

/// A right to fetch that keeps nobody else from it.
#[derive(Debug, Clone, Copy)]
struct Alone;

impl CacheKeyLock for Cache {
    fn lock(&self, key: &CacheKey, is_stale: bool) -> Locked {
        if is_stale && self.store.is_never_fresh(key) {
            // The next one would have to ask again: nobody gains anything by waiting.
            let mut alone = Extensions::new();
            alone.insert(Alone);
            return Locked::Write(WritePermit::new(LONGEST_FILL, true, alone).0);
        }
        let locked = self.fills.lock(key, is_stale);
        let Locked::Write(permit) = locked else {
            return locked;
        };
        if is_stale || !self.store.has_fresh(key, SystemTime::now()) {
            return Locked::Write(permit);
        }
        // Between the look-up that found nothing and this, somebody else has fetched it. Whoever waits
        // for a lock that is open looks again.
        self.fills.release(key, permit, LockStatus::Done);
        let open = LockCore::new_arc(LONGEST_FILL, false, Extensions::new());
        open.unlock(LockStatus::Done);
        Locked::Read(LockStub(open).read_lock())
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, status: LockStatus) {
        if permit.extensions().get::<Alone>().is_some() {
            return permit.unlock(status);
        }
        self.fills.release(key, permit, status);
    }

    /// What says nothing of the next answer lets another one try.
    fn custom_lock_status(&self, reason: &'static str) -> LockStatus {
        match super::is_passing(reason) && reason != Refusal::FAILURE {
            true => LockStatus::TransientError,
            false => LockStatus::GiveUp,
        }
    }
}
