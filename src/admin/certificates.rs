//! The certificates that clients are shown, and how long they are good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::telemetry::Exposition;
use crate::tls::Certificate;

/// A certificate that clients are shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ShownCertificate {
    /// Its file, as written in the configuration.
    pub file: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// The last moment at which clients accept it.
    pub expires: String,
    /// Whole days until then; less than 0 once it has passed.
    #[serde(default)]
    pub days_left: i64,
    /// If the gateway gets it by itself: how it stands with that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<AutomaticCertificate>,
}

/// A certificate that the gateway gets by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AutomaticCertificate {
    /// Whether it is there; until then clients are shown one that they don't trust.
    pub is_there: bool,
    /// When it is asked for next.
    pub due: String,
    /// Attempts since the last one that succeeded.
    pub failures: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All of them, those first that expire first.
pub(super) fn list(snapshot: &Snapshot) -> Vec<ShownCertificate> {
    let mut certificates: Vec<_> = snapshot.listeners.certificates().collect();
    certificates.sort_by_key(|certificate| certificate.expires);
    let shown = certificates
        .into_iter()
        .map(|certificate| ShownCertificate {
            file: certificate.file.to_string(),
            names: certificate.names.iter().map(str::to_owned).collect(),
            expires: text(certificate.expires),
            days_left: days_until(certificate.expires),
            acme: automatic(certificate, snapshot),
        });
    shown.collect()
}

fn automatic(certificate: &Certificate, snapshot: &Snapshot) -> Option<AutomaticCertificate> {
    let file = &certificate.automatic.as_ref()?.file;
    let renewal = snapshot.acme.as_ref()?.renewal(file)?;
    Some(AutomaticCertificate {
        is_there: !certificate.is_awaited,
        due: text(renewal.due),
        failures: renewal.failures,
        error: renewal.error,
    })
}

fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |it| it.to_string())
}

fn days_until(expires: SystemTime) -> i64 {
    let days = |time: Duration| i64::try_from(time.as_secs() / 86_400).unwrap_or(i64::MAX);
    match expires.duration_since(SystemTime::now()) {
        Ok(left) => days(left),
        Err(passed) => -1 - days(passed.duration()),
    }
}

/// When they expire.
pub(super) fn expose(snapshot: &Snapshot, page: &mut Exposition) {
    let certificates = snapshot.listeners.certificates();
    let mut certificates: Vec<_> = certificates.filter(|it| !it.is_awaited).collect();
    // Several listeners may show the same one.
    certificates.sort_by_key(|it| (&it.file, it.fingerprint));
    certificates.dedup_by_key(|it| &it.file);
    if certificates.is_empty() {
        return;
    }
    let mut expiries = page.gauge(
        "tollgate_tls_certificate_expiry_seconds",
        "When a certificate expires, in seconds since 1970.",
    );
    for certificate in certificates {
        let since = certificate.expires.duration_since(UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        expiries.sample(&[("certificate", &certificate.file)], seconds);
    }
}
