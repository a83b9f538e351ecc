//! A key set that is fetched (RFC 7517) and kept: how old it is, and when it is fetched again.
//!
//! Nothing here speaks to anybody. Who does asks [`KeySet::begin`] what is due and says how it went;
//! requests never wait for that but for a moment, when a token names a key that nobody knows yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use super::key_source::{Source, Upkeep};

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

/// A key set and what is known of it.
#[derive(Debug)]
pub struct KeySet {
    source: Source,
    upkeep: Upkeep,
    wanted: Arc<Notify>,
    current: ArcSwapOption<Fetched>,
    /// Counts the changes of `current`.
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
    next: Instant,
    /// Somebody has asked for it since it was begun last.
    is_wanted: bool,
    is_under_way: bool,
    /// When the last attempt began.
    begun: Option<Instant>,
    /// When the last attempt ended.
    ended: Option<Instant>,
    failures: u32,
    asked: u32,
    asked_since: Option<Instant>,
}

/// An attempt to fetch a set, which is under way until it is said how it went. One that is dropped has
/// failed, so that no set waits for ever for what will never end.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    set: Arc<KeySet>,
    has_ended: bool,
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
pub struct Awaited {
    ended: watch::Receiver<u64>,
    was_under_way: bool,
}

/// What has become of keys that were awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// They have come, or could not be had.
    Over,
    /// The same, but they were on their way before they were asked for, and may be older.
    Older,
    /// They are still on their way.
    Late,
}

impl KeySet {
    pub(super) fn new(source: Source, upkeep: Upkeep, wanted: Arc<Notify>, now: Instant) -> Self {
        Self {
            source,
            upkeep,
            wanted,
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            schedule: Mutex::new(Schedule {
                next: now,
                is_wanted: false,
                is_under_way: false,
                begun: None,
                ended: None,
                failures: 0,
                asked: 0,
                asked_since: None,
            }),
            ended: watch::Sender::new(0),
        }
    }

    /// Begins with the keys of another set from the same source.
    pub(super) fn take_over(&self, other: &Self) {
        let Some(known) = other.current.load_full() else {
            return;
        };
        let next = other.lock().next;
        self.lock().next = next.min(known.at + self.upkeep.refresh.mul_f64(EARLIEST));
        self.current.store(Some(known));
    }

    /// Whom it is fetched from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How it is kept.
    pub fn upkeep(&self) -> &Upkeep {
        &self.upkeep
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

    /// Whether it is to be fetched now. A set that has become too old is given up.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Option<Attempt> {
        let mut schedule = self.lock();
        if self.age(now).is_some_and(|age| age > self.upkeep.max_stale) {
            self.replace(None);
        }
        let is_due = schedule.is_wanted || now >= schedule.next;
        if schedule.is_under_way || !is_due {
            return None;
        }
        schedule.is_wanted = false;
        schedule.is_under_way = true;
        schedule.begun = Some(now);
        Some(Attempt {
            set: self.clone(),
            has_ended: false,
        })
    }

    /// Somebody needs a key that was not in the set at `now`. What there may be to wait for: that it is
    /// fetched, which may be over already.
    pub fn ask(&self, now: Instant) -> Option<Awaited> {
        let mut schedule = self.lock();
        // From before the attempt ends.
        let mut awaited = Awaited {
            ended: self.ended.subscribe(),
            was_under_way: schedule.is_under_way,
        };
        if schedule.is_under_way || schedule.is_wanted {
            return Some(awaited);
        }
        if schedule.ended.is_some_and(|ended| ended >= now) {
            // What began before the look may be older than the key.
            awaited.was_under_way = schedule.begun.is_some_and(|begun| begun < now);
            awaited.ended.mark_changed();
            return Some(awaited);
        }
        let is_anew = schedule
            .asked_since
            .is_none_or(|since| now.saturating_duration_since(since) >= ASKED_WITHIN);
        if is_anew {
            schedule.asked_since = Some(now);
            schedule.asked = 0;
        }
        if schedule.asked >= ASKED_AT_MOST {
            return None;
        }
        schedule.asked += 1;
        schedule.is_wanted = true;
        self.wanted.notify_one();
        Some(awaited)
    }

    /// Waits until no attempt is under way.
    pub async fn rest(&self) {
        let mut ended = self.ended.subscribe();
        while self.lock().is_under_way && ended.changed().await.is_ok() {}
    }

