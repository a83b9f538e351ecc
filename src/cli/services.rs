//! `tollgate services`, `tollgate drain` and `tollgate enable`.

use clap::Args;

use super::Failure;
use super::configuration::print;
use super::operator::{self, Operator, Question};
use super::table::table;
use crate::admin::{EndpointReport, ServiceReport};

#[derive(Debug, Args)]
pub(super) struct Endpoint {
    #[command(flatten)]
    gateway: operator::Gateway,
    /// The name of the service
    service: String,
    /// The endpoint as `tollgate services` shows it, with or without the scheme
    endpoint: String,
}

/// Prints the services of the running gateway.
pub(super) fn services(question: &Question) -> Result<(), Failure> {
    question.ask(Operator::services, |services| match &services[..] {
        [] => "no service has an endpoint\n".to_owned(),
        services => describe(services),
    })
}

/// Takes an endpoint of the running gateway out of service.
pub(super) fn drain(arguments: &Endpoint) -> Result<(), Failure> {
    let report = Operator::find(&arguments.gateway)?.drain(&arguments.query())?;
    let mut out = String::new();
    for endpoint in report.endpoints.iter().filter(|it| arguments.means(it)) {
        let left = match endpoint.in_flight {
            0 => "no request is under way to it".to_owned(),
            1 => "1 request is under way to it".to_owned(),
            many => format!("{many} requests are under way to it"),
        };
        out += &format!(
            "drained: {} of {}; {left}\n",
            endpoint.endpoint, report.service
        );
    }
    print(&out)
}

/// Puts an endpoint of the running gateway in service again.
pub(super) fn enable(arguments: &Endpoint) -> Result<(), Failure> {
    let report = Operator::find(&arguments.gateway)?.enable(&arguments.query())?;
    let mut out = String::new();
    for endpoint in report.endpoints.iter().filter(|it| arguments.means(it)) {
        let EndpointReport {
            endpoint, state, ..
        } = endpoint;
        out += &format!("enabled: {endpoint} of {}; it is {state}\n", report.service);
    }
    if out.is_empty() {
        // Its name server, or a reload, has taken it away since it was drained.
        out = format!(
            "enabled: {}, which is gone, of {}\n",
            arguments.endpoint, report.service
        );
    }
    print(&out)
}

impl Endpoint {
    fn query(&self) -> [(&str, &str); 2] {
        [("service", &self.service), ("endpoint", &self.endpoint)]
    }

    fn means(&self, report: &EndpointReport) -> bool {
        let authority = report.endpoint.split_once("://").map(|(_, it)| it);
        report.endpoint == self.endpoint || authority == Some(&self.endpoint)
    }
}

fn describe(services: &[ServiceReport]) -> String {
    let head = [
        "service",
        "circuit",
        "state",
        "in flight",
        "latency",
        "requests",
        "errors",
        "endpoint",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for service in services {
        let circuit = match &*service.circuit_is {
            "automatic" => service.circuit.clone(),
            _ => format!("{} by hand", service.circuit),
        };
        let mut first = [service.service.clone(), circuit];
        for endpoint in &service.endpoints {
            let [service, circuit] = std::mem::take(&mut first);
            rows.push([
                service,
                circuit,
                endpoint.state.clone(),
                endpoint.in_flight.to_string(),
                endpoint.latency_us.map_or_else(unknown, millis),
                endpoint.requests.map_or_else(unknown, |it| it.to_string()),
                endpoint.errors.map_or_else(unknown, |it| it.to_string()),
                endpoint.endpoint.clone(),
            ]);
        }
        if service.endpoints.is_empty() {
            let mut row: [String; 8] = std::array::from_fn(|_| unknown());
            [row[0], row[1]] = first;
            rows.push(row);
        }
    }
    table(&rows)
}

fn unknown() -> String {
    "-".to_owned()
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros / 100 % 10)
}
