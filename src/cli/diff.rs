//! `tollgate diff`.

use std::path::PathBuf;

use clap::Args;

use super::configuration::{examine, print};
use super::operator::{self, Operator};
use super::{Failure, changes, reload};
use crate::snapshot::Changes;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: operator::Gateway,
    /// Another configuration to compare with, instead of the one that is in force
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// Prints what the configuration would change.
pub(super) fn diff(arguments: &Arguments) -> Result<(), Failure> {
    let Some(other) = &arguments.against else {
        let operator = Operator::find(&arguments.gateway)?;
        return reload::show(&operator.compare()?, "in force");
    };
    let old = examine(other)
        .map_err(|unusable| Failure::Other(unusable.to_string()))?
        .0
        .loaded;
    let new = arguments.gateway.file.compile()?.loaded;
    let changes = Changes::between(
        (&old.config, &old.source),
        (&new.config, &new.source),
        &old.config,
    );
    print(&changes::describe(&changes, "compared", 0))
}
