//! What operators find in a snapshot by name.

use std::sync::Arc;

use super::Snapshot;
use crate::limits::{Names, RateLimits, Zone, route_text};

impl Snapshot {
    /// The rate limits in force: each place once, in the order of the file.
    pub fn rate_limits(&self) -> Vec<&RateLimits> {
        let of_routes = self
            .routes
            .iter()
            .map(|route| route.policies.limits.as_deref());
        let of_consumers = self
            .consumers
            .iter()
            .map(|consumer| consumer.limits.as_deref());
        let written = of_routes.chain(of_consumers).flatten();
        let of_failures = self.auth_failures.iter().flat_map(|it| it.limits());
        let mut found: Vec<&RateLimits> = Vec::new();
        for limits in written.map(|it| &it.rates).chain(of_failures) {
            if !found.iter().any(|known| std::ptr::eq(*known, limits)) {
                found.push(limits);
            }
        }
        found
    }

    /// The name of the route that limits know by this text.
    pub fn route_name(&self, text: &str) -> Option<&str> {
        let mut routes = self.routes.iter();
        let route = routes.find(|route| route_text(route.id) == text)?;
        Some(&route.name)
    }
}

impl Names for Snapshot {
    fn is_provider(&self, name: &str) -> bool {
        self.providers.contains_key(name)
    }

    fn home(&self, consumer: &str) -> Option<&Arc<Zone>> {
        let mut consumers = self.consumers.iter();
        consumers
            .find(|it| *it.name == *consumer)?
            .time_zone
            .as_ref()
    }

    fn route(&self, name: &str) -> Option<u64> {
        let mut named = self.routes.iter().filter(|route| *route.name == *name);
        let route = named.next()?;
        named.next().is_none().then_some(route.id)
    }
}
