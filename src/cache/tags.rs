//! Which keys a tag stands for, so that a purge by tag looks at those and at no others.
//!
//! Tags are known by their hashes: what is found has to be looked at once more.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;

/// Keys by their tags.
#[derive(Debug, Default)]
pub(super) struct TagIndex {
    keys: HashMap<u64, HashSet<u128, RandomState>, RandomState>,
}

impl TagIndex {
    /// The tags of a key are these from now on. `known` are those that it had, and becomes those that it has.
    pub(super) fn set<'t>(
        &mut self,
        key: u128,
        known: &mut Vec<u64>,
        tags: impl Iterator<Item = &'t str>,
    ) {
        let hashing = self.keys.hasher();
        let mut hashes: Vec<u64> = tags.map(|tag| hashing.hash_one(tag)).collect();
        if hashes.is_empty() && known.is_empty() {
            return;
        }
        hashes.sort_unstable();
        hashes.dedup();
        for gone in known.iter().filter(|it| hashes.binary_search(it).is_err()) {
            if let Some(keys) = self.keys.get_mut(gone) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.keys.remove(gone);
                }
            }
        }
        for new in hashes.iter().filter(|it| known.binary_search(it).is_err()) {
            self.keys.entry(*new).or_default().insert(key);
        }
        *known = hashes;
    }

    /// The keys of a tag.
    pub(super) fn keys(&self, tag: &str) -> Vec<u128> {
        let keys = self.keys.get(&self.keys.hasher().hash_one(tag));
        keys.into_iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tag_has_the_keys_that_had_it_last(
            steps in prop::collection::vec((0..4_u128, prop::collection::vec("[a-c]", 0..4)), 0..40),
        ) {
            let mut index = TagIndex::default();
            let mut known: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
            let mut last: BTreeMap<u128, Vec<String>> = BTreeMap::new();
            for (key, tags) in steps {
                index.set(key, known.entry(key).or_default(), tags.iter().map(String::as_str));
                last.insert(key, tags);
            }
            for tag in ["a", "b", "c"] {
                let mut found = index.keys(tag);
                found.sort_unstable();
                let expected: Vec<u128> = last
                    .iter()
                    .filter(|(_, tags)| tags.iter().any(|it| it == tag))
                    .map(|(key, _)| *key)
                    .collect();
                prop_assert_eq!(found, expected);
            }
            for (key, known) in &mut known {
                index.set(*key, known, std::iter::empty());
            }
            prop_assert!(index.keys.is_empty());
        }
    }
}
