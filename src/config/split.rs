//! Requests that are shared out among services, and copies of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::Spanned;
use super::units::Share;

/// A service and its share of a route's requests.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitPart {
    /// Its name.
    pub service: Spanned<String>,
    /// Its share against the others' weights, 0 to 1000. Default 1.
    #[serde(default = "one")]
    pub weight: Spanned<u32>,
}

/// A service that gets copies of a route's requests, whose answers nobody sees.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Its name.
    pub service: Spanned<String>,
    /// The share of the requests that are copied. Default `100%`.
    #[serde(default = "all")]
    pub share: Spanned<Share>,
}

fn one() -> Spanned<u32> {
    1.into()
}

fn all() -> Spanned<Share> {
    Share(100).into()
}
