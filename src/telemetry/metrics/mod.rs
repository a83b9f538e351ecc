//! What is counted of the process and its requests, as Prometheus reads it.
//!
//! Whoever counts has a meter that was bound when the configuration was compiled, and writes to its own
//! thread's counts. Reading adds them up, beside the requests and without making one wait.

mod access_log;
mod calls;
mod class;
mod endpoint;
mod exposition;
mod flags;
mod histogram;
mod lines;
mod meters;
mod process;
mod route;
mod series;
mod service;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(super) use class::{CLASSES, class_of};
pub use endpoint::EndpointMeter;
pub use exposition::{Exposition, Family, Format};
pub(crate) use lines::Lines;
pub use meters::{Meters, SeriesBounds};
pub use process::Process;
pub use route::{Measured, RouteMeter};
pub(super) use series::{AllSeries, OTHERS, Series};
pub use service::{Phase, ServiceEvent, ServiceMeter};
pub use tally::{Durations, Outcomes, Tally};

/// What can be read.
pub trait Exposed: std::fmt::Debug + Send + Sync {
    /// Writes all of it. Each name is written by one alone.
    fn expose(&self, page: &mut Exposition);
}

/// What is counted of the process. The names are part of what users rely on.
#[derive(Debug, Default)]
pub struct Metrics {
    sources: Vec<Arc<dyn Exposed>>,
    reloads: Attempts,
    is_last_reload_refused: AtomicU64,
    /// Counted from 0.
    generation: AtomicU64,
    upgrades: Attempts,
    /// Bytes of the last page.
    length: AtomicUsize,
}

/// How often something went well, and how often not.
#[derive(Debug, Default)]
struct Attempts {
    good: AtomicU64,
    bad: AtomicU64,
}

impl Attempts {
    fn count(&self, is_good: bool) {
        let count = if is_good { &self.good } else { &self.bad };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn expose(&self, mut family: Family<'_>, good: &str, bad: &str) {
        for (count, word) in [(&self.good, good), (&self.bad, bad)] {
            family.sample(&[("outcome", word)], count.load(Ordering::Relaxed));
        }
    }
}

impl Metrics {
    /// With what is counted elsewhere.
    #[must_use]
    pub fn with(mut self, source: impl Exposed + 'static) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// A reload was applied or refused, and the configuration of this number is in force.
    pub fn reloaded(&self, is_applied: bool, generation: u64) {
        self.reloads.count(is_applied);
        self.is_last_reload_refused
            .store(u64::from(!is_applied), Ordering::Relaxed);
        self.generation.store(generation - 1, Ordering::Relaxed);
    }

    /// An upgrade was tried.
    pub fn upgraded(&self, is_success: bool) {
        self.upgrades.count(is_success);
    }

    /// A page of all that is counted, `more` included, whose writer takes a `rest` now and then.
    ///
    /// Its text is given away, so that the next one is made anew, of the size that the last one had.
    pub fn page(&self, format: Format, rest: fn(), more: impl FnOnce(&mut Exposition)) -> String {
        let length = self.length.load(Ordering::Relaxed);
        let mut page = Exposition::new(format, length + length / 8).with_rests(rest);
        self.expose(&mut page);
        for source in &self.sources {
            source.expose(&mut page);
        }
        more(&mut page);
        let text = page.finish();
        self.length.store(text.len(), Ordering::Relaxed);
        text
    }

    fn expose(&self, page: &mut Exposition) {
        let mut build = page.gauge("tollgate_build_info", "The program: always 1.");
        build.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let reloads = page.counter(
            "tollgate_config_reloads_total",
            "Reloads of the configuration.",
        );
        self.reloads.expose(reloads, "applied", "refused");
        let mut last = page.gauge(
            "tollgate_config_last_reload_successful",
            "Whether the last reload was applied: 0 while a configuration waits to be corrected.",
        );
        let is_refused = self.is_last_reload_refused.load(Ordering::Relaxed);
        last.sample(&[], 1 - is_refused);
        let mut generation = page.gauge(
            "tollgate_config_generation",
            "The number of the configuration in force, counted from 1 since the start.",
        );
        generation.sample(&[], self.generation.load(Ordering::Relaxed) + 1);
        let upgrades = page.counter(
            "tollgate_upgrades_total",
            "Upgrades from this process to another.",
        );
        self.upgrades.expose(upgrades, "succeeded", "failed");
    }
}
