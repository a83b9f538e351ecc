//! What a new configuration changes, route by route. For people, not for the way of a request.

mod routes;
mod settings;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::own::needs_upgrade;
use crate::config::{Config, Source};

/// What is different between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Routes that are new.
    pub added: Vec<RouteName>,
    /// Routes that are gone.
    pub removed: Vec<RouteName>,
    /// Routes that decide or forward differently.
    pub changed: Vec<ChangedRoute>,
    /// Routes that are not listed, for there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: usize,
    /// Services and providers that are new, gone or different, and what of the gateway's own
    /// settings is: the key and both texts.
    pub settings: Vec<Change>,
    /// Those of them that a running process can't change.
    pub needs_upgrade: Vec<String>,
}

/// A route, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteName {
    /// Its service.
    pub service: String,
    /// Its path or prefix, with what else it asks of requests.
    pub route: String,
}

/// A route that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedRoute {
    /// Which.
    #[serde(flatten)]
    pub name: RouteName,
    /// What is different about it.
    pub changes: Vec<Change>,
}

/// One key that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The text that was in force; `None` if there was none, or if it may hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The text that is in force from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A configuration and its text.
type Side<'c> = (&'c Config, &'c Source);

impl Changes {
    /// What `new` changes against `old`. What a process that was `started` with another
    /// configuration can't change is listed as long as it differs from that one.
    pub fn between(old: Side<'_>, new: Side<'_>, started: &Config) -> Self {
        let mut changes = Self {
            needs_upgrade: needs_upgrade(started, new.0),
            ..Self::default()
        };
        changes.compare_settings(old.0, new.0);
        changes.compare_consumers(old, new);
        changes.compare_services(old, new);
        changes.compare_routes(old, new);
        changes
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.routes() == 0 && self.settings.is_empty()
    }

    /// The number of routes that are new, gone or different.
    pub fn routes(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len() + self.unlisted
    }
}
