//! `tollgate routes`.

use super::Failure;
use super::operator::{Operator, Question};
use super::table::table;
use crate::admin::{PolicyLevel, RouteAction, RouteReport};

const HEAD: [&str; 8] = [
    "route", "kind", "methods", "hosts", "to", "policies", "requests", "errors",
];

/// Prints the routes of the running gateway.
pub(super) fn routes(question: &Question) -> Result<(), Failure> {
    question.ask(Operator::routes, |routes| {
        let head = std::iter::once(HEAD.map(str::to_owned));
        let rows: Vec<_> = head.chain(routes.iter().map(row)).collect();
        table(&rows)
    })
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
