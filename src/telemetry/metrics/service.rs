//! What is counted of the exchanges with a service's backends, and of what befalls it.

use std::sync::Arc;
use std::time::Duration;

use super::exposition::Exposition;
use super::histogram;
use super::series::{AllSeries, Series};
use super::tally::Durations;

/// Durations that are observed, in the order of [`DURATIONS`].
const HISTOGRAMS: usize = DURATIONS.len() * histogram::COUNTS;

pub(super) type ServiceSeries = Series<{ HISTOGRAMS + EVENTS }>;
pub(super) type Services = AllSeries<{ HISTOGRAMS + EVENTS }>;

/// Counts for a service.
#[derive(Debug, Clone)]
pub struct ServiceMeter {
    pub(super) series: Arc<ServiceSeries>,
    pub(super) is_own: bool,
}

/// What takes time on the way to an answer of a backend.
#[derive(Debug, Clone, Copy)]
pub enum Phase {
    /// From the request's arrival until its first backend was chosen.
    Pipeline,
    /// Until a new connection was there.
    Connect,
    /// From the connection to the answer's header.
    FirstByte,
}

const DURATIONS: [(&str, &str); 3] = [
    (
        "tollgate_pipeline_duration_seconds",
        "From the arrival of requests until their first backend was chosen: the gateway's own time.",
    ),
    (
        "tollgate_upstream_connect_duration_seconds",
        "How long new connections to backends took, TLS included.",
    ),
    (
        "tollgate_upstream_first_byte_duration_seconds",
        "From a connection to a backend to the header of its answer.",
    ),
];

/// The events of services, and the families that count them: for each event its labels as they are written.
macro_rules! events {
    ($($name:literal, $help:literal { $($(#[$doc:meta])* $event:ident = $labels:literal,)* })*) => {
        /// What befalls a service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ServiceEvent {
            $($($(#[$doc])* $event,)*)*
        }

        const EVENTS: usize = [$($(ServiceEvent::$event),*),*].len();

        type Counted = &'static [(ServiceEvent, &'static str)];
        const FAMILIES: &[(&str, &str, Counted)] = &[
            $(($name, $help, &[$((ServiceEvent::$event, $labels)),*])),*
        ];
    };
}

events! {
    "tollgate_upstream_connections_total", "Connections to backends that requests were given, and those that could not be made." {
        /// A new connection.
        Opened = r#"result="opened""#,
        /// One from the pool.
        Reused = r#"result="reused""#,
        /// Nobody listened.
        Refused = r#"result="refused""#,
        /// It took too long.
        ConnectTimedOut = r#"result="timeout""#,
        /// Its certificate or its TLS was not accepted.
        TlsFailed = r#"result="tls_failed""#,
        /// It failed for another reason.
        ConnectFailed = r#"result="failed""#,
    }
    "tollgate_upstream_tls_handshakes_total", "TLS handshakes with backends." {
        /// It succeeded.
        HandshakeDone = r#"result="succeeded""#,
        /// It failed.
        HandshakeFailed = r#"result="failed""#,
    }
    "tollgate_retries_total", "Attempts that failed in a way that is repeated, and whether they were." {
        /// After a connection that could not be opened.
        RetriedConnect = r#"reason="connect_failure",outcome="made""#,
        /// After a connection that broke.
        RetriedReset = r#"reason="reset",outcome="made""#,
        /// After no answer in time.
        RetriedTimeout = r#"reason="timeout",outcome="made""#,
        /// After an answer of this status.
        RetriedStatus = r#"reason="status",outcome="made""#,
        /// Not, for lack of budget or since the circuit is not closed, after a connection that could not be
        /// opened.
        RefusedConnect = r#"reason="connect_failure",outcome="refused""#,
        /// Nor after one that broke.
        RefusedReset = r#"reason="reset",outcome="refused""#,
        /// Nor after no answer in time.
        RefusedTimeout = r#"reason="timeout",outcome="refused""#,
        /// Nor after an answer.
        RefusedStatus = r#"reason="status",outcome="refused""#,
    }
    "tollgate_hedges_total", "Second attempts that began while the first went on, and whether they answered first." {
        /// The second attempt answered first.
        HedgeWon = r#"outcome="won""#,
        /// The first one did.
        HedgeLost = r#"outcome="lost""#,
    }
    "tollgate_mirrored_requests_total", "Copies of requests that were sent to the service." {
        /// It was answered.
        MirrorAnswered = r#"result="answered""#,
        /// It was not.
        MirrorFailed = r#"result="failed""#,
        /// Its body was too large to be kept for it.
        MirrorDropped = r#"result="dropped""#,
    }
    "tollgate_circuit_breaker_transitions_total", "How often the circuit of the service has opened and closed." {
        /// The circuit opened.
        CircuitOpened = r#"to="open""#,
        /// It closed.
        CircuitClosed = r#"to="closed""#,
    }
    "tollgate_endpoint_ejections_total", "Backends that were given no requests for a while because they failed." {
        /// A backend was ejected.
        Ejected = r#"reason="outlier""#,
    }
    "tollgate_health_checks_total", "Checks whether backends are well." {
        /// It is.
        CheckPassed = r#"result="passed""#,
        /// It is not.
        CheckFailed = r#"result="failed""#,
    }
}

impl ServiceMeter {
    /// Counts an event.
    pub fn count(&self, event: ServiceEvent) {
        self.series.counts.count(HISTOGRAMS + event as usize);
    }

    /// Whether no other service is counted with it.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// How long something took so far.
    pub fn durations(&self, phase: Phase) -> Durations {
        let start = phase as usize * histogram::COUNTS;
        Durations::of(&self.series.counts.sums()[start..])
    }

    /// Observes how long something took.
    pub fn observe(&self, phase: Phase, took: Duration) {
        let start = phase as usize * histogram::COUNTS;
        histogram::observe(self.series.counts.mine(), start, took);
    }
}

pub(super) fn expose(services: &Services, page: &mut Exposition) {
    let services = services.sums(page);
    for (number, (name, help)) in DURATIONS.into_iter().enumerate() {
        let mut durations = page.histogram(name, help);
        let start = number * histogram::COUNTS;
        for (sums, series) in &services {
            if !series.counts.is_untouched() {
                let counts = &sums[start..start + histogram::COUNTS];
                histogram::write(&mut durations, series.labels.as_str(), counts);
            }
        }
    }
    for (name, help, events) in FAMILIES {
        let mut family = page.counter(name, help);
        for (sums, series) in &services {
            for (event, labels) in *events {
                family.both(&series.labels, labels, sums[HISTOGRAMS + *event as usize]);
            }
        }
    }
}