    fn fetched(
        &self,
        text: &str,
        fresh_for: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Change {
        let mut schedule = self.lock();
        let had_failed = std::mem::take(&mut schedule.failures) > 0;
        let refresh = self.upkeep.refresh;
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
        self.end(schedule, now);
        match (is_same, had_failed) {
            (false, _) => Change::Replaced,
            (true, true) => Change::Recovered,
            (true, false) => Change::None,
        }
    }

    fn failed(&self, now: Instant, random: f64) -> Change {
        let mut schedule = self.lock();
        let pause = FIRST_RETRY * (1 << schedule.failures.min(6));
        schedule.next = now + pause.min(LAST_RETRY).mul_f64(0.5 + 0.5 * random);
        schedule.failures = schedule.failures.saturating_add(1);
        let is_first = schedule.failures == 1;
        self.end(schedule, now);
        match is_first {
            true => Change::Failed,
            false => Change::None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, fetched: Option<Arc<Fetched>>) {
        self.current.store(fetched);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self, mut schedule: MutexGuard<'_, Schedule>, now: Instant) {
        schedule.is_under_way = false;
        schedule.ended = Some(now);
        drop(schedule);
        self.ended.send_modify(|count| *count += 1);
    }
}

impl Attempt {
    /// What is to be fetched.
    pub fn set(&self) -> &Arc<KeySet> {
        &self.set
    }

    /// It was fetched, and is fresh for so long if its provider said so. `random` is in 0..1.
    pub fn fetched(
        mut self,
        text: &str,
        fresh_for: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Change {
        self.has_ended = true;
        self.set.fetched(text, fresh_for, now, random)
    }

    /// It could not be fetched, or was no set. What is known stays. `random` is in 0..1.
    pub fn failed(mut self, now: Instant, random: f64) -> Change {
        self.has_ended = true;
        self.set.failed(now, random)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.set.failed(Instant::now(), 1.0);
        }
    }
}

impl Awaited {
    /// Waits until they have come, or have not, but only for a moment.
    pub async fn come(mut self) -> Arrival {
        // Whoever fetches them is never gone; if so, there is nothing to wait for.
        match tokio::time::timeout(PATIENCE, self.ended.changed()).await {
            Err(_) => Arrival::Late,
            Ok(_) if self.was_under_way => Arrival::Older,
            Ok(_) => Arrival::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_source::Place;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UPKEEP: Upkeep = Upkeep {
        refresh: Duration::from_secs(600),
        max_stale: Duration::from_secs(3600),
        timeout: Duration::from_secs(5),
    };

    fn set(now: Instant) -> Arc<KeySet> {
        let source = Source {
            place: Place::Issuer("https://id.example.com".to_owned()),
            authorities: None,
        };
        Arc::new(KeySet::new(source, UPKEEP, Arc::default(), now))
    }

    #[test]
    fn it_is_fetched_at_once_and_again_before_its_time() {
        let now = Instant::now();
        let set = set(now);
        let attempt = set.begin(now).unwrap();
        assert!(set.begin(now).is_none(), "it is under way");
        assert_eq!(attempt.fetched("a", None, now, 0.0), Change::Replaced);
        assert!(set.begin(now + 479 * SECOND).is_none());
        let attempt = set.begin(now + 480 * SECOND).unwrap();
        let now = now + 480 * SECOND;
        assert_eq!(attempt.fetched("a", None, now, 1.0), Change::None);
        assert!(set.begin(now + 539 * SECOND).is_none());
        assert!(set.begin(now + 541 * SECOND).is_some());
    }

    #[test]
    fn its_provider_may_want_it_fetched_more_often_but_not_all_the_time() {
        let now = Instant::now();
        for (fresh_for, next) in [(100, 80), (0, 24), (100_000, 480)] {
            let set = set(now);
            let attempt = set.begin(now).unwrap();
            attempt.fetched("a", Some(fresh_for * SECOND), now, 0.0);
            assert!(
                set.begin(now + (next - 1) * SECOND).is_none(),
                "{fresh_for}"
            );
            assert!(set.begin(now + next * SECOND).is_some(), "{fresh_for}");
        }
    }

    #[test]
    fn the_last_good_one_is_kept_for_as_long_as_it_may_be() {
        let now = Instant::now();
        let set = set(now);
        set.begin(now).unwrap().fetched("a", None, now, 0.0);
        let mut at = now + 480 * SECOND;
        let mut changes = Vec::new();
        while at <= now + UPKEEP.max_stale {
            changes.extend(set.begin(at).map(|attempt| attempt.failed(at, 1.0)));
            assert!(set.is_known(), "{:?}", at - now);
            at += SECOND;
        }
        // Once a second at first, and once a minute at last.
        assert!((45..70).contains(&changes.len()), "{}", changes.len());
        assert_eq!(changes[0], Change::Failed);
        assert!(changes[1..].iter().all(|it| *it == Change::None));
        let generation = set.generation();
        let attempt = set.begin(at + 60 * SECOND).unwrap();
        assert!(!set.is_known());
        assert_ne!(set.generation(), generation);
        assert_eq!(attempt.fetched("a", None, at, 0.0), Change::Replaced);
    }

    #[test]
    fn only_another_set_is_a_new_generation() {
        let now = Instant::now();
        let set = set(now);
        let begin = |hours: u32| set.begin(now + 3600 * hours * SECOND / 2).unwrap();
        begin(0).fetched("a", None, now, 0.0);
        let generation = set.generation();
        begin(1).failed(now, 0.0);
        let again = begin(1).fetched("a", None, now, 0.0);
        assert_eq!(again, Change::Recovered);
        assert_eq!(set.generation(), generation);
        let other = begin(1).fetched("b", None, now, 0.0);
        assert_eq!(other, Change::Replaced);
        assert_ne!(set.generation(), generation);
    }

    #[test]
    fn unknown_keys_have_it_fetched_twice_and_then_not_for_a_while() {
        let now = Instant::now();
        let set = set(now);
        let attempt = set.begin(now).unwrap();
        assert!(set.ask(now).is_some(), "it is on its way");
        attempt.fetched("a", None, now, 0.0);
        for (second, end) in [(1, "fetched"), (2, "failed")] {
            let now = now + second * SECOND;
            // However many ask, it is one.
            assert!((0..1000).all(|_| set.ask(now).is_some()));
            let attempt = set.begin(now).unwrap();
            assert!((0..1000).all(|_| set.ask(now).is_some() && set.begin(now).is_none()));
            match end {
                "fetched" => attempt.fetched("a", None, now, 0.0),
                _ => attempt.failed(now, 1.0),
            };
        }
        assert!(set.ask(now + 3 * SECOND).is_none());
        set.begin(now + 3 * SECOND)
            .unwrap()
            .fetched("a", None, now, 0.0);
        assert!(set.ask(now + 30 * SECOND).is_none());
        assert!(set.begin(now + 30 * SECOND).is_none());
        assert!(set.ask(now + 31 * SECOND).is_some());
        assert!(set.begin(now + 31 * SECOND).is_some());
    }

    #[tokio::test]
    async fn what_began_before_the_look_and_ended_after_it_may_be_older_than_the_key() {
        let now = Instant::now();
        let set = set(now);
        let attempt = set.begin(now).unwrap();
        attempt.fetched("a", None, now + 2 * SECOND, 0.0);
        let awaited = set.ask(now + SECOND).unwrap();
        let arrival = tokio::time::timeout(PATIENCE / 2, awaited.come()).await;
        assert_eq!(arrival, Ok(Arrival::Older));
        // Whoever has looked again since has it fetched.
        assert!(set.ask(now + 3 * SECOND).is_some());
        assert!(set.begin(now + 3 * SECOND).is_some());
    }

    #[tokio::test]
    async fn who_looked_before_it_was_fetched_looks_again_and_has_it_not_fetched() {
        let now = Instant::now();
        let set = set(now);
        let attempt = set.begin(now).unwrap();
        attempt.fetched("a", None, now + SECOND, 0.0);
        let awaited = set.ask(now).unwrap();
        assert!(set.begin(now + SECOND).is_none());
        let arrival = tokio::time::timeout(PATIENCE / 2, awaited.come()).await;
        assert_eq!(arrival, Ok(Arrival::Over));
        assert!(set.ask(now + 2 * SECOND).is_some());
        assert!(set.begin(now + 2 * SECOND).is_some());
    }

    #[test]
    fn an_attempt_that_is_never_ended_has_failed() {
        let now = Instant::now();
        let set = set(now);
        let panicking = set.begin(now).unwrap();
        let panicked = std::thread::spawn(move || {
            let _attempt = panicking;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        let attempt = set.begin(Instant::now() + 2 * SECOND).unwrap();
        assert_eq!(attempt.fetched("a", None, now, 0.0), Change::Replaced);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_it_has_ended_however_it_ended() {
        let now = Instant::now();
        let set = set(now);
        for end in ["fetched", "failed", "dropped"] {
            let attempt = set.begin(Instant::now() + 1000 * SECOND).unwrap();
            let awaited = set.ask(Instant::now()).unwrap();
            let mut at_rest = std::pin::pin!(set.rest());
            let is_under_way = futures_util::poll!(&mut at_rest).is_pending();
            assert!(is_under_way, "{end}");
            match end {
                "fetched" => drop(attempt.fetched("a", None, now, 0.0)),
                "failed" => drop(attempt.failed(now, 0.0)),
                _ => drop(attempt),
            }
            tokio::time::timeout(PATIENCE / 2, async {
                assert_eq!(awaited.come().await, Arrival::Older);
                at_rest.await;
            })
            .await
            .unwrap();
        }
    }
}
