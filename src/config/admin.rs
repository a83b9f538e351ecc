//! `admin`: the address for operators, and when it says that the gateway is ready.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::shape::Toggle;
use super::source::Spanned;

/// `admin`, or `off`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AdminSlot(pub Toggle<Admin>);

/// The address for operators.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where operators are answered: the dashboard, `/healthz`, `/startupz`, `/readyz`, `/metrics`, and all that
    /// `/openapi.json` describes. Default `127.0.0.1:9900`.
    pub listen: Spanned<String>,
    /// The bearer token that is needed for anything that changes something, and, where `listen` is
    /// not a loopback address, for all but `/healthz`, `/startupz`, `/readyz` and the empty dashboard. Without it,
    /// or with an empty one, those are refused.
    pub token: Option<Spanned<Secret>>,
    /// Whether `/limits` shows the keys that rate limits are asked about most. Default `true`. Keys may be
    /// addresses and names of clients; `false` keeps none of them.
    pub top_keys: bool,
    /// What has to be well, beside the gateway itself, for `/readyz` to say so. Default: nothing.
    pub ready_when: ReadyWhen,
}

impl Admin {
    /// The token, unless there is none.
    pub fn token(&self) -> Option<&str> {
        let token = self.token.as_ref()?.expose();
        (!token.is_empty()).then_some(token)
    }
}

/// What the gateway depends on.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReadyWhen {
    /// Services that have an endpoint which gets requests. Default: none.
    pub services: Vec<Spanned<String>>,
    /// All servers of `redis` answer. Default `false`.
    pub redis: Spanned<bool>,
    /// The keys of all providers that fetch theirs have arrived. Default `false`.
    pub key_sets: bool,
}

impl Default for AdminSlot {
    fn default() -> Self {
        Self(Toggle::On(Admin::default()))
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9900".to_owned().into(),
            token: None,
            top_keys: true,
            ready_when: ReadyWhen::default(),
        }
    }
}
