//! All that is counted of requests, and how many routes, services and backends are told apart.

use std::sync::Arc;

use super::Exposed;
use super::calls::{self, Calls};
use super::endpoint::{self, EndpointMeter, Endpoints};
use super::exposition::{Exposition, Labels};
use super::flags::{self, FlagCounts};
use super::route::{self, RouteMeter, Routes};
use super::series::OTHERS;
use super::service::{self, ServiceMeter, Services};
use crate::config::{self, Diagnostics};
use crate::telemetry::{Flag, Flags};

/// No more can be told apart, of whatever kind.
const MOST: usize = 100_000;
/// What requests are counted as that no route takes.
const NONE: &str = "none";

/// How many have series of their own; the others of their kind share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesBounds {
    routes: usize,
    services: usize,
    endpoints: usize,
}

/// All that is counted of requests. Copies count together.
#[derive(Debug, Clone, Default)]
pub struct Meters {
    all: Arc<All>,
    bounds: SeriesBounds,
}

#[derive(Debug, Default)]
struct All {
    routes: Routes,
    calls: Calls,
    services: Services,
    endpoints: Endpoints,
    flags: FlagCounts,
}

impl SeriesBounds {
    /// The bounds of a configuration.
    pub fn compile(section: &config::Metrics, diagnostics: &mut Diagnostics) -> Self {
        let mut bound = |name: &str, written: &config::Spanned<usize>| {
            if written.value > MOST {
                diagnostics
                    .error(
                        written.span,
                        format!("`{name}` of {} is out of range", written.value),
                    )
                    .help(format!("0 to {MOST}: each has dozens of series"));
            }
            written.value
        };
        Self {
            routes: bound("max_routes", &section.max_routes),
            services: bound("max_services", &section.max_services),
            endpoints: bound("max_endpoints", &section.max_endpoints),
        }
    }
}

impl Default for SeriesBounds {
    fn default() -> Self {
        Self::compile(&config::Metrics::default(), &mut Diagnostics::default())
    }
}

impl Meters {
    /// The same, with other bounds for what is new, for which that makes room which is gone.
    #[must_use]
    pub fn within(&self, bounds: SeriesBounds) -> Self {
        self.all.routes.make_room(bounds.routes);
        self.all.calls.make_room(bounds.routes);
        self.all.services.make_room(bounds.services);
        self.all.endpoints.make_room(bounds.endpoints);
        Self {
            all: self.all.clone(),
            bounds,
        }
    }

    /// What counts for a route. Routes of the same name in the same service are one.
    pub fn route(&self, service: &str, route: &str) -> RouteMeter {
        let labels = [("service", service), ("route", route)];
        let others = [("service", OTHERS), ("route", OTHERS)];
        let series = self.all.routes.of(&labels, &others, self.bounds.routes);
        RouteMeter {
            is_own: series.labels == Labels::new(&labels),
            calls: self.all.calls.of(&labels, &others, self.bounds.routes),
            series,
        }
    }

    /// What counts for requests that no route takes.
    pub fn no_route(&self) -> RouteMeter {
        self.route(NONE, NONE)
    }

    /// What counts for a service.
    pub fn service(&self, service: &str) -> ServiceMeter {
        let labels = [("service", service)];
        let others = [("service", OTHERS)];
        let series = self.all.services.of(&labels, &others, self.bounds.services);
        ServiceMeter {
            is_own: series.labels == Labels::new(&labels),
            series,
        }
    }

    /// What counts for a backend of a service.
    pub fn endpoint(&self, service: &str, endpoint: &str) -> EndpointMeter {
        let labels = [("service", service), ("endpoint", endpoint)];
        let others = [("service", OTHERS), ("endpoint", OTHERS)];
        let series = self
            .all
            .endpoints
            .of(&labels, &others, self.bounds.endpoints);
        EndpointMeter {
            is_own: series.labels == Labels::new(&labels),
            series,
        }
    }

    /// Counts what was noted of a request.
    pub fn flags(&self, flags: Flags) {
        flags::count(&self.all.flags, flags);
    }

    /// How often each flag was noted so far.
    pub fn flag_counts(&self) -> impl Iterator<Item = (Flag, u64)> {
        flags::read(&self.all.flags)
    }
}

impl Exposed for Meters {
    fn expose(&self, page: &mut Exposition) {
        route::expose(&self.all.routes, page);
        calls::expose(&self.all.calls, page);
        flags::expose(&self.all.flags, page);
        service::expose(&self.all.services, page);
        endpoint::expose(&self.all.endpoints, page);
    }
}
