//! Waiting for a limit instead of being refused by it.
//!
//! A request waits in one line at a time, and what other limits gave is given back meanwhile. When it is the
//! first, all limits decide anew; if another one blocks it then, it leaves its place and waits there, or is
//! refused. No lock is held while anybody waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::algorithm::Refused;
use super::forecast::Forecast;
use super::key::{KeyHash, KeySource};
use super::limit::Limit;
use super::limiter::{Phase, RateLimits};
use super::lines::{Lines, Place};
use super::shared::Candidate;
use super::verdict::{Blocked, Denial, LimitNumber, Passed, Verdict};
use crate::config;
use crate::telemetry::Decision;

/// How often it is looked whether the client of a request that waits is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where the requests of a limit wait.
#[derive(Debug)]
pub(super) struct Queue {
    max_wait: Duration,
    max_waiting: usize,
    lines: Arc<Lines>,
}

/// What became of a request that was to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Whether it is admitted at last; `None` if its client is gone.
    pub admitted: Option<Result<Passed, Denial>>,
    /// How long it waited; `None` if it was decided at once that it would be in vain.
    pub time: Option<Duration>,
}

/// The client of a request that waits is gone.
struct Gone;

/// A request that waits.
struct Waiting<'w, S, G> {
    limits: &'w RateLimits,
    range: Range<usize>,
    source: &'w S,
    /// The longest that it may wait, whatever a limit says.
    longest: Duration,
    is_gone: G,
    began: Instant,
    has_place: bool,
}

impl Queue {
    pub(super) fn new(section: &config::LimitQueue, lines: Arc<Lines>) -> Self {
        Self {
            max_wait: section.max_wait.0,
            max_waiting: section.max_waiting.value.try_into().unwrap_or(usize::MAX),
            lines,
        }
    }

    /// Whether others wait for this key.
    pub(super) fn has_line(&self, key: KeyHash) -> bool {
        self.lines.has_line(key)
    }
}

impl RateLimits {
    /// Lets a request wait for the limit `at`, one of a phase or of all, but no longer than `longest` and
    /// only until its client `is_gone`.
    pub async fn wait<S: KeySource + Sync>(
        &self,
        phase: Option<Phase>,
        at: LimitNumber,
        source: &S,
        longest: Duration,
        is_gone: impl Fn() -> bool,
    ) -> Waited {
        let mut waiting = Waiting {
            limits: self,
            range: self.of_phase(phase),
            source,
            longest,
            is_gone,
            began: Instant::now(),
            has_place: false,
        };
        let mut number = at;
        let admitted = loop {
            match waiting.wait(number).await {
                Ok(Verdict::Admit(passed)) => break Some(Ok(passed)),
                Ok(Verdict::Refuse(refusal)) => break Some(Err(Denial::Refused(refusal))),
                Ok(Verdict::Unavailable(limit)) => break Some(Err(Denial::Unavailable(limit))),
                Ok(Verdict::Wait(next)) => number = next,
                Err(Gone) => break None,
            }
        };
        Waited {
            admitted,
            time: waiting.has_place.then(|| waiting.began.elapsed()),
        }
    }
}

impl<S: KeySource + Sync, G: Fn() -> bool> Waiting<'_, S, G> {
    /// Waits for one limit: until all admit it, or it is refused, or has to wait for another one.
    async fn wait(&mut self, number: LimitNumber) -> Result<Verdict, Gone> {
        let limit = self.limits.limit(number);
        let Some(queue) = &limit.queue else {
            // Nobody is sent here.
            return Ok(self.refuse(number, limit.rule.window));
        };
        let until = self.began + queue.max_wait.min(self.longest);
        let mut place = match self.join(limit, queue, until) {
            Ok(place) => place,
            Err(expected) => return Ok(self.refuse(number, self.time_to(expected))),
        };
        limit.count(Decision::Queued);
        self.has_place = true;
        if !self.happens_by(until, place.turn()).await? {
            return Ok(self.refuse(number, self.time_to(place.expected)));
        }
        loop {
            let now = Instant::now();
            let time = self.time(now);
            let (range, turn) = (self.range.clone(), Some(number));
            let admitted = match self.limits.is_shared() {
                false => self.limits.admit(range, time, self.source, turn),
                true => {
                    self.limits
                        .admit_shared(range, time, self.source, turn)
                        .await
                }
            };
            match admitted {
                Ok(passed) => {
                    place.served();
                    return Ok(Verdict::Admit(passed));
                }
                Err(Blocked::Spent(spent, refused)) if spent == number => {
                    let due = refused
                        .retry
                        .map(|retry| now + Duration::from_micros(retry));
                    let Some(due) = due.filter(|due| *due <= until) else {
                        return Ok(Verdict::Refuse(self.limits.refuse(number, refused)));
                    };
                    self.happens_by(due, sleep_until(due)).await?;
                }
                Err(other) => return Ok(self.limits.verdict(other)),
            }
        }
    }

    /// A place in the line of its key, or when it would be served there.
    fn join(&self, limit: &Limit, queue: &Queue, until: Instant) -> Result<Place, Forecast> {
        let now = self.time(Instant::now());
        let Candidate { key, rule, cost } = limit.candidate(&self.limits.store, self.source, now);
        let forecast = |ahead, last: Option<Forecast>| match last {
            Some(last) => last.next(&rule, cost, now),
            None => Forecast::new(&rule, self.state(limit, key, now), cost, ahead, now),
        };
        let bounds = (queue.max_waiting, self.time(until));
        queue.lines.join(key, bounds, forecast)
    }

    /// Whether something happens before `until` is over. The client is looked for again and again, and at
    /// last when it has happened: nobody is served who is not there any more.
    async fn happens_by(
        &self,
        until: Instant,
        event: impl Future<Output = ()>,
    ) -> Result<bool, Gone> {
        let mut event = std::pin::pin!(event);
        loop {
            let look = (Instant::now() + LOOK_AGAIN).min(until);
            let has_happened = tokio::select! {
                biased;
                () = &mut event => true,
                () = sleep_until(look) => false,
            };
            if (self.is_gone)() {
                return Err(Gone);
            }
            if has_happened || look == until {
                return Ok(has_happened);
            }
        }
    }

    /// What the count of the key says, if it is this gateway's alone and exact.
    fn state(&self, limit: &Limit, key: KeyHash, now: u64) -> Option<u64> {
        match limit.shared {
            Some(_) => None,
            None => self.limits.store.state(key, &limit.rule, now),
        }
    }

    fn refuse(&self, number: LimitNumber, retry: u64) -> Verdict {
        let refused = Refused {
            remaining: 0,
            retry: Some(retry),
        };
        Verdict::Refuse(self.limits.refuse(number, refused))
    }

    /// On the clock of the counts.
    fn time(&self, instant: Instant) -> u64 {
        self.limits.store.clock(instant.into_std())
    }

    fn time_to(&self, expected: Forecast) -> u64 {
        let now = self.time(Instant::now());
        expected.at.saturating_sub(now).max(1)
    }
}

#[cfg(test)]
mod tests;
