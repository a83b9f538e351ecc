//! The configuration in force with its text, for those who ask about it. No request sees it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Config, Source};
use crate::snapshot::Snapshot;

/// A snapshot, and what it was compiled from.
#[derive(Debug)]
pub struct Configured {
    /// What decides.
    pub snapshot: Arc<Snapshot>,
    /// What the operator wrote.
    pub config: Config,
    /// Its text.
    pub source: Source,
}

/// What is in force: changed as a whole, so that the three always belong together.
pub type InForce = ArcSwap<Configured>;
