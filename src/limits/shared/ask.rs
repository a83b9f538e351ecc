//! What the store is asked, and what it answers.

use super::super::algorithm::Rule;

/// A key of one limit, the same on all gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct SharedKey {
    /// The limit.
    pub(super) limit: u64,
    /// What it counts apart. Limits that count by the same have the same, so that a cluster keeps them in
    /// one place and decides them at once.
    pub(super) key: u128,
}

impl SharedKey {
    /// What stands in the braces of its name, and decides where a cluster keeps it.
    pub(super) fn tag(&self) -> String {
        format!("{:032x}", self.key)
    }
}

/// Tokens to be taken of one key of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) key: SharedKey,
    pub(super) rule: Rule,
    /// Spent already; counted even above the limit.
    pub(super) owed: u64,
    /// Returned unspent, if the store's clock is not yet at `before`.
    pub(super) back: u64,
    /// Microseconds.
    pub(super) before: u64,
    pub(super) need: Need,
    /// Those who wait need so many.
    pub(super) urgent: u64,
    /// More are of no use.
    pub(super) want: u64,
    /// The part of what is left that may be taken beyond what is urgent: one in so many.
    pub(super) share: u64,
}

/// How many tokens are of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// No fewer than these; zero: there must be some, but none are taken.
    Tokens(u64),
    /// None: something is only counted.
    Nothing,
}

/// The store's answer about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// Tokens taken.
    pub(super) taken: u64,
    /// What is left; never below zero, however much was owed.
    pub(super) left: u64,
    /// Microseconds until more is left.
    pub(super) reset: u64,
    /// Microseconds until the need would be met; zero if it was.
    pub(super) wait: u64,
    /// When what was taken can no longer be given back, on the store's clock.
    pub(super) ends: u64,
}

impl Ask {
    /// Takes exactly this, or nothing.
    pub(super) fn exactly(key: SharedKey, rule: Rule, cost: u64) -> Self {
        Self {
            need: Need::Tokens(cost),
            urgent: cost,
            want: cost,
            ..Self::counting(key, rule, 0)
        }
    }

    /// Counts what is spent already.
    pub(super) fn counting(key: SharedKey, rule: Rule, owed: u64) -> Self {
        Self {
            key,
            rule,
            owed,
            back: 0,
            before: 0,
            need: Need::Nothing,
            urgent: 0,
            want: 0,
            share: 1,
        }
    }
}
