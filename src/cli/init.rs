//! `tollgate init`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::configuration::print;

/// The configuration to start from.
const STARTER: &str = include_str!("../../conf/starter.yaml");

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file to write; it must not exist. `-` is standard output
    #[arg(value_name = "FILE", default_value = "tollgate.yaml")]
    file: PathBuf,
}

/// Writes a commented configuration. Never overwrites one.
pub(super) fn init(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.file.as_os_str() == "-" {
        return print(STARTER);
    }
    let name = arguments.file.display();
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&arguments.file)
    {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::Other(format!(
                "{name} exists already, and was left as it is"
            )));
        }
        Err(error) => return Err(Failure::Other(format!("{name} can't be written: {error}"))),
    };
    file.write_all(STARTER.as_bytes())?;
    print(&format!("wrote {name}; try:  tollgate check -c {name}\n"))
}
