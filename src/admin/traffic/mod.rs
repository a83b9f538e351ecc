//! What the requests of the last hour were like: counts are read once a second, beside the requests, and kept in
//! memory of bounded size. `GET /traffic` shows them, and `GET /events` what comes new.

mod events;
mod history;
mod past;
mod query;
mod refusals;
mod report;
mod track;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast};

pub(super) use events::Subscription;
use past::Past;
pub(super) use query::Question;
pub use report::{Live, Refused, RouteTraffic, Sample, ServiceTraffic, TrafficReport};

use crate::snapshot::Snapshot;

/// Who may follow the events at a time.
const MOST_FOLLOWERS: usize = 32;
/// Events that wait for a slow follower; of what is older it is told no more.
const MOST_WAITING: usize = 64;

/// The traffic so far, and those who follow it.
#[derive(Debug)]
pub struct Traffic {
    past: Mutex<Past>,
    events: broadcast::Sender<Bytes>,
    places: Arc<Semaphore>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            past: Mutex::default(),
            events: broadcast::Sender::new(MOST_WAITING),
            places: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        }
    }
}

impl Traffic {
    /// Reads what is counted, once a second.
    pub fn tick(&self, snapshot: &Arc<Snapshot>, now: SystemTime) {
        let live = self.lock().tick(snapshot, now);
        if self.events.receiver_count() > 0
            && let Some(event) = events::event("traffic", &live)
        {
            // Nobody follows any more if it can't be sent.
            let _ = self.events.send(event);
        }
    }

    /// What there is to tell.
    pub(super) fn report(&self, question: &Question) -> TrafficReport {
        self.lock().report(question)
    }

    /// A place among those who follow; `None` if there is none left.
    pub(super) fn follow(&self) -> Option<Subscription> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Subscription::new(self.events.subscribe(), place))
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
