//! Credentials that were verified, so that they need not be verified again.
//!
//! A keyed hash finds the place and the whole key is compared – the token itself, or a digest that nobody
//! can compute outside – so nobody can make another credential that is taken for a cached one. Bounded,
//! without locks, and without an allocation for a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::identity::Identity;
use super::refusal::Refusal;

/// Places that a credential may be kept in.
const WAYS: usize = 4;
/// Seconds for which a bad credential is refused without a look.
const REFUSED_FOR: u64 = 10;
/// Bad credentials remembered; apart from the others, so that a flood of them displaces no good one.
const REFUSED_PLACES: usize = 4096;

pub(super) struct CredentialCache {
    seed: RandomState,
    /// Seconds after which a credential is verified anew although it has not expired.
    longest_stay: u64,
    verified: Box<[ArcSwapOption<Entry>]>,
    refused: Box<[ArcSwapOption<Refused>]>,
    /// Which of a credential's places is given up next.
    turn: AtomicUsize,
    /// Counts how often a key was taken away: what was verified before is verified anew.
    removals: AtomicU64,
    /// Counts how often keys changed: what was refused before may be good.
    changes: AtomicU64,
}

/// A credential that is what it must be.
pub(super) struct Verified {
    pub(super) identity: Arc<Identity>,
    /// Seconds since 1970 from which on it is valid, leeway included.
    pub(super) from: u64,
    /// Seconds since 1970 at which it has expired, leeway included.
    pub(super) until: u64,
}

/// With which keys a credential was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    removals: u64,
    changes: u64,
}

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    identity: Arc<Identity>,
    epoch: Epoch,
    /// Seconds since 1970.
    from: u64,
    until: u64,
}

struct Refused {
    hash: u64,
    key: Box<[u8]>,
    refusal: Refusal,
    epoch: Epoch,
    until: u64,
}

impl CredentialCache {
    /// A cache for about so many credentials, none of which stays for more seconds than this. 0 remembers
    /// none: without places not even bad ones, without time only those.
    pub(super) fn new(credentials: usize, longest_stay: u64) -> Self {
        let (places, refused) = match credentials {
            0 => (0, 0),
            _ => (credentials.next_power_of_two().max(WAYS), REFUSED_PLACES),
        };
        Self {
            seed: RandomState::new(),
            longest_stay,
            verified: (0..places).map(|_| ArcSwapOption::empty()).collect(),
            refused: (0..refused).map(|_| ArcSwapOption::empty()).collect(),
            turn: AtomicUsize::new(0),
            removals: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// What is known of a credential at `now`.
    pub(super) fn find(&self, key: &[u8], now: u64) -> Option<Result<Arc<Identity>, Refusal>> {
        if self.verified.is_empty() {
            return None;
        }
        let hash = self.seed.hash_one(key);
        for place in places(&self.verified, hash) {
            let entry = place.load();
            if let Some(entry) = entry.as_deref()
                && entry.is(key, hash)
            {
                let is_valid = (entry.from..entry.until).contains(&now)
                    && entry.epoch.removals == self.removals.load(Ordering::Acquire);
                return is_valid.then(|| Ok(entry.identity.clone()));
            }
        }
        let changes = self.changes.load(Ordering::Acquire);
        places(&self.refused, hash).iter().find_map(|place| {
            let refused = place.load();
            refused
                .as_deref()
                .filter(|refused| refused.is(key, hash) && refused.holds(changes, now))
                .map(|refused| Err(refused.refusal))
        })
    }

    /// Which keys credentials are verified with now.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch {
            removals: self.removals.load(Ordering::Acquire),
            changes: self.changes.load(Ordering::Acquire),
        }
    }

    /// The keys have changed: what was refused may be good now, and if one was taken away, what was
    /// verified may not be.
    pub(super) fn begin_epoch(&self, is_removal: bool) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        if is_removal {
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Remembers a credential that was verified with the keys of `epoch`, until it expires at the latest.
    pub(super) fn keep(&self, key: &[u8], verified: &Verified, epoch: Epoch, now: u64) {
        if self.verified.is_empty() || self.longest_stay == 0 {
            return;
        }
        let hash = self.seed.hash_one(key);
        let place = self.place_for(&self.verified, hash, |entry| {
            entry.until <= now || entry.is(key, hash)
        });
        place.store(Some(Arc::new(Entry {
            hash,
            key: key.into(),
            identity: verified.identity.clone(),
            epoch,
            from: verified.from,
            until: verified.until.min(now + self.longest_stay),
        })));
    }

    /// Remembers a credential that only other keys than those of `epoch` can make good.
    pub(super) fn refuse(&self, key: &[u8], refusal: Refusal, epoch: Epoch, now: u64) {
        if self.refused.is_empty() {
            return;
        }
        let hash = self.seed.hash_one(key);
        let place = self.place_for(&self.refused, hash, |refused| {
            refused.is(key, hash) || !refused.holds(epoch.changes, now)
        });
        place.store(Some(Arc::new(Refused {
            hash,
            key: key.into(),
            refusal,
            epoch,
            until: now + REFUSED_FOR,
        })));
    }

    /// The place of `hash` that holds nothing of worth, or else the one whose turn it is.
    fn place_for<'c, T>(
        &self,
        all: &'c [ArcSwapOption<T>],
        hash: u64,
        is_free: impl Fn(&T) -> bool,
    ) -> &'c ArcSwapOption<T> {
        let places = places(all, hash);
        places
            .iter()
            .find(|place| place.load().as_deref().is_none_or(&is_free))
            .unwrap_or_else(|| &places[self.turn.fetch_add(1, Ordering::Relaxed) % WAYS])
    }
}

impl Entry {
    fn is(&self, key: &[u8], hash: u64) -> bool {
        self.hash == hash && *self.key == *key
    }
}

impl Refused {
    fn is(&self, key: &[u8], hash: u64) -> bool {
        self.hash == hash && *self.key == *key
    }

    /// Whether it is still refused at `now`, after so many changes of the keys.
    fn holds(&self, changes: u64, now: u64) -> bool {
        now < self.until && changes == self.epoch.changes
    }
}

/// Where a credential of this hash may be kept.
fn places<T>(all: &[ArcSwapOption<T>], hash: u64) -> &[ArcSwapOption<T>] {
    let sets = all.len() / WAYS;
    let set = (hash >> 32) as usize % sets;
    &all[set * WAYS..(set + 1) * WAYS]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bad_credentials_do_not_displace_each_other() {
        for _ in 0..100 {
            let cache = CredentialCache::new(100, 60);
            let epoch = cache.epoch();
            for number in 0_u32..20 {
                cache.refuse(&number.to_be_bytes(), Refusal::BadSignature, epoch, 1000);
            }
            for number in 0_u32..20 {
                let known = cache.find(&number.to_be_bytes(), 1001);
                assert!(
                    matches!(known, Some(Err(Refusal::BadSignature))),
                    "{number}"
                );
            }
        }
    }
}
