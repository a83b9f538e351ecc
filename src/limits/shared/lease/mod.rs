//! What this gateway may spend of a shared count without asking: tokens taken ahead, by key.
//!
//! Pure bookkeeping with the time given. Who asks the store for more, and when, is not decided here; what
//! to ask for is. What gateways promise together stands on this:
//! - A token of a window with an end is spent in the window that it was counted in. Any other is spent at
//!   most two lives after the store was asked for it, but for as many as a key is worth, which it keeps.
//! - What is spent before the store is asked ([`credit`]) is so much once in any window.

mod credit;
mod lending;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;

use self::credit::Credit;
pub(super) use self::lending::Lending;
use self::standing::{Balance, LARGEST, Standing};
use super::super::key::KeyHash;
use super::super::slots::{Full, Slot, Slots, is_of, keep};

/// Words of an entry: the table's own two, then the five below.
const WORDS: usize = 7;
/// What is left, and how things stand: see [`Balance`].
const BALANCE: usize = 2;
/// Until when tokens may be spent, or nothing is given.
const UNTIL: usize = 3;
/// When the last tokens came.
const SINCE: usize = 4;
/// See [`Credit`].
const CREDIT: usize = 5;
/// Spent since the last tokens came; and what the store had left then.
const TALLY: usize = 6;

/// A lease is to last so long at the rate of the key: 200 ms.
const LASTING: u64 = 200_000;
/// But for as many tokens as a key keeps, which are to last for a tenth of the window.
const KEPT_IN_WINDOW: u64 = 10;
/// A lease is at most so many times as large as the one before.
const GROWTH: u64 = 4;

/// The leases of a gateway.
#[derive(Debug)]
pub(super) struct Leases(Slots<WORDS>);

/// What becomes of a request that wants to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spending {
    /// It may.
    Spent {
        /// What the store had left when it was last asked, and this gateway still has; `None` before the
        /// store has said anything.
        remaining: Option<u64>,
        /// Microseconds until there is more.
        reset: u64,
        /// More is to be asked for, and this told to be spent already.
        ask: Option<u64>,
    },
    /// It may not for so many microseconds.
    Denied {
        /// Microseconds.
        wait: u64,
    },
    /// Nobody can say without the store.
    Dry,
}

/// What the store gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    /// Tokens.
    pub(super) tokens: u64,
    /// What it has left.
    pub(super) remaining: u64,
    /// Microseconds until more is left.
    pub(super) reset: u64,
    /// Microseconds until what was needed can be had; 0 if it was given.
    pub(super) wait: u64,
    /// What was needed.
    pub(super) need: u64,
    /// When the store was asked.
    pub(super) asked_at: u64,
}

