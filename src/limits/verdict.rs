//! What becomes of a request, and what is left of the limits that it passed.

use super::algorithm::Refused;

/// One of the limits of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitNumber(u16);

/// The limit that is nearest to refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tightest {
    /// Which it is.
    pub limit: LimitNumber,
    /// What is left: requests, or units of what they cost, or bytes.
    pub remaining: u64,
    /// Whole seconds until more is left.
    pub reset: u64,
    /// How many requests may still come; where that is not known, thousandths of the limit.
    pub(super) distance: u64,
}

/// A request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The limit that refuses.
    pub tightest: Tightest,
    /// Whole seconds until the request may be admitted, and what the limit puts clients off at random;
    /// `None` if it costs more than there ever is.
    pub retry_after: Option<u64>,
}

/// A request that may pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// The limit that is nearest to refusing, if clients are told of any.
    pub tightest: Option<Tightest>,
    /// The first limit that would refuse it, but is only tried out.
    pub would_refuse: Option<LimitNumber>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All limits of the phase admit it.
    Admit(Passed),
    /// One does not; those that did have taken it back.
    Refuse(Refusal),
    /// This one does not yet, and lets it wait; those that did have taken it back.
    Wait(LimitNumber),
    /// Nobody can say whether this one does, and then it is to admit nothing.
    Unavailable(LimitNumber),
}

/// Why a request that waited does not pass after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It is refused.
    Refused(Refusal),
    /// Nobody can say whether this limit admits it, and then it is to admit nothing.
    Unavailable(LimitNumber),
}

/// Why a request does not pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// This limit refuses it.
    Spent(LimitNumber, Refused),
    /// Others wait for this limit already.
    Behind(LimitNumber),
    /// The store of this limit can't be asked, and without it nothing is admitted.
    Unavailable(LimitNumber),
}

impl Blocked {
    /// The limit that does not let it pass.
    pub(super) fn number(self) -> LimitNumber {
        match self {
            Self::Spent(number, _) | Self::Behind(number) | Self::Unavailable(number) => number,
        }
    }
}

impl LimitNumber {
    pub(super) fn new(index: usize) -> Self {
        Self(index as u16)
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

impl Tightest {
    /// Whether this one will refuse before the other does, as far as can be told.
    pub fn is_nearer_than(&self, other: &Self) -> bool {
        self.distance < other.distance
    }
}

/// Whole seconds, rounded up: a client must not come back too early.
pub(super) fn seconds(micros: u64) -> u64 {
    micros.div_ceil(1_000_000)
}
