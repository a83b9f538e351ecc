//! Key sets that are fetched (RFC 7517) and kept: how old each is, and when it is fetched again.
//!
//! Nothing here speaks to anybody. Who does asks [`KeySet::begin`] what is due and says how it went;
//! requests never wait for that but for a moment, when a token names a key that nobody knows yet.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::Uri;
use tokio::sync::{Notify, watch};

/// A set is fetched again after a random part of its time, between these.
const EARLIEST: f64 = 0.8;
const LATEST: f64 = 0.9;
/// What a provider says of how long its set is fresh counts from here on.
const SHORTEST: Duration = Duration::from_secs(30);
/// After a failure it is tried again, after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Unknown keys make it be fetched no more often than so often in this time.
const ASKED_AT_MOST: u32 = 2;
const ASKED_WITHIN: Duration = Duration::from_secs(30);
/// How long a request waits for a key that may be on its way.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a key set is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this address.
    Url(Uri),
    /// Where its issuer says (OpenID Connect Discovery 1.0 §4). As in the `iss` of its tokens.
    Issuer(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A query may hold a secret.
            Self::Url(uri) => {
                let authority = uri.authority().map_or("", |it| it.as_str());
                let scheme = uri.scheme_str().unwrap_or("https");
                write!(f, "{scheme}://{authority}{}", uri.path())
            }
            Self::Issuer(issuer) => f.write_str(issuer),
        }
    }
}

/// Whom a key set is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is found.
    pub place: Place,
    /// PEM certificates of the authorities that are trusted; `None` for the system's.
    pub authorities: Option<Arc<str>>,
}

/// How a key set is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// How old it becomes before it is fetched again, if its provider does not say less.
    pub refresh: Duration,
    /// How old it may become if it can't be.
    pub max_stale: Duration,
    /// How long fetching it may take.
    pub timeout: Duration,
}

/// A key set and what is known of it.
#[derive(Debug)]
pub struct KeySet {
    source: Source,
    wanted: Arc<Notify>,
    current: ArcSwapOption<Fetched>,
    /// Counts the changes of `current`; odd and even mean nothing.
    generation: AtomicU64,
    schedule: Mutex<Schedule>,
    /// Counts the attempts that have ended.
    ended: watch::Sender<u64>,
}

/// The text of a set.
#[derive(Debug)]
struct Fetched {
    text: Box<str>,
    at: Instant,
}

#[derive(Debug)]
struct Schedule {
    upkeep: Upkeep,
    next: Instant,
    is_under_way: bool,
    failures: u32,
    asked: u32,
    asked_since: Option<Instant>,
}

/// All key sets in use. A set lives on as long as somebody uses it, over reloads.
#[derive(Debug, Default)]
pub struct KeySets {
    sets: Mutex<Vec<Weak<KeySet>>>,
    wanted: Arc<Notify>,
}

/// What an attempt to fetch a set changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// There was none before, or another one.
    Replaced,
    /// It failed before.
    Recovered,
    /// It did not fail before.
    Failed,
}

/// Keys that may be on their way.
#[derive(Debug)]
pub struct Awaited(watch::Receiver<u64>);

impl KeySets {
    /// The set of a source, which may be known already. `upkeep` holds from now on.
    pub fn of(&self, source: Source, upkeep: Upkeep, now: Instant) -> Arc<KeySet> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|set| set.strong_count() > 0);
        let mut known = sets.iter().filter_map(Weak::upgrade);
        if let Some(set) = known.find(|set| set.source == source) {
            set.lock().upkeep = upkeep;
            return set;
        }
        let set = Arc::new(KeySet::new(source, upkeep, self.wanted.clone(), now));
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

impl KeySet {
    fn new(source: Source, upkeep: Upkeep, wanted: Arc<Notify>, now: Instant) -> Self {
        Self {
            source,
            wanted,
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            schedule: Mutex::new(Schedule {
                upkeep,
                next: now,
                is_under_way: false,
                failures: 0,
                asked: 0,
                asked_since: None,
            }),
            ended: watch::Sender::new(0),
        }
    }

    /// Whom it is fetched from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Changes whenever the set does.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether there is one.
    pub fn is_known(&self) -> bool {
        self.current.load().is_some()
    }

