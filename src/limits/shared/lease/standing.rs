//! How the lease of a key stands.

use std::sync::atomic::{AtomicU64, Ordering};

use super::lending::Lending;

/// The most tokens of a lease.
pub(super) const LARGEST: u64 = (1 << TOKEN_BITS) - 1;
const TOKEN_BITS: u32 = 28;

/// Tokens, how many of them came last, and flags, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Balance(pub(super) u64);

/// The words that say what may be spent, read one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Until then tokens may be spent, or nothing is given.
    pub(super) until: u64,
    pub(super) balance: Balance,
    /// When the last tokens came.
    pub(super) since: u64,
}

impl Balance {
    /// The store has been asked and has not answered yet.
    pub(super) const ASKED: u64 = 1 << 63;
    /// The store has none; the tokens are what was needed.
    pub(super) const DENIED: u64 = 1 << 62;
    /// The store has none, but these tokens are left.
    pub(super) const LAST: u64 = 1 << 61;
    const FLAGS: u64 = Self::ASKED | Self::DENIED | Self::LAST;

    pub(super) fn of(tokens: u64, given: u64, flags: u64) -> Self {
        Self(tokens.min(LARGEST) | given.min(LARGEST) << TOKEN_BITS | flags)
    }

    pub(super) fn tokens(self) -> u64 {
        self.0 & LARGEST
    }

    /// Tokens that came last. Older ones are spent first.
    pub(super) fn given(self) -> u64 {
        self.0 >> TOKEN_BITS & LARGEST
    }

    pub(super) fn has(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    pub(super) fn flags(self) -> u64 {
        self.0 & Self::FLAGS
    }

    /// This with other tokens.
    pub(super) fn with(self, tokens: u64) -> Self {
        Self::of(tokens, self.given(), self.flags())
    }
}

impl Standing {
    /// Reads the end first: tokens may be taken for older than they are, but never for younger, since
    /// whoever brings some takes away what has lapsed and writes the new end before.
    pub(super) fn read(until: &AtomicU64, balance: &AtomicU64, since: &AtomicU64) -> Self {
        let until = until.load(Ordering::Acquire);
        let balance = Balance(balance.load(Ordering::Acquire));
        Self {
            until,
            balance,
            since: since.load(Ordering::Acquire),
        }
    }

    /// Whether what is said of the key is in its time.
    pub(super) fn is_current(&self, now: u64) -> bool {
        now < self.until
    }

    pub(super) fn is_denied(&self, now: u64) -> bool {
        self.is_current(now) && self.balance.has(Balance::DENIED)
    }

    /// Tokens that may be spent now: all in their time, then as many as a key is worth.
    pub(super) fn spendable(&self, lending: &Lending, now: u64) -> u64 {
        if self.balance.has(Balance::DENIED) {
            return 0;
        }
        if self.is_current(now) {
            return self.balance.tokens();
        }
        let is_recent = now < self.since + lending.window;
        match is_recent && !lending.is_for_window {
            true => self.balance.tokens().min(lending.credit),
            false => 0,
        }
    }
}
