//! Certificates that the gateway gets by itself (ACME, RFC 8555): from which authority, how it proves that names
//! are its own, and when it asks again.
//!
//! All that is known stands in files: certificates, which a [`Snapshot`](crate::snapshot::Snapshot) is compiled
//! from like any others, the account, what authorities look for, and what came of attempts. So the process that
//! serves, its successor and other gateways with the same folder know the same, and a lock has one of them ask at
//! a time.

mod account;
mod challenges;
mod client;
mod compile;
mod issued;
mod keeper;
mod order;
mod renewal;
mod renewals;
mod storage;

use std::path::Path;
use std::sync::Arc;

pub use self::challenges::Challenges;
use self::compile::ExternalAccount;
pub use self::keeper::Keeper;
pub use self::renewals::{Renewal, Renewals};
use self::storage::Storage;
use crate::config::AcmeChallenge;

/// From whom certificates come, and how.
#[derive(Debug)]
pub struct Acme {
    /// The URL of the authority's directory.
    directory: Box<str>,
    /// As `mailto:` URLs.
    contact: Box<[String]>,
    external_account: Option<ExternalAccount>,
    /// Tried one after the other.
    challenges: Box<[AcmeChallenge]>,
    /// Who vouches for the authority itself, in PEM.
    authorities: Option<Arc<str>>,
    storage: Storage,
    shown: Challenges,
    known: Renewals,
}

impl Acme {
    /// Where the certificates are kept.
    pub fn certificates(&self) -> &Path {
        self.storage.certificates()
    }

    /// The answer to a request for this path, if an authority looks for it.
    pub fn answer(&self, path: &str) -> Option<Arc<str>> {
        self.shown.answer(path)
    }

    /// How it stands with the certificate in a file, once the process serves.
    pub fn renewal(&self, file: &Path) -> Option<Renewal> {
        self.known.of(file)
    }
}
