//! Limits that several gateways keep together: counted by a Redis server, decided here.
//!
//! A request asks the store itself (`strict`), or spends what its gateway has taken ahead (`fast`). What
//! is taken ahead is counted before it is spent, so however many requests come, all gateways together
//! never admit more than the limit and what each may spend on credit ([`lease`]). The store's clock rules
//! the windows; how long something holds comes back as a duration.

mod address;
mod ask;
mod charge;
mod connection;
mod decide;
mod desk;
mod digest;
mod health;
mod keep;
mod lease;
mod link;
mod model;
mod nodes;
mod operate;
mod script;
mod settings;
pub mod simulation;
mod work;

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

pub(super) use self::ask::SharedKey;
pub(super) use self::decide::{Candidate, Receipt, SharedLimit, Word, admitted, part_of};
use self::desk::Demand;
pub use self::digest::stable_id;
pub use self::health::{StoreState, Tallies};
use self::lease::Leases;
use self::link::Link;
use self::settings::Settings;
use crate::config::{Diagnostics, Redis, Spanned};

/// Demands that may wait for the desk; when there are more, requests are decided without the store.
const MOST_DEMANDS: usize = 1 << 16;

/// The store that gateways share, and what this one has of it.
pub struct Shared {
    link: Arc<Link>,
    leases: Arc<Leases>,
    demands: mpsc::Sender<Demand>,
    /// For whoever does the work.
    work: Mutex<Option<mpsc::Receiver<Demand>>>,
}

impl Shared {
    /// Compiles the section, or reports what is wrong with it. Nothing is connected: see
    /// [`Shared::work`].
    pub fn compile(
        section: &Spanned<Redis>,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let settings = Settings::compile(section, base, diagnostics)?;
        let (demands, work) = mpsc::channel(MOST_DEMANDS);
        Some(Self {
            leases: Arc::new(Leases::new(settings.leases)),
            link: Arc::new(Link::new(settings)),
            demands,
            work: Mutex::new(Some(work)),
        })
    }

    /// The predecessor, if it is the same store with the same settings, or this one.
    pub fn succeed(self, predecessor: &Arc<Self>) -> Arc<Self> {
        match self.link.settings == predecessor.link.settings {
            true => predecessor.clone(),
            false => Arc::new(self),
        }
    }

    /// How the store is.
    pub fn state(&self) -> StoreState {
        self.link.health.state()
    }

    /// Gateways that share it, as far as this one knows.
    pub fn gateways(&self) -> u64 {
        self.link.health.gateways()
    }

    /// What it has been asked.
    pub fn tallies(&self) -> &Tallies {
        &self.link.health.tallies
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.link.settings.topology)
            .finish_non_exhaustive()
    }
}
