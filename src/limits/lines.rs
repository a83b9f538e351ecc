//! Who waits for a limit: a line for each key, first come, first served.
//!
//! Only the first of a line looks whether it may go; when it leaves, the next one is told. A place is left
//! when it is dropped, so a request that ends leaves nothing behind.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::forecast::Forecast;
use super::key::KeyHash;

/// Locks, so that requests of different keys seldom meet at one.
const SHARDS: usize = 16;

/// All lines of a limit.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: AtomicUsize,
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    /// Requests in these lines: where none waits, nobody locks.
    waiting: AtomicUsize,
    lines: Mutex<HashMap<KeyHash, Line, ahash::RandomState>>,
}

#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Waiter>,
    /// The number of the next place.
    next: u64,
    /// For the last one in the line. Not known when somebody gave up before it.
    last: Option<Forecast>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    /// Tells it that it is the first now.
    turn: Option<oneshot::Sender<()>>,
}

/// A place in a line.
#[derive(Debug)]
pub(super) struct Place {
    lines: Arc<Lines>,
    key: KeyHash,
    number: u64,
    /// When it is expected to be admitted.
    pub(super) expected: Forecast,
    turn: Option<oneshot::Receiver<()>>,
    is_served: bool,
}

impl Lines {
    /// Whether others wait for this key.
    pub(super) fn has_line(&self, key: KeyHash) -> bool {
        let shard = self.shard(key);
        shard.waiting.load(Ordering::Acquire) > 0 && shard.lock().contains_key(&key)
    }

    /// A place at the end of the line of a key, if that is expected to be served until `latest` and no
    /// more than `most` wait then. The forecast is made of how many are ahead and of the last one's.
    ///
    /// # Errors
    /// When it would be served.
    pub(super) fn join(
        self: &Arc<Self>,
        key: KeyHash,
        (most, latest): (usize, u64),
        forecast: impl FnOnce(usize, Option<Forecast>) -> Forecast,
    ) -> Result<Place, Forecast> {
        let shard = self.shard(key);
        let mut lines = shard.lock();
        let line = lines.get(&key);
        let ahead = line.map_or(0, |line| line.places.len());
        let expected = forecast(ahead, line.and_then(|line| line.last));
        if expected.at > latest || !self.has_room(most) {
            return Err(expected);
        }
        shard.waiting.fetch_add(1, Ordering::Release);
        let line = lines.entry(key).or_default();
        let number = line.next;
        let (sender, receiver) = match ahead {
            0 => (None, None),
            _ => {
                let (sender, receiver) = oneshot::channel();
                (Some(sender), Some(receiver))
            }
        };
        line.next += 1;
        line.last = Some(expected);
        line.places.push_back(Waiter {
            number,
            turn: sender,
        });
        Ok(Place {
            lines: self.clone(),
            key,
            number,
            expected,
            turn: receiver,
            is_served: false,
        })
    }

    /// Counts one more, unless there are `most`.
    fn has_room(&self, most: usize) -> bool {
        let more = |waiting| (waiting < most).then_some(waiting + 1);
        let (write, read) = (Ordering::Relaxed, Ordering::Relaxed);
        self.waiting.fetch_update(write, read, more).is_ok()
    }

