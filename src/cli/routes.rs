//! `tollgate routes`.

use clap::Args;

use super::Failure;
use super::configuration::print;
use super::operator::{self, Operator};
use super::table::table;
use crate::admin::{PolicyLevel, RouteAction, RouteReport};

const HEAD: [&str; 8] = [
    "route", "kind", "methods", "hosts", "to", "policies", "requests", "errors",
];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: operator::Gateway,
    /// Print them as JSON, with the places and texts of their policies
    #[arg(long)]
    json: bool,
}

/// Prints the routes of the running gateway.
pub(super) fn routes(arguments: &Arguments) -> Result<(), Failure> {
    let routes = Operator::find(&arguments.gateway)?.routes()?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&routes);
        let json = json.map_err(|error| Failure::Other(error.to_string()))?;
        return print(&format!("{json}\n"));
    }
    let head = HEAD.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head)
        .chain(routes.iter().map(row))
        .collect();
    print(&table(&rows))
}

fn row(route: &RouteReport) -> [String; HEAD.len()] {
    let or_any = |list: &[String]| match list {
        [] => "any".to_owned(),
        _ => list.join(","),
    };
    let to = match route.action {
        RouteAction::Forward => {
            let services = route.services.iter().map(|it| it.service.as_str());
            services.collect::<Vec<_>>().join(",")
        }
        RouteAction::Redirect => "(redirect)".to_owned(),
        RouteAction::Respond => "(own answer)".to_owned(),
    };
    let policies = route.policies.iter();
    let written = policies.filter(|it| it.level != PolicyLevel::Default && it.text != "off");
    let written: Vec<&str> = written.map(|it| it.name.as_str()).collect();
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    [
        route.path.clone(),
        route.kind.to_string(),
        or_any(&route.methods),
        or_any(&route.hosts),
        to,
        match written[..] {
            [] => "-".to_owned(),
            _ => written.join(","),
        },
        number(route.requests),
        number(route.errors),
    ]
}
