//! `tollgate upgrade`.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Failure;
use super::configuration::print;
use super::operator::{Gateway, Operator};
use crate::admin::{Phase, Report, UpgradeOutcome};

/// The steps that may each take their time.
const STEPS: u32 = 5;

/// Has the running process succeeded by a new one.
pub(super) fn upgrade(gateway: &Gateway) -> Result<(), Failure> {
    let operator = Operator::find(gateway)?;
    let before = operator.status()?;
    let begun = Instant::now();
    operator.signal(&before, Signal::SIGUSR2)?;
    let patience = operator.upgrade_timeout * STEPS + Duration::from_secs(10);
    let after = operator.await_status(patience, |report| outcome(&before, report))?;
    match after {
        Ok(after) => print(&format!(
            "upgraded: pid {} → {}, version {} → {}, in {:.1} s\n",
            before.pid,
            after.pid,
            before.version,
            after.version,
            begun.elapsed().as_secs_f64()
        )),
        Err((step, reason)) => Err(Failure::Other(format!(
            "the upgrade failed at step `{step}`; process {} goes on as before\n\n{reason}",
            before.pid
        ))),
    }
}

/// What a status says of the upgrade that began after `before`.
fn outcome(before: &Report, report: &Report) -> Option<Result<Report, (String, String)>> {
    if report.upgraded_from == Some(before.pid) && report.phase == Phase::Serving {
        return Some(Ok(report.clone()));
    }
    let is_new = report.pid == before.pid && report.upgrades > before.upgrades;
    match &report.last_upgrade.as_ref().filter(|_| is_new)?.outcome {
        UpgradeOutcome::Failed { step, reason } => Some(Err((step.clone(), reason.clone()))),
        // It is the new process that tells of its success.
        UpgradeOutcome::Succeeded { .. } => None,
    }
}
