//! Work that is too costly for the threads that serve requests: signatures of public keys take as long
//! as a few requests, and hashes of passwords as long as thousands.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError};

use super::identity::Identity;
use super::refusal::Refusal;

/// How long a request waits for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests that wait for their turn at most: what more would wait for is not worth its memory.
const MOST_WAITING: usize = 1024;

type Task = Box<dyn FnOnce() -> Result<Arc<Identity>, Refusal> + Send>;

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labour {
    /// The signature of a public key: tens of microseconds.
    Signature,
    /// The hash of a password: hundreds of milliseconds.
    Password,
}

/// Where such work is done: only so much at once, so that a flood of it leaves room for everything else.
#[derive(Debug)]
pub(super) struct Workbench {
    labour: Labour,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Something to work out.
pub struct Work {
    bench: Arc<Workbench>,
    task: Task,
}

/// The workbenches, one for each kind of work, so that what is soon done need not wait for what is not.
#[derive(Debug, Clone)]
pub struct Workbenches {
    pub(super) signatures: Arc<Workbench>,
    pub(super) passwords: Arc<Workbench>,
}

impl Default for Workbenches {
    fn default() -> Self {
        Self {
            signatures: Arc::new(Workbench::new(Labour::Signature)),
            passwords: Arc::new(Workbench::new(Labour::Password)),
        }
    }
}

impl Workbench {
    /// A workbench for one kind of work: as much at once as there are processors, or half as much of what
    /// takes so long that whoever shares a processor with it feels that.
    fn new(labour: Labour) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let places = match labour {
            Labour::Signature => processors,
            Labour::Password => (processors / 2).max(1),
        };
        Self::with_places(labour, places)
    }

    fn with_places(labour: Labour, places: usize) -> Self {
        Self {
            labour,
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Work {
    pub(super) fn new(
        bench: &Arc<Workbench>,
        task: impl FnOnce() -> Result<Arc<Identity>, Refusal> + Send + 'static,
    ) -> Self {
        Self {
            bench: bench.clone(),
            task: Box::new(task),
        }
    }

    /// What kind of work it is.
    pub fn labour(&self) -> Labour {
        self.bench.labour
    }

    /// Waits for a place at the workbench and for the end of the work.
    ///
    /// # Errors
    /// What the work found, or [`Refusal::Busy`] if there was no place in time.
    pub async fn done(self) -> Result<Arc<Identity>, Refusal> {
        let Self { bench, task } = self;
        let place = match bench.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::Closed) => return Err(Refusal::Busy),
            Err(TryAcquireError::NoPermits) => {
                let Some(_waiting) = Waiting::begin(&bench.waiting) else {
                    return Err(Refusal::Busy);
                };
                let turn = bench.places.clone().acquire_owned();
                match tokio::time::timeout(PATIENCE, turn).await {
                    Ok(Ok(place)) => place,
                    Ok(Err(_)) | Err(_) => return Err(Refusal::Busy),
                }
            }
        };
        // The place is taken until the work ends, even if nobody waits for it any more.
        let work = tokio::task::spawn_blocking(move || {
            let found = task();
            drop(place);
            found
        });
        work.await.unwrap_or(Err(Refusal::Busy))
    }

    /// Works it out here and now.
    pub(super) fn settle(self) -> Result<Arc<Identity>, Refusal> {
        (self.task)()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

/// Counts one who waits, until it goes, however it goes.
struct Waiting<'c>(&'c AtomicUsize);

impl<'c> Waiting<'c> {
    fn begin(count: &'c AtomicUsize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(count);
        (before < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(places: usize) -> Arc<Workbench> {
        Arc::new(Workbench::with_places(Labour::Signature, places))
    }

    #[tokio::test]
    async fn work_is_done_elsewhere_and_one_by_one() {
        let bench = bench(1);
        let here = std::thread::current().id();
        let at_once = Arc::new(AtomicUsize::new(0));
        let works = (0..8).map(|_| {
            let at_once = at_once.clone();
            let work = Work::new(&bench, move || {
                assert_ne!(std::thread::current().id(), here);
                assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                std::thread::yield_now();
                at_once.fetch_sub(1, Ordering::SeqCst);
                Err(Refusal::BadSignature)
            });
            work.done()
        });
        for found in futures_util::future::join_all(works).await {
            assert_eq!(found.unwrap_err(), Refusal::BadSignature);
        }
        assert_eq!(bench.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_in_time_is_told_so() {
        let bench = bench(0);
        let work = Work::new(&bench, || unreachable!("there is no place"));
        assert_eq!(work.done().await.unwrap_err(), Refusal::Busy);
        assert_eq!(bench.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let bench = bench(0);
        bench.waiting.store(MOST_WAITING, Ordering::Relaxed);
        let work = Work::new(&bench, || unreachable!("there is no place"));
        let begun = tokio::time::Instant::now();
        assert_eq!(work.done().await.unwrap_err(), Refusal::Busy);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(bench.waiting.load(Ordering::Relaxed), MOST_WAITING);
    }
}
