//! The endpoints of a service at one time, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Law;
use super::order::smooth_order;
use super::ring::Ring;
use super::tried::{Choice, Rank, Tried};
use crate::upstream::endpoint::Endpoint;

/// Draws after which the next one that is right will do.
const DRAWS: usize = 4;

/// The endpoints of a service, and how they share its requests.
#[derive(Debug)]
pub(in crate::upstream) struct Pool {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Those that are not chosen, whatever becomes of the others.
    drained: Box<[Arc<Endpoint>]>,
    weights: Box<[u32]>,
    /// Their indexes, each as often as its weight says.
    order: Box<[u16]>,
    ring: Option<Ring>,
}

/// What a choice depends on beside the pool.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Seen<'s> {
    pub(in crate::upstream) law: &'s Law,
    /// Whose turn it is.
    pub(in crate::upstream) turn: &'s AtomicUsize,
    /// What always leads to the same endpoint; `None` if the request has none.
    pub(in crate::upstream) key: Option<&'s [u8]>,
    pub(in crate::upstream) tried: Tried,
    pub(in crate::upstream) now: Duration,
}

impl Pool {
    pub(in crate::upstream) fn new(members: Vec<(Arc<Endpoint>, u32)>, law: &Law) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let members = || std::iter::zip(&endpoints, &weights).map(|(it, weight)| (&**it, *weight));
        Self {
            ring: matches!(law, Law::Hash(_)).then(|| Ring::new(members())),
            order: smooth_order(&weights),
            endpoints: endpoints.into(),
            drained: Box::default(),
            weights: weights.into(),
        }
    }

    /// The same, beside endpoints that get no requests.
    pub(in crate::upstream) fn beside(self, drained: Vec<Arc<Endpoint>>) -> Self {
        Self {
            drained: drained.into(),
            ..self
        }
    }

    pub(in crate::upstream) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Those that get no requests.
    pub(in crate::upstream) fn drained(&self) -> &[Arc<Endpoint>] {
        &self.drained
    }

    /// Whether there are only such.
    pub(in crate::upstream) fn is_drained(&self) -> bool {
        self.endpoints.is_empty() && !self.drained.is_empty()
    }

    /// All of them.
    pub(in crate::upstream) fn with_drained(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().chain(&self.drained)
    }

    /// Whether the endpoints are the same ones with the same weights.
    pub(in crate::upstream) fn is_same_as(&self, other: &Self) -> bool {
        self.weights == other.weights
            && self.endpoints.len() == other.endpoints.len()
            && self.drained.len() == other.drained.len()
            && std::iter::zip(self.with_drained(), other.with_drained())
                .all(|(this, that)| Arc::ptr_eq(this, that))
    }

    /// Where an endpoint stands in it.
    pub(in crate::upstream) fn choice(&self, index: usize) -> Choice {
        Choice::new(self.endpoints[index].clone(), index)
    }

    /// The endpoint for an attempt; `None` if there is none with an address. `rank` says how good a
    /// choice an endpoint is; it may be asked several times.
    pub(in crate::upstream) fn choose(
        &self,
        seen: Seen<'_>,
        rank: impl Fn(usize, &Endpoint) -> Rank,
    ) -> Option<Choice> {
        let is_fresh = |index: &usize| rank(*index, &self.endpoints[*index]) == Rank::Fresh;
        let chosen = match seen.law {
            Law::RoundRobin => None,
            Law::LeastRequests => {
                let (place, first) = self.next(seen, &rank)?;
                // On a tie it goes in turn, so whoever has nothing to do needs no rival.
                let rival = match self.endpoints[first].load.in_flight() {
                    0 => None,
                    _ => self.other(place, first, is_fresh),
                };
                Some(match rival {
                    Some(rival) if self.has_less_to_do(rival, first) => rival,
                    _ => first,
                })
            }
            Law::PeakEwma => self.draw(is_fresh).map(|first| {
                let other = self.draw(|index| *index != first && is_fresh(index));
                other
                    .filter(|other| self.cost(*other, seen.now) < self.cost(first, seen.now))
                    .unwrap_or(first)
            }),
            Law::Random => self.draw(is_fresh),
            Law::Hash(_) => match (&self.ring, seen.key) {
                (Some(ring), Some(key)) => ring.find(key).find(is_fresh),
                _ => None,
            },
        };
        let index = match chosen {
            Some(index) => index,
            None => self.next(seen, &rank)?.1,
        };
        Some(self.choice(index))
    }

    /// Whose turn it is among the best: the place in the order, and the endpoint.
    fn next(
        &self,
        seen: Seen<'_>,
        rank: &impl Fn(usize, &Endpoint) -> Rank,
    ) -> Option<(usize, usize)> {
        // Repetitions take no turn, or one bad endpoint would have every first attempt.
        let turn = match seen.tried.is_empty() {
            true => seen.turn.fetch_add(1, Ordering::Relaxed),
            false => seen.turn.load(Ordering::Relaxed),
        };
        let mut best = None;
        for step in 0..self.order.len() {
            let place = turn.wrapping_add(step) % self.order.len();
            let index = usize::from(self.order[place]);
            let endpoint = &self.endpoints[index];
            if !endpoint.is_resolved() {
                continue;
            }
            let rank = rank(index, endpoint);
            if rank == Rank::Fresh {
                return Some((place, index));
            }
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, (place, index)));
            }
        }
        best.map(|(_, found)| found)
    }

    /// Another one than the one at `place`, drawn at random.
    fn other(&self, place: usize, one: usize, is_right: impl Fn(&usize) -> bool) -> Option<usize> {
        let others = self
            .order
            .len()
            .checked_sub(1)
            .filter(|others| *others > 0)?;
        let from = place + 1 + fastrand::usize(..others);
        let at = |place: usize| usize::from(self.order[place % self.order.len()]);
        (from..from + self.order.len())
            .map(at)
            .find(|index| *index != one && self.endpoints[*index].is_resolved() && is_right(index))
    }

    /// One at random, each as often as its weight says, that is as it should be.
    fn draw(&self, is_right: impl Fn(&usize) -> bool) -> Option<usize> {
        if self.endpoints.len() < 2 {
            return None;
        }
        let is_right = |index: &usize| self.endpoints[*index].is_resolved() && is_right(index);
        let random = || fastrand::usize(..self.order.len());
        let at = |place: usize| usize::from(self.order[place % self.order.len()]);
        let drawn = (0..DRAWS).map(|_| at(random())).find(is_right);
        drawn.or_else(|| {
            let from = random();
            (from..from + self.order.len()).map(at).find(is_right)
        })
    }

    fn has_less_to_do(&self, this: usize, than: usize) -> bool {
        let load = |index: usize| u64::from(self.endpoints[index].load.in_flight());
        let weight = |index: usize| u64::from(self.weights[index]);
        load(this) * weight(than) < load(than) * weight(this)
    }

    fn cost(&self, index: usize, now: Duration) -> f32 {
        self.endpoints[index].load.expected(now) / self.weights[index] as f32
    }
}
