//! Answers that are kept and given again: which may be (RFC 9111), for how long, for whom, and where.
//!
//! What a request asks for and what the client is told of it is the business of the proxy; nothing here
//! knows a route or a session. The framework's state machine asks through the traits that [`Cache`]
//! implements.

mod clock;
mod coalesce;
mod conditional;
mod digest;
mod directives;
mod disk;
mod eligible;
mod fill;
mod freshness;
mod heuristic;
mod invalidation;
mod kept;
mod key;
mod object;
mod policy;
mod purge;
mod queue;
mod shard;
mod storable;
mod storage;
mod store;
mod tags;
mod tiers;
mod update;
mod vary;

use std::time::Duration;

use pingora_cache::NoCacheReason;
use pingora_cache::lock::CacheLock;
use pingora_cache::predictor::Predictor;

pub use conditional::is_unchanged;
pub use directives::{RequestDirectives, may_be_stale};
pub use disk::{DiskState, DiskUsage, make_folder};
pub use eligible::Question;
pub use fill::Backlog;
pub use heuristic::Heuristic;
pub use kept::Kept;
pub use key::{KeyParts, Ticket, location};
pub use object::Refresh;
pub use policy::{CachePolicy, Place};
pub use purge::{Purge, Purged, Target};
pub use storable::{Circumstances, Refusal, Terms};
pub use store::{Store, Usage};
pub use update::{Update, merge};
pub use vary::variance;

use crate::telemetry::CacheResults;

/// A fill that takes longer than this no longer keeps others from beginning one.
const LONGEST_FILL: Duration = Duration::from_secs(60);
/// Keys remembered whose answers can't be kept, a shard.
const UNCACHEABLE_KEYS: usize = 4096;

/// What is kept, who fetches it, and what is known of answers that can't be kept. There is one in a
/// process, for the framework asks for one that lives as long.
pub struct Cache {
    /// What is kept.
    pub store: Store,
    /// What it did for requests.
    pub results: CacheResults,
    fills: CacheLock,
    uncacheable: Predictor<16>,
}

impl Cache {
    /// An empty one for so many bytes, which is never freed.
    pub fn leaked(capacity: u64) -> &'static Self {
        Box::leak(Box::new(Self {
            store: Store::new(capacity),
            results: CacheResults::default(),
            fills: CacheLock::new(LONGEST_FILL),
            uncacheable: Predictor::new(UNCACHEABLE_KEYS, Some(is_passing)),
        }))
    }

    /// Keys whose answers can't be kept: their requests need not wait for each other.
    pub fn uncacheable(&'static self) -> &'static Predictor<16> {
        &self.uncacheable
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// Whether a reason says nothing of the next answer.
fn is_passing(reason: &'static str) -> bool {
    Refusal::PASSING.contains(&reason)
}

/// What the framework is told of an answer that is not kept.
impl From<Refusal> for NoCacheReason {
    fn from(refusal: Refusal) -> Self {
        Self::Custom(refusal.word())
    }
}
