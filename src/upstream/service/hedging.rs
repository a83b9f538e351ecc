//! Second attempts that begin while the first goes on.

use std::time::{Duration, Instant};

use super::Service;
use crate::upstream::breaker::{Admission, CircuitState, Permit};
use crate::upstream::hedge::Hedge;
use crate::upstream::retry::Retry;
use crate::upstream::window::Kind;

impl Service {
    /// After which time a request to this service gets a second attempt. `None` if it gets none: while
    /// the circuit is not closed, and while too few answers are known.
    pub fn hedge_delay(&self, hedge: &Hedge, now: Instant) -> Option<Duration> {
        if self.circuit(now) != CircuitState::Closed {
            return None;
        }
        let now = self.record.at(now);
        hedge.delay(|percent| self.record.latencies.percentile(percent, now))
    }

    /// Lets a second attempt pass, which counts as a request under way and as a repetition. `None` if
    /// the service bears none, or the share of them is spent.
    pub fn admit_hedge(&self, retry: &Retry, now: Instant) -> Option<Permit> {
        let hedge = retry.hedge.as_ref()?;
        let at = self.record.at(now);
        let (_, hedged) = self.record.hedges.counts(at);
        if !hedge.is_left(hedged, self.record.budget.requests(at)) {
            return None;
        }
        let admission = self.record.circuit.admit(self.rules.breaker.as_ref(), at);
        let Admission::Granted(permit) = admission else {
            return None;
        };
        if permit.is_probe() || !self.take_retry(retry.budget, now) {
            return None;
        }
        self.record.hedges.add(Kind::Marked, at);
        Some(permit)
    }
}
