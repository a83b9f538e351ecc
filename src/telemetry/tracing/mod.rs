//! Traces: which one a request belongs to, which spans of it are exported, and their way out.
//!
//! Requests record what happens to them as plain facts ([`Trace`]), and only those whose spans are exported
//! put them into a bounded queue ([`Traces`]). What spans are called and say, and the collector that they
//! are sent to, is the exporter's business, far from requests.

mod b3;
mod collector;
mod exporter;
mod fields;
mod id;
mod propagation;
mod queue;
mod sampler;
mod spans;
mod trace;
mod tracestate;
mod w3c;

use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;

pub use collector::Collector;
pub use exporter::{Exporter, Problem};
pub use id::{SpanId, TraceId};
pub use propagation::{Incoming, Outgoing, Parent, Said};
pub use queue::Traces;
pub use trace::{Attempt, Phase, PhaseSpan, Trace};
pub use tracestate::StateFate;

use self::propagation::Propagation;
use self::sampler::Sampler;
use crate::config::{self, Diagnostics};

/// Tracing as configured.
#[derive(Debug)]
pub struct Tracing {
    propagation: Propagation,
    sampler: Sampler,
    collector: Option<Collector>,
    traces: Arc<Traces>,
}

impl Tracing {
    /// Resolves the section, or reports what is wrong with it. Relative paths start from `base`.
    pub fn compile(
        section: &config::Tracing,
        base: &Path,
        traces: &Arc<Traces>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let propagation = Propagation::compile(&section.propagate, diagnostics);
        let sampler = Sampler::compile(&section.sample.0, diagnostics);
        let collector = Collector::compile(section, base, diagnostics);
        Some(Self {
            propagation: propagation?,
            sampler: sampler?,
            collector: collector?,
            traces: traces.clone(),
        })
    }

    /// Whether it is the same in all that matters.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.propagation == other.propagation
            && self.sampler == other.sampler
            && self.collector == other.collector
    }

    /// Which trace a request says that it belongs to, if it does.
    pub fn read(&self, headers: &HeaderMap) -> Incoming {
        self.propagation.read(headers)
    }

    /// Decides whether the spans of a request are exported, whatever becomes of it. `incoming` may have
    /// decided that, if it is believed.
    pub fn decide(&self, trace: TraceId, incoming: &Incoming, is_trusted: bool) -> bool {
        self.sampler.decide(trace, incoming, is_trusted)
    }

    /// Whether the spans of a request that took so long are exported, though it was decided otherwise.
    pub fn is_notable(&self, is_failure: bool, took: std::time::Duration) -> bool {
        self.sampler.is_notable(is_failure, took)
    }

    /// Whether spans of a request about which it was `decided` so may be exported.
    pub fn may_export(&self, decided: bool) -> bool {
        self.collector.is_some() && (decided || self.sampler.looks_back())
    }

    /// Writes the fields that say which span is the parent of what a request leads to.
    pub fn write(&self, outgoing: &Outgoing, headers: &mut HeaderMap) {
        self.propagation.write(outgoing, headers);
    }

    /// Has a trace exported, if there is room.
    pub fn export(&self, trace: Trace) {
        self.traces.push(trace);
    }

    /// Where spans are sent.
    pub fn collector(&self) -> Option<&Collector> {
        self.collector.as_ref()
    }
}