    /// How old it is.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let current = self.current.load();
        current
            .as_ref()
            .map(|it| now.saturating_duration_since(it.at))
    }

    /// The text of the set, as it was fetched.
    pub fn with_text<R>(&self, read: impl FnOnce(Option<&str>) -> R) -> R {
        read(self.current.load().as_ref().map(|fetched| &*fetched.text))
    }

    /// Whether it is to be fetched now, and how long that may take. If so, the caller has to say how it
    /// went. A set that has become too old is given up.
    pub fn begin(&self, now: Instant) -> Option<Duration> {
        let mut schedule = self.lock();
        if self
            .age(now)
            .is_some_and(|age| age > schedule.upkeep.max_stale)
        {
            self.replace(None);
        }
        if schedule.is_under_way || now < schedule.next {
            return None;
        }
        schedule.is_under_way = true;
        Some(schedule.upkeep.timeout)
    }

    /// It was fetched, and is fresh for so long if its provider said so. `random` is in 0..1.
    pub fn fetched(
        &self,
        text: &str,
        fresh_for: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Change {
        let mut schedule = self.lock();
        let had_failed = std::mem::take(&mut schedule.failures) > 0;
        let refresh = schedule.upkeep.refresh;
        let within = fresh_for.map_or(refresh, |it| it.max(SHORTEST).min(refresh));
        schedule.next = now + within.mul_f64(EARLIEST + (LATEST - EARLIEST) * random);
        let is_same = self.with_text(|known| known == Some(text));
        let fetched = Arc::new(Fetched {
            text: text.into(),
            at: now,
        });
        match is_same {
            true => self.current.store(Some(fetched)),
            false => self.replace(Some(fetched)),
        }
        self.end(schedule);
        match (is_same, had_failed) {
            (false, _) => Change::Replaced,
            (true, true) => Change::Recovered,
            (true, false) => Change::None,
        }
    }

    /// It could not be fetched, or was no set. What is known stays. `random` is in 0..1.
    pub fn failed(&self, now: Instant, random: f64) -> Change {
        let mut schedule = self.lock();
        let pause = FIRST_RETRY * (1 << schedule.failures.min(6));
        schedule.next = now + pause.min(LAST_RETRY).mul_f64(0.5 + 0.5 * random);
        schedule.failures = schedule.failures.saturating_add(1);
        let is_first = schedule.failures == 1;
        self.end(schedule);
        match is_first {
            true => Change::Failed,
            false => Change::None,
        }
    }

    /// Somebody needs a key that is not in the set. What there may be to wait for, if it is being
    /// fetched or may be now.
    pub fn ask(&self, now: Instant) -> Option<Awaited> {
        let mut schedule = self.lock();
        // From before the attempt ends.
        let awaited = Awaited(self.ended.subscribe());
        if schedule.is_under_way {
            return Some(awaited);
        }
        let is_anew = schedule
            .asked_since
            .is_none_or(|since| now.saturating_duration_since(since) >= ASKED_WITHIN);
        if is_anew {
            schedule.asked_since = Some(now);
            schedule.asked = 0;
        }
        // After a failure its own time is soon enough.
        if schedule.asked >= ASKED_AT_MOST || schedule.failures > 0 {
            return None;
        }
        schedule.asked += 1;
        schedule.next = now;
        self.wanted.notify_one();
        Some(awaited)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, fetched: Option<Arc<Fetched>>) {
        self.current.store(fetched);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self, mut schedule: std::sync::MutexGuard<'_, Schedule>) {
        schedule.is_under_way = false;
        drop(schedule);
        self.ended.send_modify(|count| *count += 1);
    }
}

impl Awaited {
    /// Waits until they have come, or have not, but only for a moment.
    pub async fn come(mut self) {
        // Whoever fetches them is never gone; if so, there is nothing to wait for.
        let _ = tokio::time::timeout(PATIENCE, self.0.changed()).await;
    }
}

#[cfg(test)]
mod tests {
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

    fn set(now: Instant) -> (KeySets, Arc<KeySet>) {
        let sets = KeySets::default();
        let set = sets.of(source("https://id.example.com"), UPKEEP, now);
        (sets, set)
    }

