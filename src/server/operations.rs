//! What the process does beside serving: it comes up, reloads, is succeeded, and tells systemd.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::clients::Clients;
use super::handover::{Predecessor, Step};
use super::listening::Signs;
use super::pressure::Lateness;
use super::reload::Reloader;
use super::upgrade::{Estate, Failed, Program, upgrade};
use super::{systemd, watch as files};
use crate::admin::{Command, Phase, Reload, Status, Trigger, UpgradeOutcome};
use crate::snapshot::Store;
use crate::telemetry::AccessLog;

/// All that operations need.
pub(super) struct Parts {
    pub(super) clients: Clients,
    pub(super) signs: Vec<Signs>,
    pub(super) gate: watch::Sender<bool>,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) reloader: Reloader,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) estate: Estate,
    pub(super) snapshots: Arc<Store>,
    pub(super) status: Arc<Status>,
    pub(super) is_draining: Arc<AtomicBool>,
    /// Told when another process serves.
    pub(super) succession: Arc<Notify>,
    pub(super) lateness: Arc<Lateness>,
}

/// Operations as a service of the framework, which wants to lend and not to give.
pub(super) struct Operations(Mutex<Option<Parts>>);

impl Operations {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Mutex::new(Some(parts)))
    }
}

#[async_trait]
impl BackgroundService for Operations {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut parts) = parts else {
            return;
        };
        match parts.come_up().await {
            Ok(workers) => parts.operate(workers).await,
            Err((step, error)) => {
                log::error!("can't start, step `{step}`: {error}");
                if let Some(predecessor) = &parts.predecessor {
                    predecessor.fail(step, &error.to_string());
                }
                std::process::exit(1);
            }
        }
    }
}

impl Parts {
    /// Comes up: with a predecessor not before this process answers, and not before it says so.
    async fn come_up(&mut self) -> Result<Handle, (Step, io::Error)> {
        let patience = self.patience();
        let mut signs = std::mem::take(&mut self.signs);
        let clients = &mut signs[0];
        let workers = within(patience, &mut clients.runtime, "no worker starts").await;
        let workers = workers.map_err(|error| (Step::Health, error))?;
        let health = |error| (Step::Health, error);
        if let Some(predecessor) = self.predecessor.take() {
            let checked = self.clients.check(&workers, patience).await;
            self.predecessor = Some(predecessor);
            checked.map_err(health)?;
            self.predecessor = self.await_leave(patience).await.map_err(health)?;
        }
        let accept = |error| (Step::Accept, error);
        self.gate.send_replace(true);
        for service in &mut signs {
            let accepting = within(
                patience,
                &mut service.accepting,
                "a listener does not accept",
            );
            accepting.await.map_err(accept)?;
        }
        match &self.predecessor {
            Some(predecessor) => predecessor.done(Step::Accept).map_err(accept)?,
            None => self
                .clients
                .check(&workers, patience)
                .await
                .map_err(health)?,
        }
        self.lateness.ask(&workers);
        self.status.enter(Phase::Serving);
        let from = self.predecessor.as_ref().map(Predecessor::pid);
        let settings = &self.snapshots.load().settings;
        log::info!(
            "serving: listen={} admin={} threads={}{}",
            super::list(&settings.listen),
            settings
                .admin
                .map_or("off".to_owned(), |address| address.to_string()),
            settings.threads,
            from.map_or_else(String::new, |pid| format!(" upgraded_from={pid}")),
        );
        if from.is_none() {
            systemd::ready("serving");
        }
        Ok(workers)
    }

    /// Says that this process answers, and waits until it may accept clients.
    async fn await_leave(&mut self, patience: Duration) -> io::Result<Option<Predecessor>> {
        let predecessor = self.predecessor.take();
        let waiting = tokio::task::spawn_blocking(move || {
            if let Some(predecessor) = &predecessor {
                predecessor.done(Step::Health)?;
                predecessor.await_leave(patience)?;
            }
            Ok(predecessor)
        });
        waiting.await.map_err(io::Error::other)?
    }

