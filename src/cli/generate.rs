//! What is made of the program itself: schema, completions, manual page, version.

use clap::Command;
use clap_complete::Shell;

use super::Failure;
use super::configuration::print;
use crate::config;

pub(super) fn schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&config::schema())
        .map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{text}\n"))
}

pub(super) fn completions(shell: Shell, command: &mut Command) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, command, "tollgate", &mut out);
    print(&String::from_utf8_lossy(&out))
}

pub(super) fn manual(command: Command) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command).render(&mut out)?;
    print(&String::from_utf8_lossy(&out))
}

pub(super) fn version() -> Result<(), Failure> {
    print(&format!("tollgate {}\n", env!("CARGO_PKG_VERSION")))
}
