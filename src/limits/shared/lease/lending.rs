//! What leases need to know of a limit.

use super::super::super::algorithm::{Algorithm, Rule};

/// A lease lives for a twentieth of the window, so that two of them after each other are a tenth: what the
/// store counted then is spent at most so much later.
const LIVES_IN_WINDOW: u64 = 20;
/// But no longer than a second.
const LONGEST_LIFE: u64 = 1_000_000;
/// One part in so many of a limit may be spent on credit by all gateways together.
const CREDIT_OF_LIMIT: u64 = 100;
/// The most that one gateway may spend of a key on credit.
const MOST_CREDIT: u64 = 1000;
/// In windows longer than ten minutes a key's first request on a gateway waits for the store instead, and
/// a key is forgotten so long after it was last heard of: a quota of a month must not fill the table for a
/// month.
const LONGEST_MEMORY: u64 = 600_000_000;

/// What is particular to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Lending {
    /// Microseconds of the window.
    pub(in super::super) window: u64,
    /// Tokens that a key is worth to a gateway before the store has said anything, and that it may keep
    /// though nobody spends them.
    pub(in super::super) credit: u64,
    /// Whether tokens are as good as new to the end of the window, and of no use then.
    pub(in super::super) is_for_window: bool,
}

impl Lending {
    /// Of a limit that so many gateways share.
    pub(in super::super) fn new(rule: &Rule, gateways: u64) -> Self {
        let credit = rule.limit.min(rule.most()) / (CREDIT_OF_LIMIT * gateways);
        Self {
            window: rule.window,
            credit: credit.clamp(1, MOST_CREDIT),
            is_for_window: matches!(
                rule.algorithm,
                Algorithm::FixedWindow | Algorithm::Calendar(_)
            ),
        }
    }

    /// How long tokens may be spent, in microseconds.
    pub(in super::super) fn life(&self) -> u64 {
        (self.window / LIVES_IN_WINDOW).min(LONGEST_LIFE)
    }

    /// Whether anything may be spent before the store has been asked.
    pub(super) fn has_credit(&self) -> bool {
        self.window <= LONGEST_MEMORY
    }

    /// How long after credit was drawn there is no more of it.
    pub(super) fn pause(&self) -> u64 {
        self.window + self.life()
    }

    /// How long a key is to be remembered that something is known of for so long.
    pub(super) fn memory(&self, known: u64) -> u64 {
        match self.has_credit() {
            true => known,
            false => LONGEST_MEMORY,
        }
    }
}
