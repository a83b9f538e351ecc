//! Gateways and a store with time between them, moved on by whoever brings requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::super::algorithm::{Algorithm, Rule};
use super::super::ask::{Ask, Grant};
use super::super::desk::Question;
use super::super::lease::Lending;
use super::super::model::Model;
use super::gateway::{Gateway, Limit, Request, Word, shared};
use super::ledger::Ledger;
use crate::config::LimitMode;

/// As often as gateways look for what goes back, in microseconds.
const TICK: u64 = 20_000;
/// As often as the store drops what has expired.
const SWEEP: u64 = 1_000_000;
/// When a gateway gives up on an answer.
const PATIENCE: u64 = 50_000;
/// No two clocks agree: a gateway's is that far ahead of the one before it, and the store's of the first.
const AHEAD: u64 = 7_654_321;

/// One way from a gateway to the store, or back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) micros: u64,
    pub(super) is_lost: bool,
}

/// Something under way.
enum Trip {
    There(usize, Question),
    Back(usize, Question, Grant),
    Lost(usize, Question),
    /// A request that the store itself decides.
    Exact(Request),
    /// One that another limit refuses, and when it was admitted.
    Undone(Request, u64),
}

/// The fleet. All keys are of one limit.
pub(super) struct Fleet {
    limit: Limit,
    /// Those that have ended are none.
    gateways: Vec<Option<Gateway>>,
    store: Model,
    ways: Box<dyn FnMut() -> Way>,
    trips: Vec<Option<Trip>>,
    free: Vec<usize>,
    /// By when they come, in the order in which they went.
    arrivals: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sent: u64,
    next_tick: u64,
    next_sweep: u64,
    most_stored: usize,
    most_pending: usize,
    pub(super) ledger: Ledger,
}

impl Fleet {
    /// At that time, each gateway with room for leases of so many keys.
    pub(super) fn new(
        rule: Rule,
        (gateways, leases): (usize, usize),
        ways: Box<dyn FnMut() -> Way>,
        ledger: Ledger,
        now: u64,
    ) -> Self {
        let lending = Lending::new(&rule, gateways as u64);
        let limit = Limit { rule, lending };
        let aheads = (0..gateways as u64).map(|number| number * AHEAD);
        let gateways = aheads.map(|ahead| Some(Gateway::new(limit, leases, ahead)));
        Self {
            limit,
            gateways: gateways.collect(),
            store: Model::default(),
            ways,
            trips: Vec::new(),
            free: Vec::new(),
            arrivals: BinaryHeap::new(),
            sent: 0,
            next_tick: now + TICK,
            next_sweep: now + SWEEP,
            most_stored: 0,
            most_pending: 0,
            ledger,
        }
    }

    /// Lets everything happen until then.
    pub(super) fn pass(&mut self, until: u64) {
        loop {
            let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
            match arrival {
                Some(at) if at <= until && at < self.next_tick => self.arrive(at),
                _ if self.next_tick <= until => self.tick(),
                _ => return,
            }
        }
    }

    /// The time of the store, whose windows may begin at times of its own.
    pub(super) fn store_time(now: u64) -> u64 {
        now + AHEAD
    }

    /// A request comes to a gateway, which decides it as far as it can.
    pub(super) fn request(&mut self, request: Request, now: u64) {
        let Some(gateway) = &mut self.gateways[request.gateway] else {
            return;
        };
        let word = gateway.decide(&request, now);
        self.follow(word, request, now);
        self.ask(request.gateway, now);
    }

    /// A request comes to a gateway, which asks the store.
    pub(super) fn request_strictly(&mut self, request: Request, now: u64) {
        self.send(Trip::Exact(request), now);
    }

    /// A gateway ends, with all that it has.
    #[cfg(test)]
    pub(super) fn kill(&mut self, gateway: usize) {
        self.gateways[gateway] = None;
    }

