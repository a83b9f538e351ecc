//! What operators are told of the certificates that the gateway gets by itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::telemetry::{Exposed, Exposition};

/// How it stands with one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// When it is asked for next.
    pub due: SystemTime,
    /// Attempts since the last one that succeeded.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// All of them, and what came of attempts since the process started.
#[derive(Debug, Clone, Default)]
pub struct Renewals(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By their files.
    all: ArcSwap<HashMap<PathBuf, Renewal>>,
    issued: AtomicU64,
    failed: AtomicU64,
}

impl Renewals {
    /// How it stands with the certificate in a file.
    pub(super) fn of(&self, file: &Path) -> Option<Renewal> {
        self.0.all.load().get(file).cloned()
    }

    pub(super) fn replace(&self, all: HashMap<PathBuf, Renewal>) {
        self.0.all.store(Arc::new(all));
    }

    pub(super) fn count(&self, is_issued: bool) {
        let count = match is_issued {
            true => &self.0.issued,
            false => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Exposed for Renewals {
    fn expose(&self, page: &mut Exposition) {
        let counts = [("issued", &self.0.issued), ("failed", &self.0.failed)];
        let mut orders = page.counter(
            "tollgate_acme_orders_total",
            "Certificates that were asked for, by what came of it.",
        );
        for (result, count) in counts {
            orders.sample(&[("result", result)], count.load(Ordering::Relaxed));
        }
    }
}
