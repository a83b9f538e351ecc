//! All that can be asked for on the operators' address: where, how, and by whom.

use http::Method;
use serde_json::{Map, Value};

use super::access::Access;
use super::backends::ServiceReport;
use super::cache::CacheReport;
use super::certificates::ShownCertificate;
use super::config::ConfigReport;
use super::consumers::ConsumerReport;
use super::explain::Explained;
use super::limits::LimitsReport;
use super::log_level::LogLevelReport;
use super::operation::Content::{self, Json, Media, Text};
use super::operation::{Operation, Parameter, change, read, schema};
use super::routes::RouteReport;
use super::status::{Reload, Report};
use super::traffic::TrafficReport;
use crate::cache::{Purge, Purged};
use crate::telemetry::RecentRequest;

/// What is done or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Health,
    Startup,
    Readiness,
    Document,
    Status,
    Metrics,
    Traffic,
    Events,
    Config,
    Routes,
    Explain,
    Consumers,
    Cache,
    Certificates,
    Limits,
    ResetLimit,
    Services,
    Drain,
    Enable,
    Circuit,
    Errors,
    Slow,
    LogLevel,
    SetLogLevel,
    Diff,
    Reload,
    Purge,
}

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Nothing is there. These paths are.
    Path(Vec<&'static str>),
    /// Only these methods are.
    Method(Vec<&'static str>),
}

/// All of them; those of one path stand together.
pub(super) static OPERATIONS: &[Operation] = &[
    read("/healthz", Access::Anybody, Ask::Health)
        .does("Says that the process lives.")
        .answers(&[(200, Text)]),
    read("/startupz", Access::Anybody, Ask::Startup)
        .does("Says whether the process has started.")
        .answers(&[(200, Text), (503, Text)]),
    read("/readyz", Access::Anybody, Ask::Readiness)
        .does("Says whether traffic should come.")
        .answers(&[(200, Text), (503, Text)]),
    read("/openapi.json", Access::Reader, Ask::Document)
        .does("Describes all of this, by OpenAPI 3.1.")
        .answers(&[(200, Json(schema::<Map<String, Value>>))]),
    read("/status", Access::Reader, Ask::Status)
        .does("Shows what the process says of itself.")
        .answers(&[(200, Json(schema::<Report>))]),
    read("/metrics", Access::Reader, Ask::Metrics)
        .does("Shows all metrics, for Prometheus or as OpenMetrics.")
        .answers(&[(200, Media(&["text/plain", "application/openmetrics-text"]))]),
    read("/traffic", Access::Reader, Ask::Traffic)
        .does("Shows the traffic of the last hour, of all requests and by route and service.")
        .takes(&[LAST, STEP])
        .answers(&[(200, Json(schema::<TrafficReport>))]),
    read("/events", Access::Reader, Ask::Events)
        .does("Tells the traffic of each second and each failure as they come, as server-sent events.")
        .answers(&[(200, Media(&["text/event-stream"])), (503, Text)]),
    read("/config", Access::Reader, Ask::Config)
        .does("Shows the configuration in force: every value, and where each was written that is no default.")
        .answers(&[(200, Json(schema::<ConfigReport>))]),
    read("/routes", Access::Reader, Ask::Routes)
        .does("Shows all routes with their policies, in the order of the file.")
        .answers(&[(200, Json(schema::<Vec<RouteReport>>))]),
    read("/explain", Access::Reader, Ask::Explain)
        .does("Tells what would become of a request, and why.")
        .takes(&[METHOD, URL, HEADER])
        .answers(&[(200, Json(schema::<Explained>))]),
    read("/consumers", Access::Reader, Ask::Consumers)
        .does("Shows the consumers, and nothing of their credentials but how many there are.")
        .answers(&[(200, Json(schema::<Vec<ConsumerReport>>))]),
    read("/cache", Access::Reader, Ask::Cache)
        .does("Shows how much is kept, and what that did for requests.")
        .answers(&[(200, Json(schema::<CacheReport>))]),
    read("/certificates", Access::Reader, Ask::Certificates)
        .does("Shows the certificates that clients are shown, those first that expire first.")
        .answers(&[(200, Json(schema::<Vec<ShownCertificate>>))]),
    read("/limits", Access::Reader, Ask::Limits)
        .does("Shows rate limits, the keys they are asked about most, or what one key has spent.")
        .takes(&[LIMIT, KEY, TOP])
        .answers(&[(200, Json(schema::<LimitsReport>)), (404, Text)]),
    change(Method::DELETE, "/limits", Ask::ResetLimit)
        .does("Has a key of a limit begin anew.")
        .takes(&[LIMIT.required(), KEY])
        .answers(&[(200, Json(schema::<LimitsReport>)), (404, Text)]),
    read("/services", Access::Reader, Ask::Services)
        .does("Shows services and their endpoints: which get requests, and how they fare.")
        .answers(&[(200, Json(schema::<Vec<ServiceReport>>))]),
    change(Method::POST, "/drain", Ask::Drain)
        .does("Takes an endpoint out of service: it gets no new requests.")
        .takes(&[SERVICE, ENDPOINT])
        .answers(&[(200, Json(schema::<ServiceReport>)), (404, Text)]),
    change(Method::POST, "/enable", Ask::Enable)
        .does("Puts an endpoint in service again; also ends an ejection.")
        .takes(&[SERVICE, ENDPOINT])
        .answers(&[(200, Json(schema::<ServiceReport>)), (404, Text)]),
    change(Method::POST, "/circuit", Ask::Circuit)
        .does("Has the circuit of a service be open or closed, or lets its rule decide again.")
        .takes(&[SERVICE, STATE])
        .answers(&[(200, Json(schema::<ServiceReport>)), (404, Text)]),
    read("/errors", Access::Reader, Ask::Errors)
        .does("Shows the last requests that failed, or were turned away, the newest first.")
        .takes(&[KIND, COUNT])
        .answers(&[(200, Json(schema::<Vec<RecentRequest>>))]),
    read("/slow", Access::Reader, Ask::Slow)
        .does("Shows the slowest requests of the last five minutes.")
        .takes(&[COUNT])
        .answers(&[(200, Json(schema::<Vec<RecentRequest>>))]),
    read("/log-level", Access::Reader, Ask::LogLevel)
        .does("Shows how much the process says about itself.")
        .answers(&[(200, Json(schema::<LogLevelReport>))]),
    change(Method::PUT, "/log-level", Ask::SetLogLevel)
        .does("Changes how much that is, until the process ends.")
        .takes(&[LEVEL])
        .answers(&[(200, Json(schema::<LogLevelReport>))]),
    read("/diff", Access::Reader, Ask::Diff)
        .does("Loads the configuration again and says what a reload would change.")
        .answers(&RELOADED),
    change(Method::POST, "/reload", Ask::Reload)
        .does("Loads the configuration again and puts it in force.")
        .answers(&RELOADED),
    change(Method::POST, "/purge", Ask::Purge)
        .does("Lets kept answers go.")
        .reads(schema::<Purge>)
        .answers(&[(200, Json(schema::<Purged>)), (409, Text), (503, Text)]),
];

const METHOD: Parameter = Parameter::text("method", "The method. Default `GET`.");
const URL: Parameter = Parameter::text("url", "The URL, or only its path.").required();
const HEADER: Parameter = Parameter::text("header", "A header field, as `Name: value`.").repeated();
const LIMIT: Parameter = Parameter::text("limit", "The name of a limit.");
const KEY: Parameter = Parameter::text("key", "The key, part by part.").repeated();
const TOP: Parameter = Parameter::text("top", "How many keys of each limit. Default 10.").number();

const SERVICE: Parameter = Parameter::text("service", "The service.").required();
const ENDPOINT: Parameter =
    Parameter::text("endpoint", "The endpoint, as `/services` shows it.").required();
const STATE: Parameter = Parameter::text("state", "`open`, `closed` or `automatic`.").required();
const KIND: Parameter = Parameter::text("kind", "`failure`, the default, or `refusal`.");
const COUNT: Parameter = Parameter::text("count", "How many. Default 20.").number();
const LEVEL: Parameter = Parameter::text("level", "`error`, `warn`, `info` or `debug`.").required();

const LAST: Parameter = Parameter::text("last", "Seconds before now. Default 3600.").number();
const STEP: Parameter = Parameter::text("step", "Seconds of a sample. Default 10.").number();

const RELOADED: [(u16, Content); 3] = [
    (200, Json(schema::<Reload>)),
    (422, Json(schema::<Reload>)),
    (503, Text),
];

/// What a request asks for. Whatever can be read has a `HEAD`.
///
/// # Errors
/// If there is no such thing.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static Operation, Unknown> {
    let wanted = match method {
        &Method::HEAD => &Method::GET,
        other => other,
    };
    let here: Vec<_> = OPERATIONS.iter().filter(|it| it.path == path).collect();
    if let Some(found) = here.iter().find(|it| it.method == wanted) {
        return Ok(found);
    }
    if here.is_empty() {
        let mut paths: Vec<_> = OPERATIONS.iter().map(|it| it.path).collect();
        paths.dedup();
        return Err(Unknown::Path(paths));
    }
    let mut methods = Vec::new();
    for operation in here {
        match operation.method {
            Method::GET => methods.extend(["GET", "HEAD"]),
            Method::POST => methods.push("POST"),
            Method::PUT => methods.push("PUT"),
            _ => methods.push("DELETE"),
        }
    }
    Err(Unknown::Method(methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_by_method_and_path() {
        let ask = |method, path| find(&method, path).map(|it| it.ask);
        assert_eq!(ask(Method::GET, "/limits"), Ok(Ask::Limits));
        assert_eq!(ask(Method::HEAD, "/limits"), Ok(Ask::Limits));
        assert_eq!(ask(Method::DELETE, "/limits"), Ok(Ask::ResetLimit));
        let methods = vec!["GET", "HEAD", "DELETE"];
        assert_eq!(ask(Method::PUT, "/limits"), Err(Unknown::Method(methods)));
        assert!(matches!(
            ask(Method::GET, "/limits/"),
            Err(Unknown::Path(_))
        ));
    }

    #[test]
    fn nothing_is_changed_without_the_token() {
        for operation in OPERATIONS {
            let is_read = operation.method == Method::GET;
            assert_eq!(
                operation.access == Access::Changer,
                !is_read,
                "{operation:?}"
            );
        }
    }

    #[test]
    fn no_operation_and_no_parameter_is_without_a_word() {
        for operation in OPERATIONS {
            let texts = operation.parameters.iter().map(|it| it.text);
            for text in texts.chain([operation.summary]) {
                assert!(text.ends_with('.'), "{operation:?}");
            }
            let is_answered = operation.answers.iter().any(|(status, _)| *status == 200);
            assert!(is_answered, "{operation:?}");
        }
    }

    #[test]
    fn paths_stand_together_and_operations_once() {
        let mut paths: Vec<_> = OPERATIONS.iter().map(|it| it.path).collect();
        paths.dedup();
        let each = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), each);
        for operation in OPERATIONS {
            assert!(std::ptr::eq(
                find(&operation.method, operation.path).unwrap(),
                operation
            ));
        }
    }
}
