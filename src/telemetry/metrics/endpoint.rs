//! What is counted of attempts by the backend that they were made at.

use std::sync::Arc;

use super::class::{CLASSES, class_of};
use super::exposition::Exposition;
use super::series::{AllSeries, Series};
use super::tally::Outcomes;

pub(super) type EndpointSeries = Series<{ CLASSES.len() }>;
pub(super) type Endpoints = AllSeries<{ CLASSES.len() }>;

/// Counts the attempts at a backend.
#[derive(Debug, Clone)]
pub struct EndpointMeter {
    pub(super) series: Arc<EndpointSeries>,
    pub(super) is_own: bool,
}

impl EndpointMeter {
    /// Counts an attempt that was answered with this status; 0 if it was not answered.
    pub fn count(&self, status: u16) {
        self.series.counts.count(class_of(status));
    }

    /// How the attempts went so far.
    pub fn read(&self) -> Outcomes {
        Outcomes::of(&self.series.counts.sums())
    }

    /// Whether no other backend is counted with it.
    pub fn is_own(&self) -> bool {
        self.is_own
    }
}

pub(super) fn expose(endpoints: &Endpoints, page: &mut Exposition) {
    let mut attempts = page.counter(
        "tollgate_upstream_requests_total",
        "Attempts at backends by the class of what they answered.",
    );
    for series in endpoints.read() {
        for (class, count) in std::iter::zip(CLASSES, series.counts.sums()) {
            attempts.with(&series.labels, ("class", class), count);
        }
    }
}
