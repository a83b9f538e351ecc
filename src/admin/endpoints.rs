//! How the backends are, each for itself: as many as have metrics of their own.

use std::collections::HashSet;
use std::time::Instant;

use crate::snapshot::Snapshot;
use crate::telemetry::Exposition;
use crate::upstream::{EndpointState, Standing};

/// How each backend stands.
pub(super) fn expose(snapshot: &Snapshot, now: Instant, page: &mut Exposition) {
    let mut endpoints = Vec::new();
    for service in snapshot.services() {
        // What a name leads to may stand in the list of targets, too.
        let mut known = HashSet::new();
        for standing in service.standings(now) {
            let is_first = known.insert(standing.endpoint.as_str().to_owned());
            if is_first && standing.endpoint.is_counted_alone() {
                endpoints.push((&*service.name, standing));
            }
        }
    }
    let mut states = page.gauge(
        "tollgate_endpoint_state",
        "Whether backends get requests: 1 for the state that they are in.",
    );
    for (service, standing) in &endpoints {
        let [service, endpoint] = labels(service, standing);
        for (state, word) in EndpointState::ALL {
            let is_so = u64::from(standing.state == state);
            states.sample(&[service, endpoint, ("state", word)], is_so);
        }
    }
    let mut in_flight = page.gauge(
        "tollgate_endpoint_requests_in_flight",
        "Requests under way to backends.",
    );
    for (service, standing) in &endpoints {
        in_flight.sample(&labels(service, standing), standing.in_flight.into());
    }
    let mut latencies = page.gauge(
        "tollgate_endpoint_latency_seconds",
        "How long answers of backends take, where requests are shared by that.",
    );
    for (service, standing) in &endpoints {
        if let Some(latency) = standing.latency {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            latencies.sample_micros(&labels(service, standing), micros);
        }
    }
}

fn labels<'l>(service: &'l str, standing: &'l Standing) -> [(&'static str, &'l str); 2] {
    [
        ("service", service),
        ("endpoint", standing.endpoint.as_str()),
    ]
}