impl Leases {
    /// Leases of at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        Self(Slots::new(keys))
    }

    /// Whether a key has an entry, or could have one.
    pub(super) fn has_room(&self, key: KeyHash, now: u64) -> bool {
        self.0.find(key).is_some() || self.0.has_room(key, now)
    }

    /// Bytes of their table.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Keys that something is known of.
    pub(super) fn keys(&self, now: u64) -> usize {
        self.0.keys(now)
    }

    /// Spends `cost` tokens of a key, or none. A cost of zero asks whether there are any.
    pub(super) fn spend(
        &self,
        key: KeyHash,
        lending: &Lending,
        cost: u64,
        now: u64,
    ) -> Result<Spending, Full> {
        let least = cost.max(1);
        loop {
            let slot = self.0.find_or_insert(key, now)?;
            let standing = standing(slot);
            let balance = standing.balance;
            let tokens = standing.spendable(lending, now);
            if tokens < least {
                if let Some(spent) = spend_on_credit(slot, key, &standing, lending, cost, now) {
                    return Ok(spent);
                }
                return Ok(match standing.is_denied(now) && least >= balance.tokens() {
                    true => Spending::Denied {
                        wait: standing.until - now,
                    },
                    false => Spending::Dry,
                });
            }
            let left = tokens - cost;
            let is_low = 2 * left < balance.given();
            let asks = is_low && !balance.has(Balance::ASKED | Balance::LAST);
            let flags = balance.flags() | if asks { Balance::ASKED } else { 0 };
            if !replace(
                slot,
                key,
                balance,
                Balance::of(left, balance.given(), flags),
            ) {
                continue;
            }
            let tally = slot[TALLY].fetch_add(cost << 32, Ordering::AcqRel);
            return Ok(Spending::Spent {
                remaining: Some((tally & u64::from(u32::MAX)) + left),
                reset: standing.until.saturating_sub(now).clamp(1, lending.window),
                ask: asks.then_some(0),
            });
        }
    }

    /// Gives tokens back that a request has spent at `spent_at` but does not need. If others have come since
    /// then they are lost, lest they are spent as if they were as young as those.
    pub(super) fn put_back(&self, key: KeyHash, cost: u64, spent_at: u64) {
        let Some(slot) = self.0.find(key) else { return };
        let _ = slot[BALANCE].fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| {
            let balance = Balance(balance);
            let is_same = slot[SINCE].load(Ordering::Acquire) < spent_at;
            (is_same && !balance.has(Balance::DENIED))
                .then(|| balance.with(balance.tokens() + cost).0)
        });
    }

    /// How many tokens would last for a while at the rate of a key, but not many times more than it had.
    pub(super) fn wanted(&self, key: KeyHash, lending: &Lending, now: u64) -> u64 {
        let Some(slot) = self.0.find(key) else {
            return 1;
        };
        let since = slot[SINCE].load(Ordering::Acquire);
        if since == 0 {
            // One request, or a few at once, are no rate.
            return 1;
        }
        let spent = slot[TALLY].load(Ordering::Acquire) >> 32;
        let lasting = LASTING.min(lending.life());
        let given = standing(slot).balance.given();
        let most = (GROWTH * given.max(lending.credit)).min(LARGEST);
        let elapsed = now.saturating_sub(since).max(1);
        // Keys that come now and then would ask each time they come. What a key may keep lasts longer.
        let kept = (spent * (lending.window / KEPT_IN_WINDOW) / elapsed).min(lending.credit);
        (spent * lasting / elapsed).max(kept).clamp(1, most)
    }

    /// The store has answered. Returns how many tokens may go back to it if nobody spends them, as being
    /// counted where these were. To be called by one thread only.
    ///
    /// What is left of earlier tokens lives on with the new ones if it came with the last before them; if
    /// some of it is older, all ends as that would. So nothing but what a key keeps outlives two lives. To
    /// see that, take the oldest to be spent first: what came last was asked for less than a life ago.
    pub(super) fn receive(&self, key: KeyHash, lending: &Lending, given: &Given, now: u64) -> u64 {
        let is_refused = given.tokens == 0 && given.wait > 0;
        let known = match is_refused {
            true => given.wait + lending.pause(),
            false => given.reset.max(lending.window),
        };
        let slot = loop {
            // Without room for an entry nobody would spend the tokens: they are lost.
            let Ok(slot) = self.0.find_or_insert(key, now) else {
                return 0;
            };
            keep(slot, now + lending.memory(known));
            if is_of(slot, key) {
                break slot;
            }
        };
        if is_refused {
            refuse(slot, lending, given, now);
            return 0;
        }
        accept(slot, lending, given, now)
    }

    /// The store did not answer: it may be asked again.
    pub(super) fn forget_asking(&self, key: KeyHash) {
        if let Some(slot) = self.0.find(key) {
            slot[BALANCE].fetch_and(!Balance::ASKED, Ordering::AcqRel);
        }
    }

    /// Has nothing of a key, as if it had never been asked for.
    pub(super) fn forget(&self, key: KeyHash) {
        if let Some(slot) = self.0.find(key) {
            slot[BALANCE].store(0, Ordering::Release);
            for word in [UNTIL, SINCE, CREDIT, TALLY] {
                slot[word].store(0, Ordering::Release);
            }
        }
    }

    /// Takes back what is left since the last tokens came, at `since`, and is more than a key keeps. What is
    /// more than `most` is lost.
    pub(super) fn reclaim(&self, key: KeyHash, lending: &Lending, since: u64, most: u64) -> u64 {
        let Some(slot) = self.0.find(key) else {
            return 0;
        };
        if slot[SINCE].load(Ordering::Acquire) != since {
            return 0;
        }
        let mut taken = 0;
        update(slot, |balance| {
            let kept = match balance.has(Balance::DENIED) {
                true => balance.tokens(),
                false => balance.tokens().min(lending.credit),
            };
            taken = balance.tokens() - kept;
            balance.with(kept)
        });
        taken.min(most)
    }
}

