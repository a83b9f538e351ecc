//! Whether the store can be asked: a circuit breaker for each of its servers, whose probe is the gateway's
//! own greeting, so that no request ever waits to find out.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::nodes::{MOST_NODES, Node};

/// Failures in a row after which a server is taken for gone.
const MOST_FAILURES: u8 = 3;
/// All servers, as a set.
pub(super) const ALL: u64 = u64::MAX;

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// It has not answered yet, and nobody knows whether it will.
    Starting,
    /// It answers.
    Up,
    /// Some servers of a cluster do not.
    Partial,
    /// It does not.
    Down,
}

/// The breakers.
#[derive(Debug)]
pub(super) struct Health {
    is_cluster: bool,
    /// The servers that are not asked, as a set.
    silent: AtomicU64,
    /// Failures in a row, of each server.
    failures: [AtomicU8; MOST_NODES],
    has_answered: AtomicBool,
    /// Gateways that share the store, this one among them.
    gateways: AtomicU32,
    pub(super) tallies: Tallies,
}

/// What has been asked so far.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Questions.
    pub asked: AtomicU64,
    /// Those that were not answered in time, or with an error.
    pub failed: AtomicU64,
    /// Decisions on requests that were made without the store.
    pub alone: AtomicU64,
}

impl Health {
    pub(super) fn new(is_cluster: bool) -> Self {
        Self {
            is_cluster,
            silent: AtomicU64::new(0),
            failures: [const { AtomicU8::new(0) }; MOST_NODES],
            has_answered: AtomicBool::new(false),
            gateways: AtomicU32::new(1),
            tallies: Tallies::default(),
        }
    }

    pub(super) fn state(&self) -> StoreState {
        match self.silent() {
            0 if self.has_answered.load(Ordering::Relaxed) => StoreState::Up,
            0 => StoreState::Starting,
            ALL => StoreState::Down,
            _ => StoreState::Partial,
        }
    }

    /// Whether there is nobody to ask.
    pub(super) fn is_down(&self) -> bool {
        self.silent() == ALL
    }

    /// Whether the server that keeps something is not to be asked.
    pub(super) fn is_silent(&self, node: impl FnOnce() -> Node) -> bool {
        match self.silent() {
            0 => false,
            ALL => true,
            silent => silent & node().bit() != 0,
        }
    }

    /// The servers that are not to be asked, as a set.
    pub(super) fn silent(&self) -> u64 {
        self.silent.load(Ordering::Relaxed)
    }

    /// A server has answered a question.
    pub(super) fn answered(&self, node: Node) {
        let failures = &self.failures[node.index()];
        // Read first, since all threads do this all the time.
        if failures.load(Ordering::Relaxed) > 0 {
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// A server has not answered a question, and never will if it is lost. Whether it is not to be asked
    /// any more from now on.
    pub(super) fn failed(&self, node: Node, is_lost: bool) -> bool {
        let before = self.failures[node.index()].fetch_add(1, Ordering::Relaxed);
        let is_too_much = is_lost || before >= MOST_FAILURES - 1;
        let set = self.set_of(node);
        is_too_much && self.silent.fetch_or(set, Ordering::Relaxed) & set == 0
    }

    /// Only these servers are not to be asked.
    pub(super) fn set_silent(&self, silent: u64) {
        for failures in &self.failures {
            failures.store(0, Ordering::Relaxed);
        }
        self.has_answered.store(true, Ordering::Relaxed);
        self.silent.store(silent, Ordering::Release);
    }

    /// A server may be asked again, if it was not.
    pub(super) fn recovered(&self, node: Node) {
        self.silent.fetch_and(!self.set_of(node), Ordering::AcqRel);
    }

    /// There are no servers but these.
    pub(super) fn retain(&self, nodes: u64) {
        self.silent.fetch_and(nodes, Ordering::AcqRel);
    }

    /// There is nobody to ask.
    pub(super) fn give_up(&self) {
        self.silent.store(ALL, Ordering::Release);
    }

    /// A server as a set, or all of them, where one is all there is.
    fn set_of(&self, node: Node) -> u64 {
        match self.is_cluster {
            true => node.bit(),
            false => ALL,
        }
    }

    /// How many gateways share the store.
    pub(super) fn gateways(&self) -> u64 {
        u64::from(self.gateways.load(Ordering::Relaxed).max(1))
    }

    pub(super) fn set_gateways(&self, count: u32) {
        self.gateways.store(count.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two servers of a cluster, and the health of all of them when it has been connected to.
    fn cluster() -> ([Node; 2], Health) {
        let health = Health::new(true);
        assert_eq!(health.state(), StoreState::Starting);
        health.set_silent(0);
        assert_eq!(health.state(), StoreState::Up);
        ([Node::numbered(0), Node::numbered(5)], health)
    }

    #[test]
    fn three_failures_in_a_row_are_too_many_and_others_are_not() {
        let ([node, _], health) = cluster();
        for _ in 0..5 {
            assert!(!health.failed(node, false));
            assert!(!health.failed(node, false));
            health.answered(node);
        }
        assert!(!health.failed(node, false));
        assert!(!health.failed(node, false));
        assert!(!health.is_silent(|| node));
        assert!(health.failed(node, false));
        assert!(health.is_silent(|| node));
        // That it is silent is news once.
        (0..600).for_each(|_| assert!(!health.failed(node, false)));
        assert!(health.is_silent(|| node));
    }

    #[test]
    fn a_lost_connection_is_enough() {
        let ([node, _], health) = cluster();
        assert!(health.failed(node, true));
        assert!(health.is_silent(|| node));
    }

    #[test]
    fn servers_fail_and_recover_apart() {
        let ([one, other], health) = cluster();
        assert!(health.failed(one, true));
        assert_eq!(health.state(), StoreState::Partial);
        assert!(!health.is_silent(|| other) && !health.is_down());
        assert!(health.failed(other, true));
        health.recovered(one);
        assert!(!health.is_silent(|| one) && health.is_silent(|| other));
        health.give_up();
        assert_eq!(health.state(), StoreState::Down);
        assert!(health.is_silent(|| one) && health.is_down());
        health.set_silent(other.bit());
        assert_eq!(health.state(), StoreState::Partial);
        health.retain(one.bit());
        assert_eq!(health.state(), StoreState::Up);
    }

    #[test]
    fn one_server_is_all_there_is() {
        let health = Health::new(false);
        let node = Node::numbered(0);
        assert!(health.failed(node, true));
        assert_eq!(health.state(), StoreState::Down);
        health.recovered(node);
        assert_eq!(health.state(), StoreState::Starting);
        health.set_silent(0);
        assert_eq!(health.state(), StoreState::Up);
    }
}