    fn shard(&self, key: KeyHash) -> &Shard {
        &self.shards[key.place as usize % SHARDS]
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, HashMap<KeyHash, Line, ahash::RandomState>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits to be the first of the line.
    pub(super) async fn turn(&mut self) {
        if let Some(turn) = &mut self.turn {
            // The one before tells, or is gone with all of its line.
            let _ = turn.await;
            self.turn = None;
        }
    }

    /// Leaves the line because the request was admitted, as the others behind it expected.
    pub(super) fn served(mut self) {
        self.is_served = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shard = self.lines.shard(self.key);
        let mut lines = shard.lock();
        if let Some(line) = lines.get_mut(&self.key) {
            line.leave(self.number, self.is_served);
            if line.places.is_empty() {
                lines.remove(&self.key);
            }
        }
        shard.waiting.fetch_sub(1, Ordering::Release);
        self.lines.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    fn leave(&mut self, number: u64, is_served: bool) {
        let found = self.places.binary_search_by_key(&number, |it| it.number);
        let Ok(index) = found else { return };
        self.places.remove(index);
        if !is_served {
            self.last = None;
        }
        let next = self.places.front_mut().filter(|_| index == 0);
        if let Some(turn) = next.and_then(|next| next.turn.take()) {
            // One that gives up in this moment tells the one behind it in turn.
            let _ = turn.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::super::algorithm::{Algorithm, Rule};
    use super::*;

    const RULE: Rule = Rule {
        algorithm: Algorithm::TokenBucket,
        limit: 10,
        window: 1_000_000,
        burst: 1,
    };

    fn key(number: u64) -> KeyHash {
        KeyHash {
            place: number,
            fingerprint: number,
        }
    }

    fn join(lines: &Arc<Lines>, key: KeyHash, most: usize) -> Option<Place> {
        let forecast = |ahead, _| Forecast::new(&RULE, None, 1, ahead, 0);
        lines.join(key, (most, u64::MAX), forecast).ok()
    }

    fn is_first(place: &mut Place) -> bool {
        let turn = std::pin::pin!(place.turn());
        let mut context = Context::from_waker(Waker::noop());
        turn.poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn who_came_first_is_first_whoever_leaves() {
        let lines = Arc::new(Lines::default());
        let (mine, other) = (key(1), key(2));
        assert!(!lines.has_line(mine));
        let mut places: Vec<Place> = (0..5).map(|_| join(&lines, mine, 9).unwrap()).collect();
        assert!(lines.has_line(mine) && !lines.has_line(other));
        let mut apart = join(&lines, other, 9).unwrap();
        assert!(is_first(&mut apart));
        assert!(is_first(&mut places[0]));
        // In the middle, from the front, and the one that has just been told.
        places.remove(2);
        assert!(!is_first(&mut places[1]));
        places.remove(0).served();
        assert!(!is_first(&mut places[1]));
        places.remove(0);
        assert!(is_first(&mut places[0]));
        assert!(!is_first(&mut places[1]));
        drop((places, apart));
        assert!(!lines.has_line(mine) && !lines.has_line(other));
        assert_eq!(lines.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_wait_than_may_whatever_they_wait_for() {
        let lines = Arc::new(Lines::default());
        let first = join(&lines, key(1), 2).unwrap();
        let _second = join(&lines, key(2), 2).unwrap();
        assert!(join(&lines, key(3), 2).is_none());
        drop(first);
        assert!(join(&lines, key(3), 2).is_some());
    }

    #[test]
    fn who_would_be_served_too_late_does_not_wait() {
        let lines = Arc::new(Lines::default());
        let interval = RULE.window / RULE.limit;
        let join = || {
            lines.join(key(1), (9, 2 * interval), |ahead, _| {
                Forecast::new(&RULE, None, 1, ahead, 0)
            })
        };
        let _places = (join().unwrap(), join().unwrap());
        assert_eq!(join().unwrap_err().at, 3 * interval);
    }

    #[test]
    fn the_forecast_of_the_last_is_known_until_somebody_gives_up() {
        let lines = Arc::new(Lines::default());
        let known = |lines: &Arc<Lines>| {
            let mut is_known = None;
            let _ = lines.join(key(1), (9, 0), |ahead, last| {
                is_known = Some((ahead, last.is_some()));
                Forecast::new(&RULE, None, 1, ahead, 0)
            });
            is_known.unwrap()
        };
        let mine = key(1);
        let mut places: Vec<Place> = (0..4).map(|_| join(&lines, mine, 9).unwrap()).collect();
        assert_eq!(known(&lines), (4, true));
        places.remove(0).served();
        assert_eq!(known(&lines), (3, true));
        places.remove(1);
        assert_eq!(known(&lines), (2, false));
    }
}