/// The store has given tokens.
fn accept(slot: &Slot<WORDS>, lending: &Lending, given: &Given, now: u64) -> u64 {
    let before = standing(slot);
    let asked_at = given.asked_at;
    let ends = match lending.is_for_window {
        true => asked_at + given.reset,
        false => asked_at + lending.life(),
    };
    // First, so that nobody puts tokens back that may be older than these.
    slot[SINCE].store(now, Ordering::Release);
    let kept = drop_lapsed(slot, &before, lending, now);
    let on_credit = Credit::settle(&slot[CREDIT], lending, (ends, now - asked_at), now);
    let older = beside(&before, kept, on_credit, lending, now);
    let is_last = kept <= before.balance.given();
    if is_last || lending.is_for_window || !before.is_current(now) {
        slot[UNTIL].store(ends, Ordering::Release);
    }
    let remaining = given.remaining.min(u64::from(u32::MAX));
    slot[TALLY].store(remaining, Ordering::Release);
    let mut left = 0;
    update(slot, |balance| {
        left = balance.tokens() + older + given.tokens;
        Balance::of(left, given.tokens, 0)
    });
    match lending.is_for_window {
        true => left,
        false => given.tokens,
    }
}

/// The store has refused. What is left of earlier tokens is spent first.
fn refuse(slot: &Slot<WORDS>, lending: &Lending, given: &Given, now: u64) {
    let before = standing(slot);
    let ends = given.asked_at + given.wait;
    let kept = drop_lapsed(slot, &before, lending, now);
    let on_credit = Credit::refuse(&slot[CREDIT], lending, ends, now);
    let older = beside(&before, kept, on_credit, lending, now);
    if kept + older == 0 {
        slot[UNTIL].store(ends, Ordering::Release);
        update(slot, |_| Balance::of(given.need.max(1), 0, Balance::DENIED));
        return;
    }
    if kept == 0 || !before.is_current(now) {
        let until = match lending.is_for_window {
            true => ends,
            false => given.asked_at + lending.life(),
        };
        slot[UNTIL].store(until, Ordering::Release);
    }
    update(slot, |balance| {
        Balance::of(balance.tokens() + older, 0, Balance::LAST)
    });
}

/// Takes away what may not be spent any more, so that no new end revives it. Returns what is left.
fn drop_lapsed(slot: &Slot<WORDS>, before: &Standing, lending: &Lending, now: u64) -> u64 {
    let mut kept = 0;
    update(slot, |balance| {
        kept = Standing { balance, ..*before }.spendable(lending, now);
        let flags = balance.flags() & !Balance::DENIED;
        Balance::of(kept, balance.given(), flags)
    });
    kept
}

/// What is left on credit, if it does not make more than a key keeps of what has lapsed.
fn beside(before: &Standing, kept: u64, on_credit: u64, lending: &Lending, now: u64) -> u64 {
    match before.is_current(now) {
        true => on_credit,
        false => on_credit.min(lending.credit - kept),
    }
}

/// Spends what a key is worth before the store has said anything.
fn spend_on_credit(
    slot: &Slot<WORDS>,
    key: KeyHash,
    standing: &Standing,
    lending: &Lending,
    cost: u64,
    now: u64,
) -> Option<Spending> {
    let least = cost.max(1);
    let is_out = standing.spendable(lending, now) == 0 && !standing.is_denied(now);
    loop {
        let credit = Credit::read(&slot[CREDIT]);
        let (after, ask) = if credit.left(lending, now) >= least {
            (credit.less(cost), None)
        } else if is_out && least <= lending.credit && credit.is_due(lending, now) {
            let drawn = Credit::drawn(lending, cost, now);
            (drawn, Some(lending.credit))
        } else {
            return None;
        };
        // Before it is spent, so that nobody takes the entry for free in between.
        keep(slot, now + lending.pause());
        if !is_of(slot, key) {
            return None;
        }
        if credit.replace(&slot[CREDIT], after) {
            slot[TALLY].fetch_add(cost << 32, Ordering::AcqRel);
            return Some(Spending::Spent {
                remaining: None,
                reset: lending.window,
                ask,
            });
        }
    }
}

fn standing(slot: &Slot<WORDS>) -> Standing {
    Standing::read(&slot[UNTIL], &slot[BALANCE], &slot[SINCE])
}

/// Changes a balance, however often others change it in between.
fn update(slot: &Slot<WORDS>, mut change: impl FnMut(Balance) -> Balance) {
    let change = |balance| Some(change(Balance(balance)).0);
    let _ = slot[BALANCE].fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
}

fn replace(slot: &Slot<WORDS>, key: KeyHash, before: Balance, after: Balance) -> bool {
    slot[BALANCE]
        .compare_exchange(before.0, after.0, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
        && is_of(slot, key)
}
