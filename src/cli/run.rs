//! `tollgate run`.

use super::configuration::{Usable, examine};
use super::{ConfigFile, Failure};
use crate::config::LogLevel;
use crate::server::{self, Predecessor, Start};
use crate::telemetry::AccessLog;

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
    let log = &usable.loaded.config.log;
    start_log(log.level);
    let access_log = match log.access.0.on().map(AccessLog::open).transpose() {
        Ok(access_log) => access_log,
        Err(error) => {
            if let Some(predecessor) = &predecessor {
                predecessor.refuse_configuration(&error.to_string());
            }
            return Err(Failure::Other(error.to_string()));
        }
    };
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
    let filter = format!("{level},pingora_core={framework},pingora_proxy=off,pingora_pool=off");
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter)).init();
}
