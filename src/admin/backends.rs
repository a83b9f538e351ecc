//! Services and their endpoints, one by one: `GET /services` shows them; `POST /drain`, `/enable` and `/circuit`
//! say which of them get requests.

use std::time::Instant;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::query::Query;
use super::services::word;
use crate::snapshot::Snapshot;
use crate::upstream::{CircuitMode, EndpointState, Service, Standing};

/// A service and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReport {
    /// Its name; one that decides about requests is called `auth_providers.NAME`.
    pub service: String,
    /// Where it is written, `file:line:column`.
    pub place: String,
    /// Where its circuit stands: `closed`, `half_open` or `open`.
    pub circuit: String,
    /// Who says so: `automatic`, or operators: `forced_open`, `forced_closed`.
    pub circuit_is: String,
    /// Requests under way to it; connections that were handed over to another protocol are none.
    pub in_flight: u32,
    /// Attempts at its endpoints since the start; absent if some are counted with those of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Those of them that were answered with 5xx or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointReport>,
}

/// An endpoint and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointReport {
    /// `scheme://host:port`.
    pub endpoint: String,
    /// Whether it gets requests: `healthy` if so; `unhealthy` by its checks, `ejected` for what it answered,
    /// or `drained` by operators.
    pub state: String,
    /// Whether operators have taken it out of service.
    pub is_drained: bool,
    /// Requests under way to it.
    pub in_flight: u32,
    /// How long its answers take, in microseconds, where requests are shared by that and some have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// Its share of the requests, compared with those of the others.
    pub weight: u32,
    /// Attempts at it since the start; absent if it is counted with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Those of them that were answered with 5xx or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<u64>,
}

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Wrong(String),
    #[error("no service is called `{0}`; `GET /services` lists them")]
    NoService(String),
    #[error("`{service}` has no endpoint `{endpoint}`; it has {there}")]
    NoEndpoint {
        service: String,
        endpoint: String,
        there: String,
    },
}

/// All services.
pub(super) fn list(snapshot: &Snapshot) -> Answer {
    let now = Instant::now();
    let services = snapshot.placed_services();
    let reports: Vec<_> = services
        .map(|(service, place)| ServiceReport::of(service, place, now))
        .collect();
    Answer::json(StatusCode::OK, &reports)
}

/// Has an endpoint get no more requests.
pub(super) fn drain(snapshot: &Snapshot, query: &str) -> Answer {
    answer(change_endpoint(snapshot, query, Service::drain))
}

/// Has an endpoint get requests again.
pub(super) fn enable(snapshot: &Snapshot, query: &str) -> Answer {
    answer(change_endpoint(snapshot, query, |service, endpoint| {
        service.enable(endpoint, Instant::now())
    }))
}

/// Has a circuit be open or closed, or lets its rule decide again.
pub(super) fn force(snapshot: &Snapshot, query: &str) -> Answer {
    answer(change_circuit(snapshot, query))
}

fn change_endpoint(
    snapshot: &Snapshot,
    query: &str,
    change: impl FnOnce(&Service, &str) -> bool,
) -> Result<ServiceReport, Refusal> {
    let query = Query::read(query, &["service", "endpoint"]).map_err(Refusal::Wrong)?;
    let (service, place) = find(snapshot, &query)?;
    let endpoint = query.required("endpoint").map_err(Refusal::Wrong)?;
    let is_known = change(service, endpoint);
    let report = ServiceReport::of(service, place, Instant::now());
    if is_known {
        return Ok(report);
    }
    let there: Vec<_> = report.endpoints.into_iter().map(|it| it.endpoint).collect();
    Err(Refusal::NoEndpoint {
        service: report.service,
        endpoint: endpoint.to_owned(),
        there: match there.is_empty() {
            true => "none".to_owned(),
            false => there.join(", "),
        },
    })
}

fn change_circuit(snapshot: &Snapshot, query: &str) -> Result<ServiceReport, Refusal> {
    let query = Query::read(query, &["service", "state"]).map_err(Refusal::Wrong)?;
    let (service, place) = find(snapshot, &query)?;
    let mode = match query.required("state").map_err(Refusal::Wrong)? {
        "open" => CircuitMode::ForcedOpen,
        "closed" => CircuitMode::ForcedClosed,
        "automatic" => CircuitMode::Automatic,
        other => {
            let text = format!("`state={other}` is no state: `open`, `closed` or `automatic`");
            return Err(Refusal::Wrong(text));
        }
    };
    service.force_circuit(mode);
    Ok(ServiceReport::of(service, place, Instant::now()))
}

fn find<'s>(snapshot: &'s Snapshot, query: &Query<'_>) -> Result<(&'s Service, &'s str), Refusal> {
    let name = query.required("service").map_err(Refusal::Wrong)?;
    let mut services = snapshot.placed_services();
    let found = services.find(|(service, _)| *service.name == *name);
    found
        .map(|(service, place)| (&**service, place))
        .ok_or_else(|| Refusal::NoService(name.to_owned()))
}

fn answer(result: Result<ServiceReport, Refusal>) -> Answer {
    match result {
        Ok(report) => Answer::json(StatusCode::OK, &report),
        Err(wrong @ Refusal::Wrong(_)) => Answer::text(StatusCode::BAD_REQUEST, &wrong.to_string()),
        Err(unknown) => Answer::text(StatusCode::NOT_FOUND, &unknown.to_string()),
    }
}

impl ServiceReport {
    fn of(service: &Service, place: &str, now: Instant) -> Self {
        let endpoints: Vec<_> = service
            .standings(now)
            .into_iter()
            .map(EndpointReport::from)
            .collect();
        Self {
            service: service.name.to_string(),
            place: place.to_owned(),
            circuit: word(service.circuit(now)).to_owned(),
            circuit_is: service.circuit_mode().word().to_owned(),
            in_flight: service.in_flight(),
            requests: endpoints.iter().map(|it| it.requests).sum(),
            errors: endpoints.iter().map(|it| it.errors).sum(),
            endpoints,
        }
    }
}

impl From<Standing> for EndpointReport {
    fn from(standing: Standing) -> Self {
        let endpoint = &standing.endpoint;
        let attempts = endpoint.attempts();
        Self {
            endpoint: endpoint.as_str().to_owned(),
            state: standing.state.word().to_owned(),
            is_drained: standing.state == EndpointState::Drained,
            in_flight: standing.in_flight,
            latency_us: standing
                .latency
                .map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
            weight: standing.weight,
            requests: attempts.map(|it| it.requests),
            errors: attempts.map(|it| it.errors),
        }
    }
}