    async fn operate(mut self, workers: Handle) {
        let (Ok(mut hangup), Ok(mut rotation), Ok(mut upgrade)) = (
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined1()),
            signal(SignalKind::user_defined2()),
        ) else {
            return log::error!("signals can't be received: reload, reopening and upgrade are off");
        };
        let (ended, mut upgrades) = mpsc::channel(1);
        let mut is_upgrading = false;
        let mut look = tokio::time::interval(files::INTERVAL);
        let watchdog = systemd::watchdog_interval();
        let mut check = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                _ = hangup.recv() => { self.reload(Trigger::Signal).await; }
                _ = rotation.recv() => self.access_log.reopen(),
                _ = upgrade.recv() => {
                    if is_upgrading || self.is_draining() {
                        log::warn!("an upgrade was asked for while one is under way or the process ends");
                    } else {
                        is_upgrading = true;
                        self.begin_upgrade(ended.clone());
                    }
                }
                Some(result) = upgrades.recv() => {
                    is_upgrading = false;
                    self.end_upgrade(result);
                }
                Some(command) = self.commands.recv() => self.obey(command).await,
                _ = look.tick() => {
                    self.reloader.clear_away();
                    if self.watches() && self.reloader.files_have_changed() {
                        self.reload(Trigger::FileChange).await;
                    }
                }
                _ = check.tick(), if watchdog.is_some() => self.check(&workers),
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // Who asked may have gone.
        match command {
            Command::Reload { by, reply } => {
                let reload = self.reload(by).await;
                if let (Some(reply), Some(reload)) = (reply, reload) {
                    let _ = reply.send(reload);
                }
            }
            Command::Compare { reply } => {
                let _ = reply.send(self.reloader.compare());
            }
        }
    }

    async fn reload(&mut self, by: Trigger) -> Option<Reload> {
        if self.is_draining() {
            log::warn!("not reloaded, for the process ends");
            return None;
        }
        systemd::reloading();
        let reload = self.reloader.reload(by).await;
        systemd::ready(&format!("serving configuration {}", reload.generation));
        Some(reload)
    }

    fn begin_upgrade(&self, ended: mpsc::Sender<Result<u32, Failed>>) {
        log::info!("upgrading: a new process is started");
        let (is_draining, patience) = (self.is_draining.clone(), self.patience());
        let estate = self.estate.clone();
        tokio::task::spawn_blocking(move || {
            let may_go_on = || !is_draining.load(Ordering::Relaxed);
            let result = upgrade(&Program::current(), &estate, patience, may_go_on);
            // Nobody waits for it once the process ends.
            let _ = ended.blocking_send(result);
        });
    }

    fn end_upgrade(&self, result: Result<u32, Failed>) {
        match result {
            Ok(pid) => {
                systemd::succeeded_by(pid);
                if let Some(cache) = self.snapshots.load().cache {
                    cache.store.hand_over();
                }
                log::info!("upgraded: pid={pid} serves, this process ends with its last request");
                self.status.upgraded(UpgradeOutcome::Succeeded { pid });
                self.succession.notify_one();
            }
            Err(Failed { step, reason }) => {
                log::error!("upgrade failed, this process goes on: step={step} reason={reason}");
                self.status.upgraded(UpgradeOutcome::Failed {
                    step: step.to_string(),
                    reason,
                });
            }
        }
    }

    /// Tells systemd that the process is well, if its workers answer.
    fn check(&self, workers: &Handle) {
        let (clients, workers) = (self.clients.clone(), workers.clone());
        let patience = self.patience();
        tokio::spawn(async move {
            match clients.check(&workers, patience).await {
                Ok(()) => systemd::alive(),
                Err(error) => log::error!("the process does not answer itself: {error}"),
            }
        });
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn watches(&self) -> bool {
        self.snapshots.load().settings.watch_files && !self.is_draining()
    }

    fn patience(&self) -> Duration {
        self.snapshots.load().settings.upgrade_timeout
    }
}

/// What comes in time from the other end.
async fn within<T>(
    patience: Duration,
    sign: &mut tokio::sync::oneshot::Receiver<T>,
    lacking: &str,
) -> io::Result<T> {
    match timeout(patience, sign).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(io::Error::other(lacking.to_owned())),
    }
}
