//! Finds, reads and compiles the configuration that a command is about, and says what is wrong.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::{ConfigFile, Failure};
use crate::config::{self, Diagnostics, Loaded};
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
        let mut loaded = match config::load(&path, &|name| std::env::var(name).ok()) {
            Ok(loaded) => loaded,
            Err(error) => {
                say(&format!("tollgate: {error}"));
                return Err(Failure::Config);
            }
        };
        let state = State::new(&loaded.config);
        let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
        let snapshot = compile(&loaded.config, &loaded.source, &state, &mut diagnostics);
        let warnings = report(diagnostics, &loaded);
        match snapshot {
            Some(snapshot) => Ok(Usable {
                loaded,
                snapshot,
                state,
                warnings,
            }),
            None => Err(Failure::Config),
        }
    }
}

/// Prints findings; returns their number.
fn report(diagnostics: Diagnostics, loaded: &Loaded) -> usize {
    let findings = diagnostics.into_sorted();
    if !findings.is_empty() {
        let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let text = config::render(&findings, &loaded.source, is_coloured);
        say(text.trim_end());
    }
    findings.len()
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
