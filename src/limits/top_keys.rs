//! Which keys a limit is asked about most, by name, for operators.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, 2005): a key that is not in the list takes the place of the
//! last one and its count, as its error. Requests never wait for the list: one in 64 that pass is noted, and
//! what is refused; a note for which the list is not free at once is lost.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::key::{KeyHash, KeySource};
use super::limiter::RateLimits;
use super::verdict::LimitNumber;

/// Keys of a list.
const MOST: usize = 64;
/// One request that passes stands for so many.
const SAMPLED: u64 = 64;
/// When all counts are halved, so that what was long ago is forgotten: a minute.
const HALF_LIFE: u64 = 60_000_000;

/// The text of a key, part by part; `None` for one that is missing.
pub(super) type KeyText = Vec<Option<String>>;

/// The list of a limit.
#[derive(Debug, Default)]
pub(super) struct TopKeys(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    rows: Vec<Row>,
    /// Not before there was anything to fade.
    faded_at: Option<u64>,
}

#[derive(Debug)]
struct Row {
    key: KeyHash,
    text: KeyText,
    count: Counted,
}

/// How often a key came. Counts fade, with a half-life of a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Requests, about: of those that pass, one in 64 stands for all.
    pub requests: u64,
    /// How many of them may have been another key's.
    pub error: u64,
    /// Those that were refused, or had to wait.
    pub refused: u64,
}

/// The lists of all limits that are in force. Locked when limits are compiled and by the background task.
#[derive(Debug, Default)]
pub(super) struct AllTopKeys(Mutex<Vec<(u64, Weak<TopKeys>)>>);

impl AllTopKeys {
    /// The list of the limit of this number, before a reload and after it.
    pub(super) fn of(&self, limit: u64) -> Arc<TopKeys> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, keys)| keys.strong_count() > 0);
        let same = known.iter().find(|(id, _)| *id == limit);
        if let Some(keys) = same.and_then(|(_, keys)| keys.upgrade()) {
            return keys;
        }
        let keys = Arc::new(TopKeys::default());
        known.push((limit, Arc::downgrade(&keys)));
        keys
    }

    /// Lets counts fade where it is time.
    pub(super) fn fade(&self, now: u64) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = known.iter().filter_map(|(_, keys)| keys.upgrade());
        alive.for_each(|keys| keys.fade(now));
    }
}

impl TopKeys {
    /// Notes requests of a key, unless others are at it.
    fn note(&self, key: KeyHash, count: Counted, text: impl FnOnce() -> KeyText) {
        let Ok(mut list) = self.0.try_lock() else {
            return;
        };
        let rows = &mut list.rows;
        if let Some(row) = rows.iter_mut().find(|row| row.key == key) {
            row.count.requests += count.requests;
            row.count.refused += count.refused;
        } else if rows.len() < MOST {
            let text = text();
            rows.push(Row { key, text, count });
        } else if let Some(last) = rows.iter_mut().min_by_key(|row| row.count.requests) {
            let error = last.count.requests;
            *last = Row {
                key,
                text: text(),
                count: Counted {
                    requests: error + count.requests,
                    error,
                    refused: count.refused,
                },
            };
        }
    }

    /// The first of the list, with the keys' own numbers.
    pub(super) fn first(&self, most: usize) -> Vec<(KeyHash, KeyText, Counted)> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = list.rows.iter();
        let mut rows: Vec<_> = rows
            .map(|row| (row.key, row.text.clone(), row.count))
            .collect();
        rows.sort_by_key(|(.., count)| std::cmp::Reverse(count.requests));
        rows.truncate(most);
        rows
    }

    fn fade(&self, now: u64) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.rows.is_empty() {
            list.faded_at = None;
            return;
        }
        let faded_at = *list.faded_at.get_or_insert(now);
        if now < faded_at + HALF_LIFE {
            return;
        }
        list.faded_at = Some(now);
        for Row { count, .. } in &mut list.rows {
            count.requests /= 2;
            count.error /= 2;
            count.refused /= 2;
        }
        list.rows.retain(|row| row.count.requests > 0);
    }
}

impl RateLimits {
    /// Notes a request that passes, if it is its turn.
    pub(super) fn note_passed(&self, range: Range<usize>, source: &impl KeySource) {
        if fastrand::u64(..SAMPLED) == 0 {
            let count = Counted {
                requests: SAMPLED,
                ..Counted::default()
            };
            self.numbered(range)
                .for_each(|(number, _)| self.note(number, count, source));
        }
    }

    /// Notes a request that this limit does not let pass.
    pub(super) fn note_blocked(&self, number: LimitNumber, source: &impl KeySource) {
        let count = Counted {
            requests: 1,
            error: 0,
            refused: 1,
        };
        self.note(number, count, source);
    }

    fn note(&self, number: LimitNumber, count: Counted, source: &impl KeySource) {
        let limit = self.limit(number);
        if let Some(top_keys) = &limit.top_keys {
            let parts = limit.by.iter();
            let parts = parts.filter_map(|part| part.text(source, &self.store.salt));
            let key = limit.key(&self.store, source);
            top_keys.note(key, count, || parts.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyHash {
        KeyHash {
            place: number,
            fingerprint: number,
        }
    }

    fn note(keys: &TopKeys, number: u64, requests: u64) {
        let count = Counted {
            requests,
            ..Counted::default()
        };
        keys.note(key(number), count, || vec![Some(number.to_string())]);
    }

    /// The guarantee of Space-Saving: no count is too low, none is too high by more than its error, and
    /// whoever came more often than one in 64 times is listed.
    #[test]
    fn who_comes_often_is_listed_and_no_count_is_further_off_than_its_error() {
        let keys = TopKeys::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut truth = vec![0_u64; 1000];
        for _ in 0..50_000 {
            let number = random.u64(..1000).min(random.u64(..1000)) * random.u64(..1000) / 1000;
            truth[number as usize] += 1;
            note(&keys, number, 1);
        }
        let listed = keys.first(MOST);
        for (key, text, count) in &listed {
            let truth = truth[key.place as usize];
            assert_eq!(*text, [Some(key.place.to_string())]);
            assert!(truth <= count.requests && count.requests - count.error <= truth);
        }
        let missed = (0..1000).filter(|number| listed.iter().all(|row| row.0 != key(*number)));
        for number in missed {
            assert!(truth[number as usize] <= 50_000 / MOST as u64);
        }
        assert!(listed.is_sorted_by(|one, other| one.2.requests >= other.2.requests));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let all = AllTopKeys::default();
        let keys = all.of(1);
        assert!(Arc::ptr_eq(&keys, &all.of(1)));
        let requests = |keys: &TopKeys| keys.first(1).first().map(|row| row.2.requests);
        // Whatever the clock says when they come: a list that was empty begins with the first of them.
        for start in [0, 1_000 * HALF_LIFE] {
            all.fade(start);
            note(&keys, 5, 2);
            let first = start + HALF_LIFE / 2;
            all.fade(first);
            all.fade(first + HALF_LIFE - 1);
            assert_eq!(requests(&keys), Some(2));
            all.fade(first + HALF_LIFE);
            all.fade(first + HALF_LIFE + 1);
            assert_eq!(requests(&keys), Some(1));
            all.fade(first + 2 * HALF_LIFE);
            assert_eq!(requests(&keys), None);
        }
    }
}
