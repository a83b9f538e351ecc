//! What this gateway may spend of a shared count without asking: tokens taken ahead, by key.
//!
//! Pure bookkeeping with the time given. Who asks the store for more, and when, is not decided here; what
//! to ask for is.

use std::sync::atomic::Ordering;

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
/// Before then no more is spent on credit.
const CREDIT: usize = 5;
/// Spent since the last tokens came; and what the store had left then.
const TALLY: usize = 6;

/// The most tokens of a lease.
const LARGEST: u64 = (1 << 28) - 1;
/// A lease is to last so long at the rate of the key: 200 ms.
const LASTING: u64 = 200_000;
/// A lease is at most so many times as large as the one before.
const GROWTH: u64 = 4;

/// A lease lives for a twentieth of the window, so that two of them after each other are a tenth: what the
/// store counted then is spent at most so much later.
const LIVES_IN_WINDOW: u64 = 20;
/// But no longer than a second.
const LONGEST_LIFE: u64 = 1_000_000;

/// The leases of a gateway.
#[derive(Debug)]
pub(super) struct Leases(Slots<WORDS>);

/// What is particular to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lending {
    /// Microseconds of the window.
    pub(super) window: u64,
    /// Tokens that a key is worth before the store has said anything.
    pub(super) credit: u64,
    /// Whether tokens are as good as new to the end of the window.
    pub(super) is_for_window: bool,
}

/// What becomes of a request that wants to spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spending {
    /// It may.
    Spent {
        /// What the store had left when it was last asked, and this gateway still has.
        remaining: u64,
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
}

/// [`BALANCE`] in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Balance(u64);

impl Balance {
    /// The store has been asked and has not answered yet.
    const ASKED: u64 = 1 << 63;
    /// The store has none; the tokens are what was needed.
    const DENIED: u64 = 1 << 62;
    /// The store has none, but these tokens are left.
    const LAST: u64 = 1 << 61;
    const FLAGS: u64 = Self::ASKED | Self::DENIED | Self::LAST;

    fn of(tokens: u64, size: u64, flags: u64) -> Self {
        Self(tokens.min(LARGEST) | size.min(LARGEST) << 28 | flags)
    }

    fn tokens(self) -> u64 {
        self.0 & LARGEST
    }

    fn size(self) -> u64 {
        self.0 >> 28 & LARGEST
    }

    fn is_denied(self) -> bool {
        self.0 & Self::DENIED != 0
    }

    fn flags(self) -> u64 {
        self.0 & Self::FLAGS
    }
}

impl Lending {
    /// How long tokens may be spent, in microseconds.
    pub(super) fn life(&self) -> u64 {
        (self.window / LIVES_IN_WINDOW).min(LONGEST_LIFE)
    }
}

