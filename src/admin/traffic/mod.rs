//! What the requests of the last hour were like: counts are read once a second, beside the requests, and kept in
//! memory of bounded size. `GET /traffic` shows them, and `GET /events` what comes new.

mod events;
mod failures;
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
use failures::Failures;
use past::Past;
pub(super) use query::Question;
pub use report::{Figures, Live, Refused, RouteTraffic, Sample, ServiceTraffic, TrafficReport};

use crate::snapshot::Snapshot;
use crate::telemetry::{RecentKind, RecentRequests};

/// Who may follow the events at a time.
const MOST_FOLLOWERS: usize = 32;
/// Events that wait for a slow follower; of what is older it is told no more.
const MOST_WAITING: usize = 64;

/// The traffic so far, and those who follow it.
#[derive(Debug)]
pub struct Traffic {
    past: Mutex<Past>,
    failures: Mutex<Failures>,
    events: broadcast::Sender<Bytes>,
    places: Arc<Semaphore>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            past: Mutex::default(),
            failures: Mutex::default(),
            events: broadcast::Sender::new(MOST_WAITING),
            places: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        }
    }
}

impl Traffic {
    /// Reads what is counted, once a second, and tells those who follow.
    pub fn tick(&self, snapshot: &Arc<Snapshot>, recent: &RecentRequests, now: SystemTime) {
        let live = self.past().tick(snapshot, now);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if self.events.receiver_count() == 0 {
            failures.forget();
            return;
        }
        self.tell(events::event("traffic", &live));
        for failure in failures.next(recent.last(RecentKind::Failure, failures::MOST)) {
            self.tell(events::event("failure", &failure));
        }
    }

    fn tell(&self, event: Option<Bytes>) {
        if let Some(event) = event {
            // It can't be sent when nobody follows any more.
            let _ = self.events.send(event);
        }
    }

    /// What there is to tell.
    pub(super) fn report(&self, question: &Question) -> TrafficReport {
        self.past().report(question)
    }

    /// A place among those who follow; `None` if there is none left.
    pub(super) fn follow(&self) -> Option<Subscription> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Subscription::new(self.events.subscribe(), place))
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
