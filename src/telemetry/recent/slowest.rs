//! The slowest requests of the last minutes that one thread has seen: so many of each minute, so that what was slow
//! an hour ago makes room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::kept::{Kept, Moment};
use super::unused;

/// For how long they are kept.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Minutes that the window may touch.
const MINUTES: usize = 6;
/// Requests that are kept of each.
pub(super) const SLOTS: usize = 32;

/// The slowest requests.
#[derive(Debug)]
pub(super) struct Slowest {
    /// The minute that is under way. It and the next are all that most requests look at.
    minute: AtomicU64,
    /// Microseconds that a request has to take to be among the slowest of this minute.
    floor: AtomicU64,
    minutes: Mutex<Vec<Minute>>,
}

/// The slowest of one minute.
#[derive(Debug)]
struct Minute {
    number: u64,
    requests: Vec<Kept>,
}

impl Default for Slowest {
    fn default() -> Self {
        Self {
            minute: AtomicU64::new(u64::MAX),
            floor: AtomicU64::new(0),
            minutes: Mutex::default(),
        }
    }
}

impl Slowest {
    /// Whether a request is among the slowest of its minute, as far as that has come.
    pub(super) fn has_room(&self, moment: Moment) -> bool {
        micros(moment.took) > self.floor.load(Ordering::Relaxed)
            || minute_of(moment.ended) != self.minute.load(Ordering::Relaxed)
    }

    /// Keeps a request, unless they are in use.
    pub(super) fn keep(&self, moment: Moment, write: impl FnOnce(&mut Kept)) -> bool {
        let Some(mut minutes) = unused(&self.minutes) else {
            return false;
        };
        let number = minute_of(moment.ended);
        if minutes.last().is_none_or(|last| last.number < number) {
            let requests = match minutes.len() {
                MINUTES => minutes.remove(0).requests,
                _ => Vec::new(),
            };
            let mut minute = Minute { number, requests };
            minute.requests.clear();
            minutes.push(minute);
        }
        if let Some(minute) = minutes.last_mut() {
            let floor = minute.keep(moment.took, write);
            self.floor.store(micros(floor), Ordering::Relaxed);
            self.minute.store(minute.number, Ordering::Relaxed);
        }
        true
    }

    #[cfg(test)]
    pub(super) fn being_read(&self) -> impl Sized {
        self.minutes.lock()
    }

    /// Those that ended within the window before `now`.
    pub(super) fn since(&self, now: Duration) -> Vec<Kept> {
        let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = minutes.iter().flat_map(|minute| &minute.requests);
        let is_recent = |kept: &&Kept| kept.moment.ended + WINDOW >= now;
        requests.filter(is_recent).cloned().collect()
    }
}

impl Minute {
    /// Keeps a request, in the place of the fastest if there is no other; how long the next one has to take.
    fn keep(&mut self, took: Duration, write: impl FnOnce(&mut Kept)) -> Duration {
        let fastest = |requests: &[Kept]| {
            let all = requests.iter().map(|kept| kept.moment.took).enumerate();
            all.min_by_key(|(_, took)| *took)
        };
        if self.requests.len() < SLOTS {
            self.requests.push(Kept::default());
            if let Some(last) = self.requests.last_mut() {
                write(last);
            }
        } else if let Some((place, least)) = fastest(&self.requests)
            && took > least
        {
            write(&mut self.requests[place]);
        }
        match fastest(&self.requests) {
            Some((_, least)) if self.requests.len() == SLOTS => least,
            _ => Duration::ZERO,
        }
    }
}

fn minute_of(ended: Duration) -> u64 {
    ended.as_secs() / 60
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
