//! `tollgate reload`.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::configuration::{print, say};
use super::operator::{Gateway, Operator};
use super::{Failure, changes};
use crate::admin::{Reload, ReloadOutcome};

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the running gateway load its configuration again.
pub(super) fn reload(gateway: &Gateway) -> Result<(), Failure> {
    let operator = Operator::find(gateway)?;
    let reload = if operator.has_token() {
        operator.reload()?
    } else {
        let before = operator.status()?;
        operator.signal(&before, Signal::SIGHUP)?;
        operator.await_status(PATIENCE, |report| {
            let is_newer = report.pid == before.pid && report.reloads > before.reloads;
            report.last_reload.clone().filter(|_| is_newer)
        })?
    };
    show(&reload, "reloaded")
}

/// Prints how a reload, or a look at one, went.
pub(super) fn show(reload: &Reload, done: &str) -> Result<(), Failure> {
    if !reload.report.is_empty() {
        say(reload.report.trim_end());
    }
    if reload.outcome == ReloadOutcome::Refused {
        say(&format!(
            "tollgate: refused; configuration {} stays in force",
            reload.generation
        ));
        return Err(Failure::Config);
    }
    print(&changes::describe(&reload.changes, done, reload.generation))
}
