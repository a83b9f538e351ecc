//! Finds, reads and compiles the configuration that a command is about, and says what is wrong.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::{ConfigFile, Failure};
use crate::config::{self, Diagnostic, LoadError, Loaded, Source};
use crate::snapshot::{Snapshot, State, compile};

/// Where a configuration is looked for that is not named.
const DEFAULT_FILES: [&str; 2] = ["tollgate.yaml", "/etc/tollgate/tollgate.yaml"];

/// A configuration that can be used.
pub(super) struct Usable {
    pub(super) loaded: Loaded,
    pub(super) snapshot: Snapshot,
    pub(super) state: State,
    pub(super) warnings: usize,
}

impl ConfigFile {
    /// The file that is named, or the default one that exists.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let found = DEFAULT_FILES
            .iter()
            .map(Path::new)
            .find(|path| path.exists());
        found.map(Path::to_owned).ok_or_else(|| {
            say(&format!(
                "tollgate: no configuration: neither {} exists\n\
                 \n  write a commented one:  tollgate init\
                 \n  or name yours:          tollgate run -c FILE",
                DEFAULT_FILES.join(" nor ")
            ));
            Failure::Config
        })
    }

    /// Reads and compiles the configuration. Findings are printed.
    pub(super) fn compile(&self) -> Result<Usable, Failure> {
        let path = self.path()?;
        match examine(&path) {
            Ok((usable, findings)) => {
                show(&findings, &usable.loaded.source);
                Ok(usable)
            }
            Err(Unusable::Unreadable(error)) => {
                say(&format!("tollgate: {error}"));
                Err(Failure::Config)
            }
            Err(Unusable::Wrong(findings, source)) => {
                show(&findings, &source);
                Err(Failure::Config)
            }
        }
    }
}

/// Why a configuration can't be used.
pub(super) enum Unusable {
    /// There is no text.
    Unreadable(LoadError),
    /// There are errors in it.
    Wrong(Vec<Diagnostic>, Source),
}

/// Reads and compiles a configuration; findings come along.
pub(super) fn examine(path: &Path) -> Result<(Usable, Vec<Diagnostic>), Unusable> {
    let mut loaded =
        config::load(path, &|name| std::env::var(name).ok()).map_err(Unusable::Unreadable)?;
    let state = State::new(&loaded.config);
    let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
    let snapshot = compile(
        &loaded.config,
        &loaded.source,
        &state,
        None,
        &mut diagnostics,
    );
    let findings = diagnostics.into_sorted();
    match snapshot {
        Some(snapshot) => Ok((
            Usable {
                loaded,
                snapshot,
                state,
                warnings: findings.len(),
            },
            findings,
        )),
        None => Err(Unusable::Wrong(findings, loaded.source)),
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Wrong(findings, source) => {
                f.write_str(config::render(findings, source, false).trim_end())
            }
        }
    }
}

/// Prints findings.
fn show(findings: &[Diagnostic], source: &Source) {
    if !findings.is_empty() {
        let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(config::render(findings, source, is_coloured).trim_end());
    }
}

/// Prints a line on standard error, whoever listens.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints on standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `tollgate schema | head` is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
