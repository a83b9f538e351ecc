//! What becomes of a request's credentials: who vouches, which conditions hold, and the answer.

use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use crate::auth::{Credentials, Identity, Rule};
use crate::proxy::{Admission, rehearsal};
use crate::snapshot::Route;

/// What becomes of credentials. None of them is repeated here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShownCredentials {
    /// How it ends.
    pub outcome: Outcome,
    /// Who said so; nobody if there are no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whom the request comes from, as that calls them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Which consumer that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What the route asks of them, and whether they have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Why they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The path at which another service is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What becomes of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There are none, and none are needed.
    Anonymous,
    /// They are good.
    Accepted,
    /// They are good, and not enough: 403.
    Forbidden,
    /// They prove nothing, or there are none: 401.
    Refused,
    /// They can't be verified now: 503.
    Unavailable,
    /// Another service decides, and is not asked for this.
    Elsewhere,
}

/// A condition, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// How many conditions it is a part of.
    pub depth: usize,
    /// What it asks.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Asked {
    fn credentials(&self) -> Credentials<'_> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Credentials {
            method: &self.method,
            uri: &self.url,
            headers: &self.headers,
            certificates: &[],
            is_encrypted: self.url.scheme_str() == Some("https"),
            is_from_trusted_proxy: false,
            now: since.unwrap_or_default().as_secs(),
        }
    }
}

/// What becomes of the credentials of a request, if its route asks for some. `parameter` is what the path has in
/// place of one.
pub(super) async fn judge<'p>(
    route: &Route,
    asked: &Asked,
    parameter: &impl Fn(usize) -> &'p str,
) -> Option<ShownCredentials> {
    let rule = route.policies.auth.as_ref()?;
    let admission = rehearsal(rule, asked.credentials(), parameter).await;
    let provider = |way: usize| Some(rule.ways()[way].provider.name().to_owned());
    Some(match admission {
        Admission::Anonymous => ShownCredentials::new(Outcome::Anonymous, None),
        Admission::Identified(way, identity, _) => {
            identified(rule, way, &identity, Outcome::Accepted, parameter)
        }
        Admission::Forbidden(way, identity) => {
            identified(rule, way, &identity, Outcome::Forbidden, parameter)
        }
        Admission::Refused(way, refusal) => {
            let outcome = match refusal.is_unavailability() {
                true => Outcome::Unavailable,
                false => Outcome::Refused,
            };
            let mut shown = ShownCredentials::new(outcome, way.and_then(provider));
            shown.reason = Some(refusal.description().to_owned());
            shown
        }
        Admission::Throttled(seconds) => {
            let mut shown = ShownCredentials::new(Outcome::Unavailable, None);
            shown.reason = Some(format!("too many bad credentials, for {seconds} s"));
            shown
        }
        Admission::Elsewhere(way, decider) => {
            let mut shown = ShownCredentials::new(Outcome::Elsewhere, provider(way));
            shown.target = Some(decider.target.to_string());
            shown
        }
    })
}

fn identified<'p>(
    rule: &Rule,
    way: usize,
    identity: &Identity,
    outcome: Outcome,
    parameter: &impl Fn(usize) -> &'p str,
) -> ShownCredentials {
    let way = &rule.ways()[way];
    let mut shown = ShownCredentials::new(outcome, Some(way.provider.name().to_owned()));
    shown.subject = identity.subject().map(str::to_owned);
    shown.consumer = identity.consumer().map(|it| it.name.to_string());
    if let Some(requirement) = way.requirement() {
        let findings = requirement.explain(identity, parameter).into_iter();
        shown.conditions = findings
            .map(|finding| Condition {
                depth: finding.depth,
                text: finding.text,
                holds: finding.holds,
            })
            .collect();
    }
    shown
}

impl ShownCredentials {
    fn new(outcome: Outcome, provider: Option<String>) -> Self {
        Self {
            outcome,
            provider,
            subject: None,
            consumer: None,
            conditions: Vec::new(),
            reason: None,
            target: None,
        }
    }
}
