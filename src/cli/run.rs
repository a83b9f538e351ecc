//! `tollgate run`.

use super::{ConfigFile, Failure};
use crate::config::{LogLevel, Toggle};
use crate::server;
use crate::telemetry::AccessLog;

/// Runs the gateway until it is told to end.
pub(super) fn run(file: &ConfigFile) -> Result<(), Failure> {
    let usable = file.compile()?;
    let log = &usable.loaded.config.log;
    start_log(log.level);
    let access_log = match &log.access.0 {
        Toggle::Off => None,
        Toggle::On(section) => {
            Some(AccessLog::open(section).map_err(|error| Failure::Other(error.to_string()))?)
        }
    };
    server::run(usable.snapshot, usable.state, access_log)
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
