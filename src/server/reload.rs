//! Loads the configuration again: a snapshot is published in one step, or nothing changes at all.

use std::path::PathBuf;
use std::sync::Arc;

use super::keep_on_disk;
use super::key_sets::fetch_unknown;
use super::watch::Watched;
use crate::admin::{Configured, Finding, InForce, Reload, ReloadOutcome, Status, Trigger};
use crate::config::{self, Config, Diagnostics, Loaded, Span};
use crate::snapshot::{Changes, Previous, Snapshot, State, Store, compile};
use crate::telemetry::{AccessLog, LineRules};
use crate::upstream::{Backends, discover};

/// Puts new configurations in force.
pub(super) struct Reloader {
    state: State,
    snapshots: Arc<Store>,
    status: Arc<Status>,
    backends: Arc<Backends>,
    access_log: Arc<AccessLog>,
    /// What the process was started with, which rules what can't be changed.
    started: Config,
    /// What is in force.
    configured: Arc<Configured>,
    /// The same for operators.
    in_force: Arc<InForce>,
    watched: Watched,
    /// Snapshots that requests may still hold. The last to let go of one would have to take it
    /// apart, which for many routes takes longer than a request; so that is done here.
    retired: Vec<Arc<Snapshot>>,
}

/// The files of certificates that the gateway gets by itself, which are there sooner or later.
fn certificates(snapshot: &Snapshot) -> impl Iterator<Item = PathBuf> {
    snapshot.listeners.automatic().map(|it| it.file.clone())
}

/// A configuration that could be put in force.
struct Next {
    snapshot: Snapshot,
    loaded: Loaded,
    reload: Reload,
}

impl Reloader {
    /// For a process that was started with a configuration, whose snapshot is in the store.
    pub(super) fn new(
        in_force: Arc<InForce>,
        files: Vec<PathBuf>,
        state: State,
        snapshots: Arc<Store>,
        status: Arc<Status>,
        backends: Arc<Backends>,
        access_log: Arc<AccessLog>,
    ) -> Self {
        let snapshot = snapshots.load();
        let files = files.into_iter().chain(certificates(&snapshot));
        let watched = Watched::new(files.collect());
        Self {
            state,
            snapshots,
            status,
            backends,
            access_log,
            started: in_force.load().config.clone(),
            configured: in_force.load_full(),
            in_force,
            watched,
            retired: Vec::new(),
        }
    }

    /// Loads the configuration and puts it in force if it can be used.
    pub(super) async fn reload(&mut self, by: Trigger) -> Reload {
        let reload = match self.load(Some(by)) {
            Ok(next) => {
                let snapshot = &next.snapshot;
                tokio::join!(
                    discover(snapshot.services(), || snapshot.resolver()),
                    fetch_unknown(&self.state.key_sets, &self.backends),
                );
                if snapshot.needs_exchanges() {
                    self.backends.prepare();
                }
                let snapshot = Arc::new(next.snapshot);
                let before = self.snapshots.publish(snapshot.clone());
                self.retired.push(before);
                if let Some(cache) = self.state.cache.get() {
                    let snapshot = self.snapshots.load();
                    // What no route keeps takes no memory.
                    let memory = snapshot.cache.map(|_| snapshot.settings.cache_memory);
                    cache.store.resize(memory.unwrap_or(0));
                    if let Err(error) = keep_on_disk(cache, &snapshot.settings) {
                        log::error!("{error}");
                    }
                }
                self.configured = Arc::new(Configured {
                    snapshot,
                    config: next.loaded.config,
                    source: next.loaded.source,
                });
                self.in_force.store(self.configured.clone());
                next.reload
            }
            Err(refused) => *refused,
        };
        let reload = self.status.reloaded(reload);
        tell(&reload);
        reload
    }

    /// Loads the configuration and says what it would change.
    pub(super) fn compare(&mut self) -> Reload {
        let mut reload = match self.load(None) {
            Ok(next) => next.reload,
            Err(refused) => *refused,
        };
        if reload.outcome == ReloadOutcome::Applied {
            reload.outcome = ReloadOutcome::Compared;
        } else {
            reload.generation = self.status.report().generation;
            return reload;
        }
        self.status.reloaded(reload)
    }

    /// Whether a file has changed since it was read.
    pub(super) fn files_have_changed(&mut self) -> bool {
        self.watched.have_changed()
    }

