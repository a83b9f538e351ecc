//! Metrics as written: how much is told apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::Spanned;

/// How many routes, services and backends have metrics of their own. What is beyond shares one set, `other`,
/// so that a configuration that grows does not overrun the server that keeps them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Routes, each with about 30 series. Default 1000, at most 100000; 0 tells none apart.
    pub max_routes: Spanned<usize>,
    /// Services, each with about 90 series. Default 1000, at most 100000.
    pub max_services: Spanned<usize>,
    /// Backends of all services together, each with about 10 series. Default 1000, at most 100000.
    pub max_endpoints: Spanned<usize>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            max_routes: 1000.into(),
            max_services: 1000.into(),
            max_endpoints: 1000.into(),
        }
    }
}
