//! What is counted of the process, as Prometheus reads it.

use prometheus::{Encoder, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::consumers::ConsumerRequests;
use super::decisions::LimitDecisions;
use super::tracing::Traces;

/// The counters. Their names are part of what users rely on.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reloads: IntCounterVec,
    is_last_reload_applied: IntGauge,
    generation: IntGauge,
    upgrades: IntCounterVec,
}

impl Metrics {
    /// Counters at zero, beside those of the consumers and the limits.
    pub fn new(consumers: &ConsumerRequests, limits: &LimitDecisions) -> Self {
        let counter = |name: &str, help: &str, first: &str, second: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["outcome"])
                .expect("the name is a metric's");
            // Counters that appear with their first event hide it from `rate()`.
            counter.with_label_values(&[first]);
            counter.with_label_values(&[second]);
            counter
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the name is a metric's");
            gauge.set(1);
            gauge
        };
        let metrics = Self {
            registry: Registry::new(),
            reloads: counter(
                "tollgate_config_reloads_total",
                "Reloads of the configuration.",
                "applied",
                "refused",
            ),
            is_last_reload_applied: gauge(
                "tollgate_config_last_reload_successful",
                "Whether the last reload was applied: 0 while a configuration waits to be corrected.",
            ),
            generation: gauge(
                "tollgate_config_generation",
                "The number of the configuration in force, counted from 1 since the start.",
            ),
            upgrades: counter(
                "tollgate_upgrades_total",
                "Upgrades from this process to another.",
                "succeeded",
                "failed",
            ),
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 6] = [
            consumers.collector(),
            limits.collector(),
            Box::new(metrics.reloads.clone()),
            Box::new(metrics.is_last_reload_applied.clone()),
            Box::new(metrics.generation.clone()),
            Box::new(metrics.upgrades.clone()),
        ];
        for collector in collectors {
            metrics
                .registry
                .register(collector)
                .expect("each name is registered once");
        }
        metrics
    }

    /// Beside them those of the traces.
    #[must_use]
    pub fn with_traces(self, traces: &Traces) -> Self {
        for collector in traces.collectors() {
            self.registry
                .register(collector)
                .expect("each name is registered once");
        }
        self
    }

    /// A reload was applied or refused, and the configuration of this number is in force.
    pub fn reloaded(&self, is_applied: bool, generation: u64) {
        let outcome = if is_applied { "applied" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
        self.is_last_reload_applied.set(i64::from(is_applied));
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// An upgrade was tried.
    pub fn upgraded(&self, is_success: bool) {
        let outcome = if is_success { "succeeded" } else { "failed" };
        self.upgrades.with_label_values(&[outcome]).inc();
    }

    /// All of them, in the text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("metrics can't be written: {error}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