    /// Requests that have not been decided.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.gateways.iter().flatten().map(Gateway::waiting).sum()
    }

    /// Bytes of a gateway's table of leases, and the most keys that one has there.
    pub(super) fn leases(&self, now: u64) -> (usize, usize) {
        let gateways = self.gateways.iter().flatten();
        gateways.map(|it| it.leases(now)).max().unwrap_or_default()
    }

    /// The most keys that the store had.
    pub(super) fn most_stored(&self) -> usize {
        self.most_stored.max(self.store.keys())
    }

    /// The most that the desk of one gateway had to remember.
    pub(super) fn most_pending(&self) -> usize {
        self.most_pending
    }

    /// The most that is promised of a key: in a window of the store's if those are fixed, or else in any time
    /// as long.
    pub(super) fn promised(&self, mode: LimitMode) -> u64 {
        let Limit { rule, lending } = self.limit;
        // A tenth longer than the window, or less: two lives of a lease.
        let (credit, late) = match mode {
            LimitMode::Strict => (0, 0),
            LimitMode::Fast => (
                lending.credit * self.gateways.len() as u64,
                2 * lending.life(),
            ),
        };
        match rule.algorithm {
            Algorithm::FixedWindow => rule.limit + credit,
            _ => {
                let comes_back = (rule.limit * (rule.window + late)).div_ceil(rule.window);
                rule.most() + comes_back + 2 * credit
            }
        }
    }

    fn send(&mut self, trip: Trip, now: u64) {
        let way = (self.ways)();
        match (way.is_lost, trip) {
            (true, Trip::There(gateway, question) | Trip::Back(gateway, question, _)) => {
                self.expect(Trip::Lost(gateway, question), now + PATIENCE);
            }
            (_, trip) => self.expect(trip, now + way.micros),
        }
    }

    fn expect(&mut self, trip: Trip, at: u64) {
        let place = self.free.pop().unwrap_or(self.trips.len());
        match self.trips.get_mut(place) {
            Some(free) => *free = Some(trip),
            None => self.trips.push(Some(trip)),
        }
        self.sent += 1;
        self.arrivals.push(Reverse((at, self.sent, place)));
    }

    fn arrive(&mut self, now: u64) {
        let Some(Reverse((_, _, place))) = self.arrivals.pop() else {
            return;
        };
        self.free.push(place);
        match self.trips[place].take() {
            Some(Trip::There(number, question)) => {
                let grant = self.take(&question.ask, now);
                self.send(Trip::Back(number, question, grant), now);
            }
            Some(Trip::Back(number, question, grant)) => {
                if let Some(gateway) = &mut self.gateways[number] {
                    let told = gateway.answered(question, &grant, now);
                    self.wake(told, now);
                    self.ask(number, now);
                }
            }
            Some(Trip::Lost(number, question)) => {
                if let Some(gateway) = &mut self.gateways[number] {
                    for (request, _) in gateway.failed(question) {
                        self.ledger.refuse(request.key);
                    }
                    self.ask(number, now);
                }
            }
            Some(Trip::Exact(request)) => {
                let ask = Ask::exactly(shared(request.key), self.limit.rule, request.cost);
                match self.take(&ask, now).wait {
                    0 => self.ledger.admit(request.key, request.cost, now),
                    _ => self.ledger.refuse(request.key),
                }
            }
            Some(Trip::Undone(request, spent_at)) => {
                if let Some(gateway) = &self.gateways[request.gateway] {
                    gateway.put_back(&request, spent_at);
                    self.ledger.undo(request.key, request.cost, spent_at);
                }
            }
            None => {}
        }
    }

    fn take(&mut self, ask: &Ask, now: u64) -> Grant {
        let key = ask.key.key as u32;
        self.ledger.ask(key);
        let grant = self.store.take(&[*ask], Self::store_time(now))[0];
        let is_window = self.limit.rule.algorithm == Algorithm::FixedWindow;
        if is_window && ask.owed + grant.taken > 0 {
            let start = grant.ends - AHEAD - self.limit.rule.window;
            self.ledger.begin(key, start);
        }
        grant
    }

    /// Those who waited decide again.
    fn wake(&mut self, told: Vec<(Request, u64)>, now: u64) {
        for (request, wait) in told {
            let Some(gateway) = &mut self.gateways[request.gateway] else {
                return;
            };
            match gateway.decide(&request, now) {
                // What is left here is not enough, and no more comes.
                Word::Dry if wait > 0 => self.ledger.refuse(request.key),
                // What came has been spent by others, or was too long on its way.
                Word::Dry => self.send(Trip::Exact(request), now),
                word => self.follow(word, request, now),
            }
        }
    }

    fn follow(&mut self, word: Word, request: Request, now: u64) {
        match word {
            Word::Admitted => {
                self.ledger.admit(request.key, request.cost, now);
                if let Some(later) = request.refused_after {
                    self.expect(Trip::Undone(request, now), now + later);
                }
            }
            Word::Refused => self.ledger.refuse(request.key),
            Word::Dry => {
                if let Some(gateway) = &mut self.gateways[request.gateway] {
                    gateway.wait(request, now);
                }
            }
            Word::Full => self.send(Trip::Exact(request), now),
        }
    }

    fn ask(&mut self, number: usize, now: u64) {
        let share = 2 * self.gateways.len() as u64;
        while let Some(gateway) = &mut self.gateways[number] {
            match gateway.question(share, now) {
                Some(question) => self.send(Trip::There(number, question), now),
                None => return,
            }
        }
    }

    fn tick(&mut self) {
        let now = self.next_tick;
        self.next_tick += TICK;
        for number in 0..self.gateways.len() {
            if let Some(gateway) = &mut self.gateways[number] {
                gateway.reclaim(now);
                self.most_pending = self.most_pending.max(gateway.pending());
                self.ask(number, now);
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.most_stored = self.most_stored();
            let store_time = Self::store_time(now);
            self.store.expire(&self.limit.rule, store_time);
        }
    }
}
