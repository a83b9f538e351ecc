//! What the process says of itself: which configuration is in force, and how the last changes went.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificates::ShownCertificate;
use super::services::Impaired;
use crate::config::{Diagnostic, Severity, Source};
use crate::snapshot::Changes;
use crate::telemetry::Metrics;

/// The status of the process. Written when something changes, read by operators; no request sees it.
#[derive(Debug)]
pub struct Status {
    report: Mutex<Report>,
    /// What is counted.
    pub metrics: Metrics,
}

/// All of it, as `GET /status` shows it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Where in its life it is.
    pub phase: Phase,
    /// When it started.
    pub started: String,
    /// The process that handed its listeners over to this one.
    pub upgraded_from: Option<u32>,
    /// The configuration file.
    pub config: String,
    /// The number of the configuration in force, counted from 1 since the start.
    pub generation: u64,
    /// When it was put in force.
    pub loaded: String,
    /// What differs from the configuration in force and only `tollgate upgrade` can change.
    pub needs_upgrade: Vec<String>,
    /// Services whose circuit is not closed or that have ejected endpoints.
    #[serde(default)]
    pub impaired: Vec<Impaired>,
    /// How the store of shared limits is, if it is not up: `starting`, `partial` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_store: Option<String>,
    /// The certificates that clients are shown, those first that expire first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<ShownCertificate>,
    /// How much presses: 0 to 3; from 1 on requests are shed.
    #[serde(default)]
    pub overload: u8,
    /// How the last reload went.
    pub last_reload: Option<Reload>,
    /// How many reloads there were.
    pub reloads: u64,
    /// How the last upgrade from this process to another went.
    pub last_upgrade: Option<Upgrade>,
    /// How many upgrades were tried.
    pub upgrades: u64,
}

/// Where in its life a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It does not accept clients yet.
    Starting,
    /// It serves.
    Serving,
    /// It ends as soon as the last request has.
    Draining,
}

/// Who asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file was changed.
    FileChange,
    /// `POST /reload`.
    Api,
}

/// How a reload went.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reload {
    /// When.
    pub at: String,
    /// Who asked; `None` for a mere comparison.
    pub by: Option<Trigger>,
    /// Whether it is in force.
    pub outcome: ReloadOutcome,
    /// The number of the configuration that is in force now.
    pub generation: u64,
    /// What it changes; nothing if it was refused.
    pub changes: Changes,
    /// Errors and warnings.
    pub findings: Vec<Finding>,
    /// The same as text, with the lines of the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub report: String,
}

/// Whether a configuration is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// It is in force.
    Applied,
    /// It can't be used; the one before is in force.
    Refused,
    /// It could be, and was only looked at.
    Compared,
}

/// Something wrong or suspicious in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// `file:line:column`.
    pub place: String,
    /// What would be right.
    pub help: Option<String>,
}

/// How an upgrade went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upgrade {
    /// When.
    pub at: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: UpgradeOutcome,
}

/// What came of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum UpgradeOutcome {
    /// Another process serves.
    Succeeded {
        /// Which.
        pid: u32,
    },
    /// This one goes on.
    Failed {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
}

/// Now, as text (RFC 3339).
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Finding {
    /// A finding about a file.
    pub fn new(diagnostic: &Diagnostic, source: &Source) -> Self {
        Self {
            severity: match diagnostic.severity {
                Severity::Error => "error".to_owned(),
                Severity::Warning => "warning".to_owned(),
            },
            message: diagnostic.message.clone(),
            place: source.locate(diagnostic.span),
            help: diagnostic.help.clone(),
        }
    }
}

impl Reload {
    /// A reload that begins now, and what comes of it unless it succeeds.
    pub fn refused(by: Option<Trigger>, findings: Vec<Finding>, report: String) -> Self {
        Self {
            at: now(),
            by,
            outcome: ReloadOutcome::Refused,
            generation: 0,
            changes: Changes::default(),
            findings,
            report,
        }
    }
}

impl Status {
    /// The status of a process that starts now with a configuration file, after `upgraded_from`.
    pub fn new(config: &Path, upgraded_from: Option<u32>, metrics: Metrics) -> Self {
        Self {
            metrics,
            report: Mutex::new(Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                phase: Phase::Starting,
                started: now(),
                upgraded_from,
                config: config.display().to_string(),
                generation: 1,
                loaded: now(),
                needs_upgrade: Vec::new(),
                impaired: Vec::new(),
                limit_store: None,
                certificates: Vec::new(),
                overload: 0,
                last_reload: None,
                reloads: 0,
                last_upgrade: None,
                upgrades: 0,
            }),
        }
    }

    /// A copy of what is known.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// The process has come to another phase of its life.
    pub fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Notes how a reload went; returns it with the number of the configuration in force.
    pub fn reloaded(&self, mut reload: Reload) -> Reload {
        let mut report = self.lock();
        if reload.outcome == ReloadOutcome::Applied {
            report.generation += 1;
            report.loaded.clone_from(&reload.at);
            report
                .needs_upgrade
                .clone_from(&reload.changes.needs_upgrade);
        }
        reload.generation = report.generation;
        if reload.outcome != ReloadOutcome::Compared {
            report.reloads += 1;
            report.last_reload = Some(reload.clone());
            let is_applied = reload.outcome == ReloadOutcome::Applied;
            self.metrics.reloaded(is_applied, report.generation);
        }
        reload
    }

    /// Notes how an upgrade went.
    pub fn upgraded(&self, outcome: UpgradeOutcome) {
        let is_success = matches!(outcome, UpgradeOutcome::Succeeded { .. });
        self.metrics.upgraded(is_success);
        let mut report = self.lock();
        report.upgrades += 1;
        report.last_upgrade = Some(Upgrade { at: now(), outcome });
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
