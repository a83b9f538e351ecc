//! Tokens that were verified, so that they need not be verified again.
//!
//! A keyed hash finds the place and the whole token is compared, which is stronger than any digest:
//! nobody can make another token that is taken for a cached one. Bounded, without locks, and without
//! an allocation for a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::super::identity::Identity;
use super::super::refusal::Refusal;
use super::verify::Verified;

/// Places that a token may be kept in.
const WAYS: usize = 4;
/// Seconds after which a token is verified anew although it has not expired.
const LONGEST_STAY: u64 = 300;
/// Seconds for which a token with a bad signature is refused without a look.
const REFUSED_FOR: u64 = 10;
/// Refused tokens remembered; apart from the others, so that a flood of bad tokens displaces no good
/// one.
const REFUSED_PLACES: usize = 4096;

pub(super) struct TokenCache {
    seed: RandomState,
    verified: Box<[ArcSwapOption<Entry>]>,
    refused: Box<[ArcSwapOption<Refused>]>,
    /// Which of a token's places is given up next.
    turn: AtomicUsize,
    /// Counts how often a key was taken away: tokens that were verified before are verified anew.
    removals: AtomicU64,
    /// Counts how often keys changed: tokens that were refused before may be good.
    changes: AtomicU64,
}

/// With which keys a token was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    removals: u64,
    changes: u64,
}

struct Entry {
    hash: u64,
    token: Box<str>,
    identity: Arc<Identity>,
    epoch: Epoch,
    /// Seconds since 1970.
    from: u64,
    until: u64,
}

struct Refused {
    hash: u64,
    token: Box<str>,
    refusal: Refusal,
    epoch: Epoch,
    until: u64,
}

impl TokenCache {
    /// A cache for about so many tokens; 0 for none.
    pub(super) fn new(tokens: usize) -> Self {
        let (places, refused) = match tokens {
            0 => (0, 0),
            _ => (tokens.next_power_of_two().max(WAYS), REFUSED_PLACES),
        };
        Self {
            seed: RandomState::new(),
            verified: (0..places).map(|_| ArcSwapOption::empty()).collect(),
            refused: (0..refused).map(|_| ArcSwapOption::empty()).collect(),
            turn: AtomicUsize::new(0),
            removals: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// What is known of a token at `now`.
    pub(super) fn find(&self, token: &str, now: u64) -> Option<Result<Arc<Identity>, Refusal>> {
        if self.verified.is_empty() {
            return None;
        }
        let hash = self.seed.hash_one(token);
        for place in self.places(hash) {
            let entry = place.load();
            if let Some(entry) = entry.as_deref()
                && entry.hash == hash
                && *entry.token == *token
            {
                let is_valid = (entry.from..entry.until).contains(&now)
                    && entry.epoch.removals == self.removals.load(Ordering::Acquire);
                return is_valid.then(|| Ok(entry.identity.clone()));
            }
        }
        let refused = self.refused[hash as usize % REFUSED_PLACES].load();
        refused
            .as_deref()
            .filter(|refused| {
                refused.hash == hash
                    && *refused.token == *token
                    && now < refused.until
                    && refused.epoch.changes == self.changes.load(Ordering::Acquire)
            })
            .map(|refused| Err(refused.refusal))
    }

    /// Which keys tokens are verified with now.
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

    /// Remembers a token that was verified with the keys of `epoch`, until it expires at the latest.
    pub(super) fn keep(&self, token: &str, verified: &Verified, epoch: Epoch, now: u64) {
        if self.verified.is_empty() {
            return;
        }
        let hash = self.seed.hash_one(token);
        let places = self.places(hash);
        let is_free = |place: &ArcSwapOption<Entry>| {
            place.load().as_deref().is_none_or(|entry| {
                entry.until <= now || (entry.hash == hash && *entry.token == *token)
            })
        };
        let place = places
            .iter()
            .find(|place| is_free(place))
            .unwrap_or_else(|| &places[self.turn.fetch_add(1, Ordering::Relaxed) % WAYS]);
        place.store(Some(Arc::new(Entry {
            hash,
            token: token.into(),
            identity: verified.identity.clone(),
            epoch,
            from: verified.from,
            until: verified.until.min(now + LONGEST_STAY),
        })));
    }

    /// Remembers a token whose signature is bad, which only other keys can make good. Other refusals are
    /// cheap to find again, or may pass.
    pub(super) fn refuse(&self, token: &str, refusal: Refusal, epoch: Epoch, now: u64) {
        if self.refused.is_empty() || refusal != Refusal::BadSignature {
            return;
        }
        let hash = self.seed.hash_one(token);
        self.refused[hash as usize % REFUSED_PLACES].store(Some(Arc::new(Refused {
            hash,
            token: token.into(),
            refusal,
            epoch,
            until: now + REFUSED_FOR,
        })));
    }

    fn places(&self, hash: u64) -> &[ArcSwapOption<Entry>] {
        let sets = self.verified.len() / WAYS;
        let set = (hash >> 32) as usize % sets;
        &self.verified[set * WAYS..(set + 1) * WAYS]
    }
}
