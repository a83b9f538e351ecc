//! The configuration in force: every value, and where it was written.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::in_force::Configured;
use super::status::Report;
use crate::config::{Effective, LineIndex, effective};

/// The configuration in force.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ConfigReport {
    /// Its file.
    pub file: String,
    /// Its number, counted from 1 since the start.
    pub generation: u64,
    /// When it was put in force.
    pub loaded: String,
    /// Every value, defaults included, in the words of the language. Secrets are `***`; a text with variables is
    /// shown as it was written.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Where values were written, as `file:line:column`, by JSON Pointer (RFC 6901). What is not here is a
    /// default.
    pub origins: BTreeMap<String, String>,
}

pub(super) fn show(in_force: &Configured, status: &Report) -> Answer {
    let source = &in_force.source;
    let environment = |name: &str| std::env::var(name).ok();
    let Effective { values, origins } = effective(&in_force.config, source, &environment);
    let places = LineIndex::of(source);
    let origins = origins.into_iter();
    let report = ConfigReport {
        file: status.config.clone(),
        generation: status.generation,
        loaded: status.loaded.clone(),
        config: match values {
            serde_json::Value::Object(values) => values,
            _ => serde_json::Map::new(),
        },
        origins: origins
            .map(|(pointer, span)| (pointer, places.locate(span)))
            .collect(),
    };
    Answer::json(StatusCode::OK, &report)
}
