//! The certificates that clients are shown, what they are verified by themselves, and how long all that is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::telemetry::Exposition;
use crate::tls::Certificate;

/// Something that TLS with clients depends on, and that ends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ShownCertificate {
    /// What it is.
    #[serde(default)]
    pub kind: CertificateKind,
    /// Its file, as written in the configuration.
    pub file: String,
    /// The names that it is for, or what the authority is called.
    pub names: Vec<String>,
    /// The last moment at which it is accepted; of a list of revoked certificates, at which it is true.
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

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// A certificate that clients are shown.
    #[default]
    Server,
    /// An authority that vouches for clients.
    ClientAuthority,
    /// A list of clients' certificates that are revoked.
    RevocationList,
}

/// All of them, those first that expire first.
pub(super) fn list(snapshot: &Snapshot) -> Vec<ShownCertificate> {
    let listeners = &snapshot.listeners;
    let certificates = listeners.certificates().map(|it| {
        let names = it.names.iter().map(str::to_owned).collect();
        let kind = CertificateKind::Server;
        (kind, &it.file, names, it.expires, automatic(it, snapshot))
    });
    let authorities = listeners.verifications().flat_map(|it| &it.authorities);
    let authorities = authorities.map(|it| {
        let kind = CertificateKind::ClientAuthority;
        (kind, &it.file, vec![it.name.to_string()], it.expires, None)
    });
    let lists = listeners.verifications().flat_map(|it| &it.lists);
    let lists = lists.map(|it| {
        let kind = CertificateKind::RevocationList;
        (kind, &it.file, vec![it.issuer.to_string()], it.until, None)
    });
    let mut all: Vec<_> = certificates.chain(authorities).chain(lists).collect();
    all.sort_by_key(|(_, _, _, expires, _)| *expires);
    let shown = all
        .into_iter()
        .map(|(kind, file, names, expires, automatic)| ShownCertificate {
            kind,
            file: file.to_string(),
            names,
            expires: text(expires),
            days_left: days_until(expires),
            acme: automatic,
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
    let listeners = &snapshot.listeners;
    let of_servers = listeners.certificates().filter(|it| !it.is_awaited);
    let of_servers = of_servers.map(|it| (&*it.file, it.expires));
    let authorities = listeners.verifications().flat_map(|it| &it.authorities);
    let of_authorities = authorities.map(|it| (&*it.file, it.expires));
    let lists = listeners.verifications().flat_map(|it| &it.lists);
    let of_lists = lists.map(|it| (&*it.file, it.until));
    gauge(
        page,
        "tollgate_tls_certificate_expiry_seconds",
        "When a certificate expires, in seconds since 1970.",
        ("certificate", of_servers.collect()),
    );
    gauge(
        page,
        "tollgate_tls_client_authority_expiry_seconds",
        "When the first authority for clients in a file expires, in seconds since 1970.",
        ("authority", of_authorities.collect()),
    );
    gauge(
        page,
        "tollgate_tls_revocation_list_expiry_seconds",
        "When the first list of revoked certificates in a file is no longer true, in seconds since 1970.",
        ("list", of_lists.collect()),
    );
}

/// Files by what ends first in them; several listeners may name the same one.
fn gauge(
    page: &mut Exposition,
    name: &'static str,
    help: &'static str,
    (label, mut files): (&str, Vec<(&str, SystemTime)>),
) {
    if files.is_empty() {
        return;
    }
    files.sort();
    files.dedup_by_key(|(file, _)| *file);
    let mut expiries = page.gauge(name, help);
    for (file, expires) in files {
        let since = expires.duration_since(UNIX_EPOCH);
        expiries.sample(&[(label, file)], since.unwrap_or_default().as_secs());
    }
}
