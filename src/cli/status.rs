//! `tollgate status`.

use std::fmt::Write;

use super::Failure;
use super::operator::{Operator, Question};
use crate::admin::{
    CertificateKind, Finding, Impaired, Phase, Reload, ReloadOutcome, Report, Trigger,
    UpgradeOutcome,
};

/// Prints how the running gateway is.
pub(super) fn status(question: &Question) -> Result<(), Failure> {
    question.ask(Operator::status, describe)
}

fn describe(report: &Report) -> String {
    let phase = match report.phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Draining => "ending with its last requests",
    };
    let mut out = format!(
        "Tollgate {}, process {}: {phase}\n",
        report.version, report.pid
    );
    let mut line = |name: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name:<14} {text}");
    };
    let origin = match report.upgraded_from {
        Some(pid) => format!(", in the place of process {pid}"),
        None => String::new(),
    };
    line("started", &format!("{}{origin}", report.started));
    let config = format!(
        "{}, number {} since {}",
        report.config, report.generation, report.loaded
    );
    line("configuration", &config);
    if let Some(reload) = &report.last_reload {
        line("last reload", &of_reload(reload));
        let errors = reload.findings.iter().filter(|it| it.severity == "error");
        for error in errors.filter(|_| reload.outcome == ReloadOutcome::Refused) {
            line("", &of_finding(error));
        }
    }
    if let Some(upgrade) = &report.last_upgrade {
        let outcome = match &upgrade.outcome {
            UpgradeOutcome::Succeeded { pid } => format!("process {pid} serves"),
            UpgradeOutcome::Failed { step, reason } => format!("failed at `{step}`: {reason}"),
        };
        line("last upgrade", &format!("{} {outcome}", upgrade.at));
    }
    if !report.needs_upgrade.is_empty() {
        let keys = report.needs_upgrade.join(", ");
        line("upgrade needed", &format!("for {keys}"));
    }
    let overload = match report.overload {
        0 => "none",
        1 => "requests of low priority are shed",
        2 => "all requests but those of high priority are shed",
        _ => "new connections are closed",
    };
    line("overload", overload);
    if let Some(store) = &report.limit_store {
        line("limit store", store);
    }
    for impaired in &report.impaired {
        line("impaired", &of_impaired(impaired));
    }
    for certificate in &report.certificates {
        let names = certificate.names.join(", ");
        let awaited = certificate.acme.as_ref().filter(|it| !it.is_there);
        let text = match awaited {
            None => format!(
                "{names} until {} ({})",
                certificate.expires, certificate.file
            ),
            Some(awaited) => match &awaited.error {
                None => format!("{names} is being asked for"),
                Some(error) => format!("{names} is not issued: {error}; again at {}", awaited.due),
            },
        };
        let what = match certificate.kind {
            CertificateKind::Server => "certificate",
            CertificateKind::ClientAuthority => "authority",
            CertificateKind::RevocationList => "revocation list",
        };
        line(what, &text);
    }
    out
}

fn of_reload(reload: &Reload) -> String {
    let by = match reload.by {
        Some(Trigger::Signal) => " by signal",
        Some(Trigger::FileChange) => " since a file changed",
        Some(Trigger::Api) => " on request",
        None => "",
    };
    let outcome = match reload.outcome {
        ReloadOutcome::Applied => "applied",
        ReloadOutcome::Refused => "refused",
        ReloadOutcome::Compared => "compared",
    };
    format!("{} {outcome}{by}", reload.at)
}

fn of_finding(finding: &Finding) -> String {
    format!("{}: {}", finding.place, finding.message)
}

fn of_impaired(impaired: &Impaired) -> String {
    let mut parts = Vec::new();
    let is_forced = impaired.circuit_is.starts_with("forced");
    if impaired.circuit != "closed" || is_forced {
        let by = if is_forced { " by hand" } else { "" };
        let circuit = impaired.circuit.replace('_', " ");
        parts.push(format!("circuit {circuit}{by}"));
    }
    for (word, endpoints) in [
        ("ejected", &impaired.ejected),
        ("down", &impaired.down),
        ("drained", &impaired.drained),
    ] {
        if !endpoints.is_empty() {
            parts.push(format!("{word}: {}", endpoints.join(", ")));
        }
    }
    format!("{}: {}", impaired.service, parts.join("; "))
}
