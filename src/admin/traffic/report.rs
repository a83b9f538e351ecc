//! Traffic as it is shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::telemetry::{Outcomes, Tally};

/// The last hour, as `GET /traffic` shows it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TrafficReport {
    /// The seconds of a sample.
    pub step_s: u64,
    /// All requests, from the oldest sample to the newest that is over.
    pub samples: Vec<Sample>,
    /// The seconds until now that all of the following is about, at most 60; fewer after the start.
    pub window_s: u64,
    /// All requests.
    pub recent: Figures,
    /// The routes that had requests within the hour. `none` is what no route took, and `other` the routes that
    /// are not told apart (`metrics.max_routes`).
    pub routes: Vec<RouteTraffic>,
    /// The services with their endpoints.
    pub services: Vec<ServiceTraffic>,
    /// Why requests were refused, by the words of the access log's `flags`.
    pub refusals: Vec<Refused>,
    /// Why credentials were not accepted.
    pub credentials: Vec<CredentialsRefused>,
}

/// What came in some time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// When it began.
    pub time: String,
    /// The requests that ended.
    #[serde(flatten)]
    pub figures: Figures,
    /// Those of them that were refused: 401, 403 or 429.
    pub refused: u64,
    /// The most that were under way at the end of a second.
    pub in_flight: u64,
}

/// Requests by how they went and how long they took.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// All that ended.
    pub requests: u64,
    /// Those that were answered with 5xx, or not at all.
    pub errors: u64,
    /// Those that were answered with 4xx.
    pub client_errors: u64,
    /// The microseconds that half of them took at most; nothing if there were none.
    pub p50_us: Option<u64>,
    /// That 95 of a hundred took.
    pub p95_us: Option<u64>,
    /// That 99 of a hundred took.
    pub p99_us: Option<u64>,
}

/// A route's requests.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RouteTraffic {
    /// The service it belongs to.
    pub service: String,
    /// Its name: its path.
    pub route: String,
    /// Its requests.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its requests in each minute of the hour, the one that goes on last.
    pub requests_by_minute: Vec<u64>,
    /// Those of them that failed.
    pub errors_by_minute: Vec<u64>,
}

/// The attempts at a service's endpoints.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceTraffic {
    /// Its name.
    pub service: String,
    /// Attempts at all of its endpoints, and how long each took from the connection to the answer's header.
    #[serde(flatten)]
    pub figures: Figures,
    /// Its endpoints.
    pub endpoints: Vec<EndpointTraffic>,
}

/// The attempts at an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EndpointTraffic {
    /// Its URL.
    pub endpoint: String,
    /// Attempts that ended.
    pub requests: u64,
    /// Those that were answered with 5xx, or not at all.
    pub errors: u64,
}

/// Requests that were refused for a reason.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// The reason.
    pub reason: String,
    /// How many within `window_s`.
    pub requests: u64,
    /// How many since the start.
    pub total: u64,
}

/// Requests whose credentials were not accepted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CredentialsRefused {
    /// Whose word that is, such as `jwt`.
    pub mechanism: String,
    /// Why, and how many.
    #[serde(flatten)]
    pub refused: Refused,
}

/// What came in the last second, as `GET /events` tells it under the name `traffic`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// All requests.
    #[serde(flatten)]
    pub sample: Sample,
    /// The routes that had some, at most the 500 that had most.
    pub routes: Vec<LiveRoute>,
    /// The endpoints that had some, likewise.
    pub endpoints: Vec<LiveEndpoint>,
}

/// A route's last second.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LiveRoute {
    /// The service it belongs to.
    pub service: String,
    /// Its name.
    pub route: String,
    /// Its requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// An endpoint's last second.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LiveEndpoint {
    /// Its service.
    pub service: String,
    /// Its URL.
    pub endpoint: String,
    /// Attempts at it.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

impl Figures {
    pub(super) fn new(tally: &Tally) -> Self {
        let Outcomes {
            requests,
            errors,
            client_errors,
        } = tally.outcomes;
        Self {
            requests,
            errors,
            client_errors,
            p50_us: tally.durations.permille(500),
            p95_us: tally.durations.permille(950),
            p99_us: tally.durations.permille(990),
        }
    }
}
