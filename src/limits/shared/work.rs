//! The work beside requests: leases are taken, debts are told, what nobody spends goes back.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::super::store::Store;
use super::Shared;
use super::desk::{Demand, Desk, Question};
use super::link::Link;

/// Questions on their way at a time; they share a connection.
const MOST_QUESTIONS: usize = 1024;
/// Demands taken at once.
const AT_ONCE: usize = 256;
/// How exactly leases are given back.
const TICK: Duration = Duration::from_millis(20);

impl Shared {
    /// What is to be done for this store beside requests, until nothing refers to it any more; `None` if
    /// somebody does it already. Times are those of `store`'s clock.
    pub fn work(&self, store: Arc<Store>) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let demands = work.take()?;
        let (link, leases) = (self.link.clone(), self.leases.clone());
        Some(async move {
            let desk = attend(demands, &link, &leases, &store);
            tokio::select! {
                () = link.keep() => {}
                () = desk => {}
            }
        })
    }
}

async fn attend(
    mut demands: mpsc::Receiver<Demand>,
    link: &Link,
    leases: &super::lease::Leases,
    store: &Store,
) {
    let mut desk = Desk::default();
    // What is owed to servers that do not answer.
    let mut shelved: Vec<Question> = Vec::new();
    let mut taken = Vec::with_capacity(AT_ONCE);
    let mut asking = FuturesUnordered::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            count = demands.recv_many(&mut taken, AT_ONCE) => {
                if count == 0 {
                    return;
                }
                let now = store.clock(Instant::now());
                for demand in taken.drain(..) {
                    desk.take(demand, now);
                }
            }
            Some((question, result)) = asking.next(), if !asking.is_empty() => {
                let now = store.clock(Instant::now());
                match result {
                    Ok(grant) => desk.answered(question, &grant, leases, now),
                    Err(()) => desk.failed(question, leases),
                }
            }
            _ = tick.tick() => {
                let now = store.clock(Instant::now());
                desk.reclaim(leases, now);
                for question in shelved.extract_if(.., |it| !link.skips(|| it.ask.key)) {
                    desk.failed(question, leases);
                }
            }
        }
        while asking.len() < MOST_QUESTIONS && !link.health.is_down() {
            // Half of a gateway's part of what is left, so that the last of it goes round.
            let share = 2 * link.health.gateways();
            let now = store.clock(Instant::now());
            let Some(mut question) = desk.question(leases, share, now) else {
                break;
            };
            if link.skips(|| question.ask.key) {
                question.waiters.clear();
                match question.ask.owed {
                    0 => desk.failed(question, leases),
                    _ => shelved.push(question),
                }
                continue;
            }
            asking.push(async move {
                let grants = link.take(&[question.ask]).await;
                let grant = grants.ok().and_then(|grants| grants.first().copied());
                (question, grant.ok_or(()))
            });
        }
    }
}
