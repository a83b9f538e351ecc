//! Gets certificates from an authority, for the configuration in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::acme::Keeper;
use crate::snapshot::{State, Store};
use crate::upstream::Backends;

/// How soon proofs are shown that another process posts.
const TICK: Duration = Duration::from_secs(1);

/// Asks for certificates when they are due.
pub(super) struct CertificateOrders {
    snapshots: Arc<Store>,
    keeper: Mutex<Option<Keeper>>,
    is_draining: Arc<AtomicBool>,
}

impl CertificateOrders {
    /// Those of the configurations in the store.
    pub(super) fn new(
        snapshots: Arc<Store>,
        state: &State,
        backends: &Arc<Backends>,
        is_draining: Arc<AtomicBool>,
    ) -> Self {
        let (challenges, renewals) = (state.challenges.clone(), state.renewals.clone());
        let keeper = Keeper::new(challenges, renewals, backends.clone());
        Self {
            snapshots,
            keeper: Mutex::new(Some(keeper)),
            is_draining,
        }
    }
}

#[async_trait]
impl BackgroundService for CertificateOrders {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let keeper = self
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut keeper) = keeper else { return };
        loop {
            let snapshot = self.snapshots.load();
            if let Some(acme) = &snapshot.acme {
                let wanted: Vec<_> = snapshot.listeners.automatic().cloned().collect();
                // Whoever ends does not begin anything, but is still asked for proofs.
                let only_shows = self.is_draining.load(Ordering::Relaxed);
                keeper.look(acme, &wanted, only_shows);
            }
            drop(snapshot);
            tokio::time::sleep(TICK).await;
        }
    }
}
