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
    /// Counts those that failed.
    failed: AtomicU64,
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
            failed: AtomicU64::new(0),
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

    /// How many attempts to fetch it have ended well, and how many not.
    pub(super) fn attempts(&self) -> (u64, u64) {
        let failed = self.failed.load(Ordering::Relaxed);
        (self.ended.borrow().saturating_sub(failed), failed)
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
        self.failed.fetch_add(1, Ordering::Relaxed);
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
mod tests;
