//! A provider: where its tokens are found, how they are verified, and what is remembered of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};

use super::cache::TokenCache;
use super::extract::{Place, find_token};
use super::keys::{Keys, to_library};
use super::refusal::Refusal;
use super::verified::Verified;
use super::verify::Verifier;
use crate::config::{self, Diagnostics, Spanned};

/// Most tokens that may be remembered: above it their memory is counted in gigabytes.
const MOST_TOKENS: usize = 1 << 20;
/// Longest leeway, in seconds.
const LONGEST_LEEWAY: u64 = 600;

/// An issuer of tokens.
pub struct Provider {
    name: Box<str>,
    places: Box<[Place]>,
    verifier: Verifier,
    cache: TokenCache,
    /// The latest time seen, in seconds since 1970.
    latest: AtomicU64,
}

impl Provider {
    /// Compiles a provider, or reports everything that is wrong with it.
    pub fn compile(
        name: &str,
        section: &config::AuthProvider,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let jwt = &section.jwt;
        let keys = Keys::compile(jwt, diagnostics);
        let mut is_sound = true;
        let leeway = jwt.leeway.0.as_secs();
        if leeway > LONGEST_LEEWAY {
            diagnostics
                .error(
                    jwt.leeway.span,
                    format!("a leeway of {} is too long", jwt.leeway),
                )
                .help("10m at most: expired tokens are accepted for so long");
            is_sound = false;
        }
        if jwt.cache_tokens.value > MOST_TOKENS {
            diagnostics
                .error(
                    jwt.cache_tokens.span,
                    format!("{} tokens are too many", jwt.cache_tokens),
                )
                .help(format!("{MOST_TOKENS} at most"));
            is_sound = false;
        }
        if jwt.token_from.0.is_empty() {
            diagnostics
                .error(
                    jwt.algorithms.span,
                    "`token_from` is empty, so no token would be found",
                )
                .help("remove it to use `bearer`");
            is_sound = false;
        }
        let forwarded = forwarded_claims(jwt, diagnostics);
        let keys = keys?;
        is_sound.then(|| Self {
            name: name.into(),
            places: jwt
                .token_from
                .iter()
                .filter_map(|place| Place::new(place))
                .collect(),
            verifier: Verifier {
                keys,
                algorithms: jwt.algorithms.iter().map(|a| to_library(a.value)).collect(),
                issuer: jwt.issuer.as_ref().map(|issuer| issuer.as_str().into()),
                audiences: texts(&jwt.audiences),
                leeway,
                required_claims: texts(&jwt.required_claims),
                forwarded,
            },
            cache: TokenCache::new(jwt.cache_tokens.value),
            latest: AtomicU64::new(0),
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The headers in which claims are forwarded; clients' own are never passed on.
    pub fn forwarded_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.verifier.forwarded.iter().map(|(_, name)| name)
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
    ) -> Result<Arc<Verified>, Refusal> {
        let token = find_token(&self.places, headers, query)?;
        let now = self.steady(now);
        if let Some(known) = self.cache.find(token, now) {
            return known;
        }
        match self.verifier.verify(token, now) {
            Ok(verified) => {
                let verified = Arc::new(verified);
                self.cache.keep(token, &verified, now);
                Ok(verified)
            }
            Err(refusal) => {
                self.cache.refuse(token, refusal, now);
                Err(refusal)
            }
        }
    }

    /// The time, which does not go back: a clock that is set back must not revive expired tokens.
    fn steady(&self, now: u64) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        if now <= latest {
            return latest;
        }
        self.latest.fetch_max(now, Ordering::Relaxed);
        now
    }
}

fn texts(list: &config::OneOrMany<Spanned<String>>) -> Box<[Box<str>]> {
    list.iter().map(|text| text.as_str().into()).collect()
}

fn forwarded_claims(
    jwt: &config::Jwt,
    diagnostics: &mut Diagnostics,
) -> Box<[(Box<str>, HeaderName)]> {
    let mut forwarded: Vec<(Box<str>, HeaderName)> = Vec::new();
    for (claim, header) in &jwt.forward_claims {
        let Ok(name) = HeaderName::from_bytes(header.as_bytes()) else {
            diagnostics
                .error(header.span, format!("`{header}` is not a header name"))
                .help("names are letters, digits and `-`, such as `X-User-Id`");
            continue;
        };
        let is_reserved = matches!(
            name.as_str(),
            "host"
                | "connection"
                | "content-length"
                | "content-type"
                | "transfer-encoding"
                | "upgrade"
                | "te"
                | "trailer"
        );
        if is_reserved {
            diagnostics
                .error(header.span, format!("`{header}` can't carry a claim"))
                .help("use a header of its own, such as `X-User-Id`");
            continue;
        }
        if forwarded.iter().any(|(_, known)| *known == name) {
            diagnostics
                .error(
                    header.span,
                    format!("two claims are forwarded in `{header}`"),
                )
                .help("give each a header of its own");
            continue;
        }
        forwarded.push((claim.as_str().into(), name));
    }
    forwarded.into()
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
