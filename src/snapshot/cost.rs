//! Whether what requests of routes are said to cost goes with the limits that count it.

use super::consumers::ConsumerPolicy;
use super::route::Route;
use crate::config::{Config, Diagnostics};
use crate::limits::RateLimits;

/// Reports costs that no request can pay, and those that nobody counts.
pub(super) fn check(
    config: &Config,
    routes: &[Route],
    consumers: &[ConsumerPolicy],
    diagnostics: &mut Diagnostics,
) {
    let are_counted_for_consumers = consumers.iter().any(|it| {
        let limits = it.limits.as_deref();
        counts(limits.map(|it| &it.rates))
    });
    for route in routes {
        let Some(cost) = &route.policies.rate_limit_cost else {
            continue;
        };
        let limits = route.policies.limits.as_deref().map(|it| &it.rates);
        // One that is written further out may be there for other routes.
        if is_written_in(route, config) && !counts(limits) && !are_counted_for_consumers {
            diagnostics
                .warning(
                    cost.span,
                    "no limit here counts what a request is said to cost",
                )
                .help("write a `rate_limit` with a fixed `cost`, or remove `rate_limit_cost`");
        }
        let too_small = limits.and_then(|limits| limits.too_small_for(cost.value));
        // Once for all routes that inherit it.
        if let Some(limit) = too_small
            && !diagnostics.has_error_within(cost.span)
        {
            diagnostics
                .error(
                    cost.span,
                    format!("a request that costs {cost} never passes the limit `{limit}`"),
                )
                .help("write a larger limit, or a smaller cost");
        }
    }
}

fn counts(limits: Option<&RateLimits>) -> bool {
    limits.is_some_and(|limits| !limits.are_charged_later())
}

fn is_written_in(route: &Route, config: &Config) -> bool {
    let written = route.written(config);
    written.is_some_and(|(_, route)| route.rate_limit_cost.is_some())
}
