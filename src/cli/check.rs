//! `tollgate check`.

use super::configuration::print;
use super::{ConfigFile, Failure};

/// Says whether a configuration can be used. What is wrong has been printed on the way.
pub(super) fn check(file: &ConfigFile) -> Result<(), Failure> {
    let usable = file.compile()?;
    let warnings = match usable.warnings {
        0 => String::new(),
        count => format!(", {}", counted(count, "warning")),
    };
    print(&format!(
        "{}: ok ({}, {}{warnings})\n",
        usable.loaded.source.path.display(),
        counted(usable.loaded.config.services.len(), "service"),
        counted(usable.snapshot.routes().len(), "route"),
    ))
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