    /// Takes snapshots apart that nobody holds any more.
    pub(super) fn clear_away(&mut self) {
        self.retired
            .retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn load(&mut self, by: Option<Trigger>) -> Result<Next, Box<Reload>> {
        let path = self.configured.source.path.clone();
        // Looked at before they are read, so that no change between the two is missed. A mere
        // comparison leaves the change to be found.
        let known: Vec<PathBuf> = self.watched.files().to_vec();
        let mut watched = Watched::new(known.clone());
        let loaded = config::load(&path, &|name| std::env::var(name).ok());
        let mut loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                self.watch(by, watched);
                return Err(unreadable(by, &error.to_string(), &path).into());
            }
        };
        let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
        self.refuse_nothing(&loaded, &mut diagnostics);
        let previous = self.snapshots.load();
        let previous = Previous {
            config: &self.configured.config,
            snapshot: &previous,
        };
        let snapshot = compile(
            &loaded.config,
            &loaded.source,
            &self.state,
            Some(previous),
            &mut diagnostics,
        );
        let snapshot = snapshot.filter(|snapshot| {
            by.is_none() || self.is_log_followed(&loaded, snapshot, &mut diagnostics)
        });
        let mut files = loaded.files.clone();
        match &snapshot {
            Some(snapshot) => files.extend(certificates(snapshot)),
            None => files.extend(known),
        }
        watched.replace(files);
        self.watch(by, watched);
        let found = diagnostics.into_sorted();
        let findings = found
            .iter()
            .map(|finding| Finding::new(finding, &loaded.source))
            .collect();
        let report = config::render(&found, &loaded.source, false);
        let mut reload = Reload::refused(by, findings, report);
        let Some(snapshot) = snapshot else {
            return Err(reload.into());
        };
        reload.outcome = ReloadOutcome::Applied;
        reload.changes = Changes::between(
            (&self.configured.config, &self.configured.source),
            (&loaded.config, &loaded.source),
            &self.started,
        );
        Ok(Next {
            snapshot,
            loaded,
            reload,
        })
    }

    /// The last step that may fail: lines go to where the configuration says, or it is refused.
    fn is_log_followed(
        &self,
        loaded: &Loaded,
        snapshot: &Snapshot,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let rules = snapshot.access_log.as_ref();
        let followed = self.access_log.follow(rules.map(LineRules::destination));
        let Err(error) = followed else { return true };
        let section = loaded.config.log.access.0.on();
        let span = section.map_or(Span::default(), |section| section.output.span);
        diagnostics.error(span, error.to_string()).help(
            "the folder has to be there, and the gateway's user has to be allowed to write to it",
        );
        false
    }

    fn watch(&mut self, by: Option<Trigger>, watched: Watched) {
        if by.is_some() {
            self.watched = watched;
        }
    }

    /// A file that is being written anew is empty for a moment, and an empty file is a valid
    /// configuration without any route.
    fn refuse_nothing(&self, loaded: &Loaded, diagnostics: &mut Diagnostics) {
        if loaded.source.text.trim().is_empty() && !self.configured.config.services.is_empty() {
            diagnostics
                .error(
                    Span::default(),
                    "the file is empty, which would take every route away",
                )
                .help("to serve nothing, stop the process");
        }
    }
}

fn unreadable(by: Option<Trigger>, error: &str, path: &std::path::Path) -> Reload {
    let finding = Finding {
        severity: "error".to_owned(),
        message: error.to_owned(),
        place: path.display().to_string(),
        help: None,
    };
    Reload::refused(by, vec![finding], format!("{error}\n"))
}

fn tell(reload: &Reload) {
    let by = match reload.by {
        Some(Trigger::Signal) => "signal",
        Some(Trigger::FileChange) => "file_change",
        Some(Trigger::Api) | None => "api",
    };
    let changes = &reload.changes;
    match reload.outcome {
        ReloadOutcome::Refused => log::error!(
            "reload refused, the configuration before stays in force: by={by} generation={}\n{}",
            reload.generation,
            reload.report.trim_end()
        ),
        ReloadOutcome::Applied | ReloadOutcome::Compared => {
            log::info!(
                "reloaded: by={by} generation={} routes_changed={} settings_changed={}",
                reload.generation,
                changes.routes(),
                changes.settings.len()
            );
            if !reload.findings.is_empty() {
                log::warn!("{}", reload.report.trim_end());
            }
        }
    }
    if !changes.needs_upgrade.is_empty() {
        log::warn!(
            "this changes only with `tollgate upgrade`: {}",
            changes.needs_upgrade.join(", ")
        );
    }
}