    #[test]
    fn it_is_fetched_at_once_and_again_before_its_time() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        assert_eq!(set.begin(now), Some(UPKEEP.timeout));
        assert_eq!(set.begin(now), None, "it is under way");
        assert_eq!(set.fetched("a", None, now, 0.0), Change::Replaced);
        assert_eq!(set.begin(now + 479 * SECOND), None);
        assert!(set.begin(now + 480 * SECOND).is_some());
        let now = now + 480 * SECOND;
        assert_eq!(set.fetched("a", None, now, 1.0), Change::None);
        assert_eq!(set.begin(now + 539 * SECOND), None);
        assert!(set.begin(now + 541 * SECOND).is_some());
    }

    #[test]
    fn its_provider_may_want_it_fetched_more_often_but_not_all_the_time() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        for (fresh_for, next) in [(100, 80), (0, 24), (100_000, 480)] {
            set.lock().next = now;
            set.begin(now).unwrap();
            set.fetched("a", Some(fresh_for * SECOND), now, 0.0);
            assert_eq!(set.begin(now + (next - 1) * SECOND), None, "{fresh_for}");
            assert!(set.begin(now + next * SECOND).is_some(), "{fresh_for}");
            set.failed(now, 0.0);
        }
    }

    #[test]
    fn the_last_good_one_is_kept_for_as_long_as_it_may_be() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        set.begin(now).unwrap();
        set.fetched("a", None, now, 0.0);
        let mut at = now + 480 * SECOND;
        let mut changes = Vec::new();
        while at <= now + UPKEEP.max_stale {
            if set.begin(at).is_some() {
                changes.push(set.failed(at, 1.0));
            }
            assert!(set.is_known(), "{:?}", at - now);
            at += SECOND;
        }
        // Once a second at first, and once a minute at last.
        assert!((45..70).contains(&changes.len()), "{}", changes.len());
        assert_eq!(changes[0], Change::Failed);
        assert!(changes[1..].iter().all(|it| *it == Change::None));
        let generation = set.generation();
        set.begin(at);
        assert!(!set.is_known());
        assert_ne!(set.generation(), generation);
        assert_eq!(set.fetched("a", None, at, 0.0), Change::Replaced);
    }

    #[test]
    fn only_another_set_is_a_new_generation() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        set.fetched("a", None, now, 0.0);
        let generation = set.generation();
        set.failed(now, 0.0);
        assert_eq!(set.fetched("a", None, now, 0.0), Change::Recovered);
        assert_eq!(set.generation(), generation);
        assert_eq!(set.fetched("b", None, now, 0.0), Change::Replaced);
        assert_ne!(set.generation(), generation);
    }

    #[test]
    fn unknown_keys_have_it_fetched_twice_and_then_not_for_a_while() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        set.begin(now).unwrap();
        assert!(set.ask(now).is_some(), "it is on its way");
        set.fetched("a", None, now, 0.0);
        for _ in 0..2 {
            assert!(set.ask(now).is_some());
            // However many ask, it is one.
            assert!(set.begin(now).is_some());
            assert!((0..1000).all(|_| set.ask(now).is_some() && set.begin(now).is_none()));
            set.fetched("a", None, now, 0.0);
        }
        assert!(set.ask(now).is_none());
        assert!(set.ask(now + 29 * SECOND).is_none());
        assert!(set.begin(now + 29 * SECOND).is_none());
        assert!(set.ask(now + 30 * SECOND).is_some());
    }

    #[test]
    fn a_set_is_shared_and_outlives_who_asked_for_it_first() {
        let now = Instant::now();
        let (sets, first) = set(now);
        first.fetched("a", None, now, 0.0);
        let again = sets.of(source("https://id.example.com"), UPKEEP, now);
        let other = sets.of(source("https://id.example.org"), UPKEEP, now);
        assert!(Arc::ptr_eq(&first, &again) && !other.is_known());
        drop(first);
        assert!(
            sets.of(source("https://id.example.com"), UPKEEP, now)
                .is_known()
        );
        drop(again);
        assert_eq!(sets.all().len(), 1);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_it_has_ended_however_it_ended() {
        let now = Instant::now();
        let (_sets, set) = set(now);
        for end in ["fetched", "failed"] {
            set.begin(now + 1000 * SECOND).unwrap();
            let awaited = set.ask(now).unwrap();
            match end {
                "fetched" => set.fetched("a", None, now, 0.0),
                _ => set.failed(now, 0.0),
            };
            tokio::time::timeout(PATIENCE / 2, awaited.come())
                .await
                .unwrap();
        }
    }
}
