//! What the process says about itself, on standard error, and how much of it.
//!
//! The level is that of everything that has none of its own. Modules that `RUST_LOG` names keep theirs.

use std::io::Write;
use std::sync::Arc;

use arc_swap::ArcSwap;
use env_logger::Logger;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::LogLevel;

/// What the framework's levels are, which reports single requests, whose record is the access log, and its own
/// start, which is nobody's business.
const FRAMEWORK: &str = "pingora_proxy=off,pingora_pool=off,redis=off";

/// The process's log, whose level can be changed.
#[derive(Debug)]
pub struct ProcessLog {
    /// What `RUST_LOG` says, if it says anything.
    environment: Option<String>,
    current: ArcSwap<Current>,
}

/// A level, and what writes the lines that have it.
#[derive(Debug)]
struct Current {
    level: LevelFilter,
    logger: Logger,
}

impl ProcessLog {
    /// The log from now on, for all that the process says. `RUST_LOG` goes before the `level`.
    pub fn start(level: LogLevel) -> Arc<Self> {
        let environment = std::env::var("RUST_LOG").ok();
        let environment = environment.filter(|text| !text.trim().is_empty());
        let (level, directives) = match &environment {
            Some(text) => (level_of(text), text.clone()),
            None => {
                let level = filter(level);
                (level, directives(None, level))
            }
        };
        let log = Arc::new(Self {
            environment,
            current: ArcSwap::from_pointee(Current::new(level, &directives)),
        });
        log::set_max_level(log.current.load().logger.filter());
        // Only one can be the first, and there is no other.
        let _ = log::set_boxed_logger(Box::new(log.clone()));
        log
    }

    /// The level in force.
    pub fn level(&self) -> String {
        word(self.current.load().level)
    }

    /// Another level from now on, until the process ends.
    pub fn set_level(&self, level: LogLevel) {
        let (before, level) = (self.current.load().level, filter(level));
        let tell = || {
            log::info!(
                "log level changed: from={} to={}",
                word(before),
                word(level)
            )
        };
        // Whichever of the two says more says so.
        if before >= level {
            tell();
        }
        let directives = directives(self.environment.as_deref(), level);
        let next = Current::new(level, &directives);
        let most = next.logger.filter();
        self.current.store(Arc::new(next));
        log::set_max_level(most);
        if before < level {
            tell();
        }
    }
}

impl Log for ProcessLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.current.load().logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.current.load().logger.log(record);
    }

    fn flush(&self) {
        self.current.load().logger.flush();
    }
}

impl Current {
    fn new(level: LevelFilter, directives: &str) -> Self {
        let mut logger = env_logger::Builder::new();
        logger.parse_filters(directives);
        if let Ok(style) = std::env::var("RUST_LOG_STYLE") {
            logger.parse_write_style(&style);
        }
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
        Self {
            level,
            logger: logger.build(),
        }
    }
}

/// What is let through at a level: beside what `environment` names, or else what of the framework is worth it.
fn directives(environment: Option<&str>, level: LevelFilter) -> String {
    let Some(text) = environment else {
        let of_core = match level {
            LevelFilter::Debug | LevelFilter::Trace => level,
            _ => LevelFilter::Error,
        };
        return format!("{level},pingora_core={of_core},{FRAMEWORK}");
    };
    // A pattern that lines have to match stands behind them.
    let (modules, pattern) = match text.split_once('/') {
        Some((modules, pattern)) => (modules, format!("/{pattern}")),
        None => (text, String::new()),
    };
    let named = modules.split(',').filter(|it| default_level(it).is_none());
    let mut directives: Vec<_> = named.map(str::to_owned).collect();
    directives.push(level.to_string());
    directives.join(",") + &pattern
}

/// The level of what `RUST_LOG` does not name.
fn level_of(environment: &str) -> LevelFilter {
    let modules = environment.split('/').next().unwrap_or_default();
    let mut levels = modules.split(',').filter_map(default_level);
    levels.next_back().unwrap_or(LevelFilter::Off)
}

fn default_level(directive: &str) -> Option<LevelFilter> {
    directive.trim().parse().ok()
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    }
}

fn word(level: LevelFilter) -> String {
    level.as_str().to_ascii_lowercase()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_the_environment_names_keep_their_level() {
        let debug = LevelFilter::Debug;
        for (text, level, expected) in [
            ("info", "INFO", "DEBUG"),
            (
                "warn, tollgate::upstream=trace",
                "WARN",
                " tollgate::upstream=trace,DEBUG",
            ),
            ("tollgate=info", "OFF", "tollgate=info,DEBUG"),
            ("tollgate,error/a,b", "ERROR", "tollgate,DEBUG/a,b"),
        ] {
            assert_eq!(level_of(text).as_str(), level, "{text}");
            assert_eq!(directives(Some(text), debug), expected);
        }
    }

    #[test]
    fn lines_of_the_framework_about_requests_stay_away_at_any_level() {
        for level in [LevelFilter::Error, LevelFilter::Info, LevelFilter::Debug] {
            let current = Current::new(level, &directives(None, level));
            let is_shown = |target: &str, level: Level| {
                let metadata = Metadata::builder().target(target).level(level).build();
                current.logger.enabled(&metadata)
            };
            assert_eq!(
                is_shown("tollgate::server", Level::Info),
                level >= Level::Info
            );
            assert_eq!(
                is_shown("pingora_core::apps", Level::Warn),
                level >= Level::Debug
            );
            assert!(is_shown("pingora_core::apps", Level::Error));
            assert!(!is_shown("pingora_proxy", Level::Error));
        }
    }
}
