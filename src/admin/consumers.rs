//! Who uses the services.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::in_force::Configured;
use crate::config::{Config, Consumer};
use crate::limits::{LimitReport, Store};
use crate::snapshot::ConsumerPolicy;

/// A consumer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ConsumerReport {
    /// Its name.
    pub name: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// By which providers it is known, and by how many names.
    pub credentials: Vec<CredentialCount>,
    /// Its own rate limits, or those of its group.
    pub limits: Vec<LimitReport>,
}

/// The credentials that a provider knows of a consumer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct CredentialCount {
    /// The provider.
    pub provider: String,
    /// What it verifies: `jwt`, `api_key`, `basic`, `signature`, `forward` or `client_certificate`.
    pub kind: String,
    /// How many names of its mean this consumer.
    pub count: usize,
}

pub(super) async fn show(in_force: &Configured, store: &Arc<Store>) -> Answer {
    let counting = store.clone();
    let counted = tokio::task::spawn_blocking(move || counting.keys_by_class()).await;
    let counted = counted.unwrap_or_default();
    let policies = in_force.snapshot.consumers().iter();
    let consumers = std::iter::zip(&in_force.config.consumers, policies);
    let reports = consumers.map(|((name, consumer), policy)| ConsumerReport {
        name: name.value.clone(),
        groups: consumer.groups.iter().map(|it| it.value.clone()).collect(),
        credentials: credentials(consumer, &in_force.config),
        limits: limits(policy, &counted),
    });
    Answer::json(StatusCode::OK, &reports.collect::<Vec<_>>())
}

fn credentials(consumer: &Consumer, config: &Config) -> Vec<CredentialCount> {
    let credentials = consumer.credentials.iter();
    let counts = credentials.map(|(provider, names)| {
        let section = config.auth_providers.get(provider.as_str());
        let mechanisms = section.map(|it| it.mechanisms());
        let mut mechanisms = mechanisms.into_iter().flatten();
        let kind = mechanisms.find(|(_, is_written)| *is_written);
        CredentialCount {
            provider: provider.value.clone(),
            kind: kind.map(|(kind, _)| kind.to_owned()).unwrap_or_default(),
            count: names.0.len(),
        }
    });
    counts.collect()
}

fn limits(policy: &ConsumerPolicy, counted: &[usize]) -> Vec<LimitReport> {
    let limits = policy.limits.iter();
    let reports = limits.flat_map(|limits| limits.rates.reports(counted));
    reports.map(|(_, report)| report).collect()
}
