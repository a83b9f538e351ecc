//! The digests by which answers are known. Most requests ask for few answers, so that each worker remembers
//! the digests of keys that it has seen: to compare a key is a fraction of the work of a digest.

use std::cell::RefCell;

use ahash::RandomState;
use pingora_cache::key::{HashBinary, hash_key};

/// Keys that a worker remembers. Each has one place, which it shares with others.
const PLACES: usize = 1024;
/// Longer keys are not remembered, which bounds the memory.
const LONGEST: usize = 512;

thread_local! {
    static DIGESTS: RefCell<Digests> = RefCell::new(Digests::new(PLACES));
}

/// The digest of a key.
pub(super) fn digest(key: &[u8]) -> HashBinary {
    match key.len() {
        ..=LONGEST => DIGESTS.with_borrow_mut(|digests| digests.of(key)),
        _ => hash_key(key),
    }
}

/// Digests by their keys.
struct Digests {
    places: Box<[(Vec<u8>, HashBinary)]>,
    hashing: RandomState,
}

impl Digests {
    fn new(places: usize) -> Self {
        Self {
            places: vec![Default::default(); places].into(),
            hashing: RandomState::new(),
        }
    }

    fn of(&mut self, key: &[u8]) -> HashBinary {
        let place = self.hashing.hash_one(key) as usize % self.places.len();
        let (known, digest) = &mut self.places[place];
        // Nobody asks for the empty key, by which a place is free.
        if known.as_slice() != key || key.is_empty() {
            *digest = hash_key(key);
            known.clear();
            known.extend_from_slice(key);
        }
        *digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_remembered_is_the_digest_of_the_key(
            keys in prop::collection::vec("[ab]{0,3}", 0..50),
        ) {
            let mut digests = Digests::new(2);
            for key in keys {
                prop_assert_eq!(digests.of(key.as_bytes()), hash_key(&key));
            }
        }
    }
}
