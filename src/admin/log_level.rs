//! How much the process says about itself: `GET /log-level` shows it, `PUT /log-level` changes it.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::query::Query;
use crate::config::LogLevel;
use crate::telemetry::ProcessLog;

/// The level of the process's log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogLevelReport {
    /// That of everything that `RUST_LOG` does not name: `error`, `warn`, `info` or `debug`; `off` or `trace`
    /// only if `RUST_LOG` says so.
    pub level: String,
}

pub(super) fn show(log: &ProcessLog) -> Answer {
    let level = log.level();
    Answer::json(StatusCode::OK, &LogLevelReport { level })
}

/// Sets the level that the query names.
pub(super) fn set(log: &ProcessLog, query: &str) -> Answer {
    match level(query) {
        Ok(level) => {
            log.set_level(level);
            show(log)
        }
        Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, &wrong),
    }
}

fn level(query: &str) -> Result<LogLevel, String> {
    let query = Query::read(query, &["level"])?;
    Ok(match query.required("level")? {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        other => {
            return Err(format!(
                "`level={other}` is no level: `error`, `warn`, `info` or `debug`"
            ));
        }
    })
}
