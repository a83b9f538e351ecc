//! JSON Web Tokens: where they are found, how they are verified, and what is remembered of them
//! (RFC 7519, RFC 7515, RFC 8725).

mod cache;
mod jwks;
mod key_set;
mod keys;
mod remote;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderMap, HeaderName};

use self::cache::TokenCache;
pub use self::key_set::{Awaited, Change, KeySet, KeySets, Place as KeyPlace, Source as KeySource};
use self::keys::{Keys, to_library};
use self::remote::RemoteKeys;
pub use self::remote::{count_keys, is_safe_origin};
use self::verify::Verifier;
use super::identity::Identity;
use super::place::{Place, find_token};
use super::refusal::Refusal;
use crate::config::{self, Diagnostics, Spanned};

/// Most tokens that may be remembered: above it their memory is counted in gigabytes.
const MOST_TOKENS: usize = 1 << 20;
/// Longest leeway, in seconds.
const LONGEST_LEEWAY: u64 = 600;

/// The tokens of an issuer.
pub(super) struct Tokens {
    places: Box<[Place]>,
    verifier: Verifier,
    keys: Origin,
    cache: TokenCache,
    /// The latest time seen, in seconds since 1970.
    latest: AtomicU64,
}

/// Where the keys come from.
enum Origin {
    /// They were given.
    Given(Arc<Keys>),
    /// They are fetched.
    Fetched(RemoteKeys),
}

impl Tokens {
    /// Compiles a `jwt` section, or reports everything that is wrong with it. Files are looked for from
    /// `base` on.
    pub(super) fn compile(
        jwt: &Spanned<config::Jwt>,
        key_sets: &KeySets,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let keys = Origin::compile(jwt, key_sets, base, diagnostics);
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
                    jwt.span,
                    "`token_from` is empty, so no token would be found",
                )
                .help("remove it to use `bearer`");
            is_sound = false;
        }
        let forwarded = forwarded_claims(jwt, diagnostics);
        let (keys, algorithms) = keys?;
        is_sound.then(|| Self {
            places: jwt
                .token_from
                .iter()
                .filter_map(|place| Place::new(place))
                .collect(),
            verifier: Verifier {
                algorithms: algorithms.iter().map(|it| to_library(*it)).collect(),
                issuer: jwt.issuer.as_ref().map(|issuer| issuer.as_str().into()),
                audiences: texts(&jwt.audiences),
                leeway,
                required_claims: texts(&jwt.required_claims),
                forwarded,
            },
            keys,
            cache: TokenCache::new(jwt.cache_tokens.value),
            latest: AtomicU64::new(0),
        })
    }

    pub(super) fn has_same_keys(&self, other: &Self) -> bool {
        match (&self.keys, &other.keys) {
            (Origin::Fetched(this), Origin::Fetched(that)) => this.are_of_same_set(that),
            // What is given is a part of the section.
            _ => true,
        }
    }

    /// The headers in which claims are forwarded.
    pub(super) fn forwarded_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.verifier.forwarded.iter().map(|(_, name)| name)
    }

    /// Who a request comes from, at `now` in seconds since 1970.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: u64,
    ) -> Result<Arc<Identity>, Refusal> {
        let token = find_token(&self.places, headers, query)?;
        let now = self.steady(now);
        if let Origin::Fetched(keys) = &self.keys
            && keys.have_changed()
        {
            self.cache.begin_epoch(keys.read_again());
        }
        if let Some(known) = self.cache.find(token, now) {
            return known;
        }
        // From before the keys are looked at: if one is taken away meanwhile, this is not remembered.
        let epoch = self.cache.epoch();
        let keys = match &self.keys {
            Origin::Given(keys) => keys.clone(),
            Origin::Fetched(keys) => keys.load().ok_or(Refusal::KeysUnavailable)?,
        };
        match self.verifier.verify(token, &keys, now) {
            Ok(verified) => {
                self.cache.keep(token, &verified, epoch, now);
                Ok(verified.identity)
            }
            Err(refusal) => {
                self.cache.refuse(token, refusal, epoch, now);
                Err(refusal)
            }
        }
    }

    /// What may change this refusal: keys on their way.
    pub(super) fn remedy(&self, refusal: Refusal, now: Instant) -> Option<Awaited> {
        match (&self.keys, refusal) {
            (Origin::Fetched(keys), Refusal::UnknownKey | Refusal::KeysUnavailable) => {
                keys.ask(now)
            }
            _ => None,
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

#[cfg(test)]
mod tests;