impl Leases {
    /// Leases of at least `keys` keys at a time.
    pub(super) fn new(keys: usize) -> Self {
        Self(Slots::new(keys))
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
            let balance = Balance(slot[BALANCE].load(Ordering::Acquire));
            let until = slot[UNTIL].load(Ordering::Acquire);
            if now < until && balance.is_denied() {
                return Ok(match least >= balance.tokens() {
                    true => Spending::Denied { wait: until - now },
                    false => Spending::Dry,
                });
            }
            let tokens = spendable(slot, balance, lending, now);
            if tokens < least {
                let may_have_credit = least <= lending.credit
                    && now >= slot[CREDIT].load(Ordering::Acquire)
                    && tokens == 0;
                if !may_have_credit {
                    return Ok(Spending::Dry);
                }
                match spend_on_credit(slot, key, balance, lending, cost, now) {
                    Some(spent) => return Ok(spent),
                    None => continue,
                }
            }
            let left = tokens - cost;
            let is_low = now >= until || 2 * left < balance.size();
            let asks = is_low && balance.0 & (Balance::ASKED | Balance::LAST) == 0;
            let flags = balance.flags() | if asks { Balance::ASKED } else { 0 };
            let after = Balance::of(left, balance.size(), flags);
            if !replace(slot, key, balance, after) {
                continue;
            }
            let tally = slot[TALLY].fetch_add(cost << 32, Ordering::AcqRel);
            return Ok(Spending::Spent {
                remaining: (tally & u64::from(u32::MAX)) + left,
                reset: until.saturating_sub(now).clamp(1, lending.window),
                ask: asks.then_some(0),
            });
        }
    }

    /// Gives tokens back that a request has spent but does not need.
    pub(super) fn put_back(&self, key: KeyHash, cost: u64) {
        let Some(slot) = self.0.find(key) else { return };
        let _ = slot[BALANCE].fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| {
            let balance = Balance(balance);
            let more = Balance::of(balance.tokens() + cost, balance.size(), balance.flags());
            (!balance.is_denied()).then_some(more.0)
        });
    }

    /// How many tokens would last for a while at the rate of a key, but not many times more than it had.
    pub(super) fn wanted(&self, key: KeyHash, lending: &Lending, now: u64) -> u64 {
        let Some(slot) = self.0.find(key) else {
            return 1;
        };
        let elapsed = now.saturating_sub(slot[SINCE].load(Ordering::Acquire));
        let spent = slot[TALLY].load(Ordering::Acquire) >> 32;
        let lasting = LASTING.min(lending.life());
        let size = Balance(slot[BALANCE].load(Ordering::Acquire)).size();
        let most = (GROWTH * size).clamp(1, LARGEST);
        (spent * lasting / elapsed.max(1)).clamp(1, most)
    }

    /// The store was asked at `asked_at` and has answered now. To be called by one thread only.
    pub(super) fn receive(
        &self,
        key: KeyHash,
        lending: &Lending,
        given: &Given,
        (asked_at, now): (u64, u64),
    ) {
        // Without room for an entry nobody would spend the tokens: they are lost.
        let Ok(slot) = self.0.find_or_insert(key, now) else {
            return;
        };
        keep(slot, asked_at + lending.window.max(given.reset));
        let update = |change: &dyn Fn(Balance) -> Balance| {
            let change = |balance| Some(change(Balance(balance)).0);
            let _ = slot[BALANCE].fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        };
        let is_refused = given.tokens == 0 && given.wait > 0;
        if is_refused {
            // What is left of earlier tokens is spent first.
            update(&|balance| match spendable(slot, balance, lending, now) {
                0 => Balance::of(0, 0, balance.flags()),
                tokens => Balance::of(tokens, tokens, Balance::LAST),
            });
            let balance = Balance(slot[BALANCE].load(Ordering::Acquire));
            if balance.tokens() == 0 {
                slot[UNTIL].store(asked_at + given.wait, Ordering::Release);
                update(&|_| Balance::of(given.need.max(1), 0, Balance::DENIED));
            }
            return;
        }
        let until = match lending.is_for_window {
            true => asked_at + given.reset,
            false => asked_at + lending.life(),
        };
        if lending.is_for_window {
            slot[CREDIT].store(until, Ordering::Release);
        }
        // What has lapsed must not be revived by the new end.
        update(&|balance| {
            let tokens = spendable(slot, balance, lending, now);
            Balance::of(tokens, balance.size(), balance.flags() & !Balance::DENIED)
        });
        slot[SINCE].store(asked_at, Ordering::Release);
        slot[UNTIL].store(until, Ordering::Release);
        let remaining = given.remaining.min(u64::from(u32::MAX));
        slot[TALLY].store(remaining, Ordering::Release);
        update(&|balance| {
            let tokens = balance.tokens() + given.tokens;
            Balance::of(tokens, tokens, 0)
        });
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

    /// Takes back what came at `since`, has not been spent since, and is more than a key may keep.
    pub(super) fn reclaim(&self, key: KeyHash, lending: &Lending, since: u64) -> u64 {
        let Some(slot) = self.0.find(key) else {
            return 0;
        };
        if slot[SINCE].load(Ordering::Acquire) != since {
            return 0;
        }
        let mut taken = 0;
        let _ = slot[BALANCE].fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| {
            let balance = Balance(balance);
            let kept = balance.tokens().min(lending.credit);
            taken = balance.tokens() - kept;
            (taken > 0 && !balance.is_denied())
                .then_some(Balance::of(kept, kept, balance.flags()).0)
        });
        taken
    }
}

/// Tokens that may be spent now: all in their time, then as many as a key is worth on credit, as long as
/// the window they were counted in.
fn spendable(slot: &Slot<WORDS>, balance: Balance, lending: &Lending, now: u64) -> u64 {
    if balance.is_denied() {
        return 0;
    }
    if now < slot[UNTIL].load(Ordering::Acquire) {
        return balance.tokens();
    }
    let is_recent = now < slot[SINCE].load(Ordering::Acquire) + lending.window;
    match is_recent && !lending.is_for_window {
        true => balance.tokens().min(lending.credit),
        false => 0,
    }
}

/// Spends what a key is worth before the store has said anything; nothing, if others were quicker.
fn spend_on_credit(
    slot: &Slot<WORDS>,
    key: KeyHash,
    balance: Balance,
    lending: &Lending,
    cost: u64,
    now: u64,
) -> Option<Spending> {
    let before = slot[CREDIT].load(Ordering::Acquire);
    let is_first = now >= before
        && slot[CREDIT]
            .compare_exchange(
                before,
                now + lending.window,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
    // Before the tokens, so that nobody takes the entry for free in between.
    keep(slot, now + lending.window);
    let left = lending.credit - cost;
    let after = Balance::of(left, left, Balance::ASKED);
    if !is_first || !replace(slot, key, balance, after) {
        return None;
    }
    slot[SINCE].store(now, Ordering::Release);
    slot[TALLY].store(cost << 32, Ordering::Release);
    slot[UNTIL].store(now + lending.life(), Ordering::Release);
    Some(Spending::Spent {
        remaining: left,
        reset: lending.window,
        ask: Some(lending.credit),
    })
}

fn replace(slot: &Slot<WORDS>, key: KeyHash, before: Balance, after: Balance) -> bool {
    slot[BALANCE]
        .compare_exchange(before.0, after.0, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
        && is_of(slot, key)
}
