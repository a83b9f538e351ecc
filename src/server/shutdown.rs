//! How the gateway ends: readiness fails first, then the listeners close, then the last request
//! ends, and with it the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::open_connections::OpenConnections;
use super::sockets::Sockets;
use super::systemd;
use super::traces::send_last;
use crate::admin::{Phase, Status};
use crate::snapshot::Store;
use crate::telemetry::AccessLog;
use crate::telemetry::tracing::Traces;

/// How often it is looked whether the last connection has ended.
const POLL: Duration = Duration::from_millis(10);

/// Ends the process in order.
pub(super) struct Shutdown {
    pub(super) is_draining: Arc<AtomicBool>,
    pub(super) open: Arc<OpenConnections>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) traces: Arc<Traces>,
    /// Where it stands how long the end may take.
    pub(super) snapshots: Arc<Store>,
    pub(super) status: Arc<Status>,
    pub(super) sockets: Arc<Sockets>,
    /// Told when another process serves.
    pub(super) succession: Arc<Notify>,
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Shutdown {
    async fn recv(&self) -> ShutdownSignal {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                log::error!("signals can't be received: {error}");
                return std::future::pending().await;
            }
        };
        let is_succeeded = tokio::select! {
            () = signals.next() => false,
            () = self.succession.notified() => true,
        };
        log::info!("stopping: open_connections={}", self.open.count());
        self.is_draining.store(true, Ordering::Relaxed);
        self.status.enter(Phase::Draining);
        let access_log = self.access_log.clone();
        tokio::spawn(async move {
            signals.next().await;
            log::warn!("stopped at once by another signal");
            end(&access_log);
        });
        let (grace, deadline) = {
            let settings = &self.snapshots.load().settings;
            (settings.shutdown_grace, settings.shutdown_deadline)
        };
        if !is_succeeded {
            systemd::stopping();
            // Load balancers have to notice; a successor is there already.
            sleep(grace).await;
        }
        self.sockets.close();
        let (open, access_log) = (self.open.clone(), self.access_log.clone());
        let (snapshots, traces) = (self.snapshots.clone(), self.traces.clone());
        tokio::spawn(async move {
            drain(&open, deadline).await;
            send_last(&snapshots, &traces).await;
            end(&access_log);
        });
        ShutdownSignal::GracefulTerminate
    }
}

/// Waits for the last connection, though not for ever.
async fn drain(open: &OpenConnections, limit: Duration) {
    let deadline = Instant::now() + limit;
    // Connections that the kernel has accepted and the listeners have not are still to come.
    sleep(POLL).await;
    while open.count() > 0 && Instant::now() < deadline {
        sleep(POLL).await;
    }
    match open.count() {
        0 => log::info!("stopped"),
        cut => log::warn!("stopped at the deadline: cut_connections={cut}"),
    }
}

fn end(access_log: &AccessLog) {
    access_log.close();
    std::process::exit(0);
}
