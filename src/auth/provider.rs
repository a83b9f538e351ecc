//! A provider: a way in which requests prove who they are.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName};

use super::identity::Identity;
use super::jwt::{Awaited, KeySets, Tokens};
use super::refusal::Refusal;
use crate::config::{self, Diagnostics};

/// A way in which requests prove who they are.
pub struct Provider {
    name: Box<str>,
    tokens: Tokens,
}

impl Provider {
    /// Compiles a provider, or reports everything that is wrong with it. Its keys may be among the
    /// `key_sets` already; files are looked for from `base` on.
    pub fn compile(
        name: &str,
        section: &config::AuthProvider,
        key_sets: &KeySets,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        Some(Self {
            name: name.into(),
            tokens: Tokens::compile(&section.jwt, key_sets, base, diagnostics)?,
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it verifies with the keys that the other one does, as far as they are fetched.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.tokens.has_same_keys(&other.tokens)
    }

    /// The headers in which claims are forwarded; clients' own are never passed on.
    pub fn forwarded_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.tokens.forwarded_headers()
    }

    /// Who a request comes from, at `now` in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: u64,
    ) -> Result<Arc<Identity>, Refusal> {
        self.tokens.authenticate(headers, query, now)
    }

    /// What is to be waited for before a request that was refused for this is asked once more.
    pub fn remedy(&self, refusal: Refusal, now: Instant) -> Option<Awaited> {
        self.tokens.remedy(refusal, now)
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
