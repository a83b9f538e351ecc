//! `tollgate run`.

use super::configuration::{Usable, examine};
use super::{ConfigFile, Failure};
use crate::server::{self, Predecessor, Start};
use crate::telemetry::{AccessLog, LineRules, ProcessLog};

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
    let process_log = ProcessLog::start(usable.loaded.config.log.level);
    let access_log = AccessLog::default();
    let rules = usable.snapshot.access_log.as_ref();
    if let Err(error) = access_log.follow(rules.map(LineRules::destination)) {
        if let Some(predecessor) = &predecessor {
            predecessor.refuse_configuration(&error.to_string());
        }
        return Err(Failure::Other(error.to_string()));
    }
    server::run(Start {
        loaded: usable.loaded,
        snapshot: usable.snapshot,
        state: usable.state,
        access_log,
        process_log,
        predecessor,
    })
    .map_err(|error| Failure::Other(error.to_string()))
}
