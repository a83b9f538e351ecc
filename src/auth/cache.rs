//! Tokens that were verified, so that they need not be verified again.
//!
//! A keyed hash finds the place and the whole token is compared, which is stronger than any digest:
//! nobody can make another token that is taken for a cached one. Bounded, without locks, and without
//! an allocation for a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use super::refusal::Refusal;
use super::verified::Verified;

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
}

struct Entry {
    hash: u64,
    token: Box<str>,
    verified: Arc<Verified>,
    /// Seconds since 1970.
    until: u64,
}

struct Refused {
    hash: u64,
    token: Box<str>,
    refusal: Refusal,
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
        }
    }

    /// What is known of a token at `now`.
    pub(super) fn find(&self, token: &str, now: u64) -> Option<Result<Arc<Verified>, Refusal>> {
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
                let is_valid = now < entry.until && now >= entry.verified.valid_from;
                return is_valid.then(|| Ok(entry.verified.clone()));
            }
        }
        let refused = self.refused[hash as usize % REFUSED_PLACES].load();
        refused
            .as_deref()
            .filter(|refused| {
                refused.hash == hash && *refused.token == *token && now < refused.until
            })
            .map(|refused| Err(refused.refusal))
    }

    /// Remembers a verified token, until it expires at the latest.
    pub(super) fn keep(&self, token: &str, verified: &Arc<Verified>, now: u64) {
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
            verified: verified.clone(),
            until: verified.valid_until.min(now + LONGEST_STAY),
        })));
    }

    /// Remembers a token whose signature is bad, which nothing can make good. Other refusals are
    /// cheap to find again, or may pass.
    pub(super) fn refuse(&self, token: &str, refusal: Refusal, now: u64) {
        if self.refused.is_empty() || refusal != Refusal::BadSignature {
            return;
        }
        let hash = self.seed.hash_one(token);
        self.refused[hash as usize % REFUSED_PLACES].store(Some(Arc::new(Refused {
            hash,
            token: token.into(),
            refusal,
            until: now + REFUSED_FOR,
        })));
    }

    fn places(&self, hash: u64) -> &[ArcSwapOption<Entry>] {
        let sets = self.verified.len() / WAYS;
        let set = (hash >> 32) as usize % sets;
        &self.verified[set * WAYS..(set + 1) * WAYS]
    }
}
