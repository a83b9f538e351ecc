//! The endpoint of an attempt, and those that a request has been tried at.

use std::sync::Arc;

use crate::upstream::endpoint::Endpoint;

/// The endpoint of one attempt. It counts as under way there until it is released or dropped.
#[derive(Debug)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    pub(in crate::upstream) index: usize,
    is_counted: bool,
}

/// Which endpoints a request has been tried at. Only the first 64 are remembered apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    all: u64,
    unreachable: u64,
}

/// How good a choice an endpoint is; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::upstream) enum Rank {
    Fresh,
    /// It has just come back, and has had its share already.
    Warming,
    /// It failed this request, and may do better now.
    Tried,
    /// It failed others, or its health check.
    Unwell,
    /// It could not even be connected to.
    Unreachable,
    /// It has as many connections as it bears.
    Full,
}

impl Choice {
    pub(in crate::upstream) fn new(endpoint: Arc<Endpoint>, index: usize) -> Self {
        endpoint.load.begin();
        Self {
            endpoint,
            index,
            is_counted: true,
        }
    }

    /// The endpoint is done with it.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.endpoint.load.end();
        }
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        self.release();
    }
}

impl Tried {
    /// Remembers a choice.
    pub fn insert(&mut self, choice: &Choice) {
        self.all |= 1 << (choice.index % 64);
    }

    /// Remembers that it could not be connected to.
    pub fn insert_unreachable(&mut self, choice: &Choice) {
        self.unreachable |= 1 << (choice.index % 64);
    }

    /// Whether this is the first attempt.
    pub(in crate::upstream) fn is_empty(self) -> bool {
        self.all == 0
    }

    pub(in crate::upstream) fn contains(self, index: usize) -> bool {
        self.all & (1 << (index % 64)) != 0
    }

    pub(in crate::upstream) fn is_unreachable(self, index: usize) -> bool {
        self.unreachable & (1 << (index % 64)) != 0
    }
}
