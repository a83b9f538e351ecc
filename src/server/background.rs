//! What happens beside requests: names are looked up again, and limit periods begin.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::MissedTickBehavior;

use crate::admin::{Traffic, give_way};
use crate::snapshot::{State, Store};
use crate::telemetry::RecentRequests;
use crate::upstream::{Discovery, Prober};

/// How soon what was found is used.
const LOOKUP_TICK: Duration = Duration::from_millis(100);
/// How soon another store is used.
const STORE_TICK: Duration = Duration::from_millis(20);
/// How often it is read what is counted.
const SECOND: Duration = Duration::from_secs(1);
/// How exactly checks keep their time.
const CHECK_TICK: Duration = Duration::from_millis(50);

/// Looks the names of backends up again and again.
pub(super) struct NameLookups(pub(super) Arc<Store>);

/// Asks backends whether they are well.
pub(super) struct HealthChecks(pub(super) Arc<Store>);

/// Does the work for the store of shared limits.
pub(super) struct SharedLimits {
    pub(super) snapshots: Arc<Store>,
    pub(super) state: State,
}

/// Begins new periods of the limits' estimates.
pub(super) struct LimitPeriods(pub(super) State);

/// Reads once a second what is counted of requests.
pub(super) struct TrafficReadings {
    pub(super) snapshots: Arc<Store>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) recent: Arc<RecentRequests>,
}

#[async_trait]
impl BackgroundService for NameLookups {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut discovery = Discovery::default();
        loop {
            let snapshot = self.0.load();
            discovery.tick(snapshot.services(), || snapshot.resolver());
            drop(snapshot);
            tokio::time::sleep(LOOKUP_TICK).await;
        }
    }
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // It has a copy of the system's authorities, which nobody pays for who checks nothing.
        let mut prober = None;
        loop {
            tokio::time::sleep(CHECK_TICK).await;
            for service in self.0.load().services() {
                if service.health_check().is_some() {
                    let prober = prober.get_or_insert_with(|| Arc::new(Prober::default()));
                    prober.check(service);
                }
            }
        }
    }
}

#[async_trait]
impl BackgroundService for SharedLimits {
    async fn start(&self, _shutdown: ShutdownWatch) {
        loop {
            let shared = self.snapshots.load().shared_limits.clone();
            // The work for one that has been replaced ends by itself.
            if let Some(work) = shared.and_then(|it| it.work(self.state.limits.clone())) {
                tokio::spawn(work);
            }
            tokio::time::sleep(STORE_TICK).await;
        }
    }
}

#[async_trait]
impl BackgroundService for LimitPeriods {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut is_overflowing = false;
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let limits = &self.0.limits;
            limits.tick(Instant::now());
            let overflowed = limits.overflowed();
            if overflowed > before && !is_overflowing {
                log::warn!(
                    "rate limits are estimated for some keys, since there are more than \
                     server.limits.rate_limit_keys: keys={}",
                    limits.keys()
                );
            }
            is_overflowing = overflowed > before;
            before = overflowed;
        }
    }
}

#[async_trait]
impl BackgroundService for TrafficReadings {
    async fn start(&self, _shutdown: ShutdownWatch) {
        give_way();
        // In the middle of seconds, so that one that is a little late or early is still within its own.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let into_second = Duration::from_nanos(now.unwrap_or_default().subsec_nanos().into());
        let first = tokio::time::Instant::now() + SECOND * 3 / 2 - into_second;
        let mut ticks = tokio::time::interval_at(first, SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.traffic
                .tick(&self.snapshots.load(), &self.recent, SystemTime::now());
        }
    }
}
