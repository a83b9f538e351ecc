//! What a gateway may spend of a key before the store has said anything about it.
//!
//! All of it is owed at once, whether or not it is spent. A window of the store sees that of one time only:
//! - Until the store answers it is spent within a life, and there is no more for a window and a life.
//! - The answer takes what is left: it goes with the tokens of the window that it was counted in, and there
//!   is more when that window has ended for certain.
//! - If the store refuses, there is none while it does, nor for a window and a life after that: whoever has
//!   been refused asks.
//!
//! Where windows have no ends there is simply no more for a window and a life.

use std::sync::atomic::{AtomicU64, Ordering};

use super::lending::Lending;

const LEFT_BITS: u32 = 10;
const LEFT_MASK: u64 = (1 << LEFT_BITS) - 1;

/// When there is more, in microseconds, above the bits for what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Credit(u64);

impl Credit {
    pub(super) fn read(word: &AtomicU64) -> Self {
        Self(word.load(Ordering::Acquire))
    }

    fn of(more_at: u64, left: u64) -> Self {
        Self(more_at << LEFT_BITS | left)
    }

    fn more_at(self) -> u64 {
        self.0 >> LEFT_BITS
    }

    /// What may still be spent of what is owed already.
    pub(super) fn left(self, lending: &Lending, now: u64) -> u64 {
        match now + lending.window < self.more_at() {
            true => self.0 & LEFT_MASK,
            false => 0,
        }
    }

    /// Whether there is more.
    pub(super) fn is_due(self, lending: &Lending, now: u64) -> bool {
        lending.has_credit() && now >= self.more_at()
    }

    /// This after `cost` more of what is left.
    pub(super) fn less(self, cost: u64) -> Self {
        Self(self.0 - cost)
    }

    /// All of it after `cost`.
    pub(super) fn drawn(lending: &Lending, cost: u64, now: u64) -> Self {
        Self::of(now + lending.pause(), lending.credit - cost)
    }

    /// Puts another in its place, unless others were quicker.
    pub(super) fn replace(self, word: &AtomicU64, by: Self) -> bool {
        word.compare_exchange(self.0, by.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes what is left when the store has given tokens, the window of which ends at `ends` or up to
    /// `late` later.
    pub(super) fn settle(
        word: &AtomicU64,
        lending: &Lending,
        (ends, late): (u64, u64),
        now: u64,
    ) -> u64 {
        take(word, lending, now, |it| {
            // If it may be over by now, what is left may have been spent in the next one.
            match lending.is_for_window && now < ends {
                true => ends + late,
                false => it.more_at(),
            }
        })
    }

    /// Takes what is left when the store refuses until then.
    pub(super) fn refuse(word: &AtomicU64, lending: &Lending, until: u64, now: u64) -> u64 {
        take(word, lending, now, |it| {
            it.more_at().max(until + lending.pause())
        })
    }
}

fn take(word: &AtomicU64, lending: &Lending, now: u64, more_at: impl Fn(Credit) -> u64) -> u64 {
    loop {
        let credit = Credit::read(word);
        if credit.replace(word, Credit::of(more_at(credit), 0)) {
            return credit.left(lending, now);
        }
    }
}
