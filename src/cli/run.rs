//! `tollgate run`.

use std::io::Write;

use log::Level;

use super::configuration::{Usable, examine};
use super::{ConfigFile, Failure};
use crate::config::LogLevel;
use crate::server::{self, Predecessor, Start};
use crate::telemetry::{AccessLog, LineRules};

/// Runs the gateway until it is told to end.
pub(super) fn run(file: &ConfigFile) -> Result<(), Failure> {
    let Some(predecessor) = Predecessor::find() else {
        return serve(file.compile()?, None);
    };
    let path = file.path()?;
    match examine(&path) {
        Ok((usable, _)) => serve(usable, Some(predecessor)),
        Err(unusable) => {
            // It says so, in the same log.
            predecessor.refuse_configuration(&unusable.to_string());
            Err(Failure::Config)
        }
    }
}

fn serve(usable: Usable, predecessor: Option<Predecessor>) -> Result<(), Failure> {
    start_log(usable.loaded.config.log.level);
    let access_log = AccessLog::default();
    let rules = usable.snapshot.access_log.as_ref();
    if let Err(error) = access_log.follow(rules.map(LineRules::destination)) {
        if let Some(predecessor) = &predecessor {
            predecessor.refuse_configuration(&error.to_string());
        }
        return Err(Failure::Other(error.to_string()));
    }
    server::run(Start {
        loaded: usable.loaded,
        snapshot: usable.snapshot,
        state: usable.state,
        access_log,
        predecessor,
    })
    .map_err(|error| Failure::Other(error.to_string()))
}

/// The process's own log, on standard error. The framework reports single requests, whose record is
/// the access log, and its own start, which is nobody's business.
fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let framework = if level == "debug" { "debug" } else { "error" };
    let filter =
        format!("{level},pingora_core={framework},pingora_proxy=off,pingora_pool=off,redis=off");
    let environment = env_logger::Env::default().default_filter_or(filter);
    let mut logger = env_logger::Builder::from_env(environment);
    if is_journal() {
        // The journal knows the time itself, and the level by this prefix (sd-daemon(3)), which
        // holds for one line.
        logger.format(|out, record| {
            let level = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            for line in record.args().to_string().lines() {
                writeln!(out, "<{level}>{line}")?;
            }
            Ok(())
        });
    }
    logger.init();
}

/// Whether standard error leads to systemd's journal.
fn is_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|it| stream == format!("{}:{}", it.dev(), it.ino()))
}
