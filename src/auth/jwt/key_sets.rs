//! All key sets in use. A set lives on as long as somebody uses it, over reloads.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::key_set::KeySet;
use super::key_source::{Source, Upkeep};

/// All key sets in use.
#[derive(Debug, Default)]
pub struct KeySets {
    sets: Mutex<Vec<Weak<KeySet>>>,
    wanted: Arc<Notify>,
}

impl KeySets {
    /// The set of a source that is kept so. It may be known already; if only its upkeep is another one, it
    /// is a new set with the same keys, so that asking for it changes nothing for those in force.
    pub fn of(&self, source: Source, upkeep: Upkeep, now: Instant) -> Arc<KeySet> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|set| set.strong_count() > 0);
        let mut known: Vec<_> = sets.iter().filter_map(Weak::upgrade).collect();
        known.retain(|set| *set.source() == source);
        if let Some(set) = known.iter().find(|set| *set.upkeep() == upkeep) {
            return set.clone();
        }
        let set = KeySet::new(source, upkeep, self.wanted.clone(), now);
        // The youngest keys.
        if let Some(other) = known
            .iter()
            .min_by_key(|set| (!set.is_known(), set.age(now)))
        {
            set.take_over(other);
        }
        let set = Arc::new(set);
        sets.push(Arc::downgrade(&set));
        set
    }

    /// Those in use.
    pub fn all(&self) -> Vec<Arc<KeySet>> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends when a set is wanted before its time.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::key_source::Place;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UPKEEP: Upkeep = Upkeep {
        refresh: Duration::from_secs(600),
        max_stale: Duration::from_secs(3600),
        timeout: Duration::from_secs(5),
    };

    fn source(issuer: &str) -> Source {
        Source {
            place: Place::Issuer(issuer.to_owned()),
            authorities: None,
        }
    }

    #[test]
    fn a_set_is_shared_and_outlives_who_asked_for_it_first() {
        let now = Instant::now();
        let sets = KeySets::default();
        let of = |issuer: &str| sets.of(source(issuer), UPKEEP, now);
        let first = of("https://id.example.com");
        first.begin(now).unwrap().fetched("a", None, now, 0.0);
        let again = of("https://id.example.com");
        let other = of("https://id.example.org");
        assert!(Arc::ptr_eq(&first, &again) && !other.is_known());
        drop(first);
        assert!(of("https://id.example.com").is_known());
        drop(again);
        assert_eq!(sets.all().len(), 1);
    }

    #[test]
    fn another_upkeep_keeps_the_keys_and_changes_nothing_for_those_in_force() {
        let now = Instant::now();
        let sets = KeySets::default();
        let of = |upkeep| sets.of(source("https://id.example.com"), upkeep, now);
        let in_force = of(UPKEEP);
        in_force.begin(now).unwrap().fetched("a", None, now, 0.0);
        let short = Upkeep {
            refresh: 10 * SECOND,
            max_stale: 20 * SECOND,
            ..UPKEEP
        };
        let tried = of(short);
        assert!(tried.with_text(|text| text == Some("a")));
        assert!(tried.begin(now + 7 * SECOND).is_none());
        let _attempt = tried.begin(now + 8 * SECOND).unwrap();
        assert!(tried.begin(now + 21 * SECOND).is_none() && !tried.is_known());
        assert!(in_force.begin(now + 21 * SECOND).is_none() && in_force.is_known());
        // Nor does a longer one let them live longer.
        let long = of(Upkeep {
            refresh: 6000 * SECOND,
            ..UPKEEP
        });
        assert!(long.is_known() && long.begin(now + 480 * SECOND).is_some());
    }
}
