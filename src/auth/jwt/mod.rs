//! JSON Web Tokens: where they are found, how they are verified, and what is remembered of them
//! (RFC 7519, RFC 7515, RFC 8725).

mod jwks;
mod key_ages;
mod key_set;
mod key_sets;
mod key_source;
mod keys;
mod remote;
mod verify;

use std::sync::Arc;
use std::time::Instant;

use http::HeaderName;

pub use self::key_set::{Arrival, Attempt, Awaited, Change, KeySet};
pub use self::key_sets::KeySets;
pub use self::key_source::{Place as KeyPlace, Source as KeySource, is_safe_origin};
use self::keys::{Keys, to_library};
use self::remote::RemoteKeys;
pub use self::remote::count_keys;
use self::verify::{Claimed, Verifier, has_shape};
use super::cache::{CredentialCache, Epoch};
use super::clock::Clock;
use super::consumer::Members;
use super::credentials::{Credentials, Verdict};
use super::header::forwarded_claims;
use super::identity::{Identity, Likeness};
use super::place::{Place, find_token};
use super::refusal::Refusal;
use super::surroundings::Surroundings;
use super::work::{Labour, Work, Workbench};
use crate::config::{self, Diagnostics, Spanned};

/// Most tokens that may be remembered: above it their memory is counted in gigabytes.
const MOST_TOKENS: usize = 1 << 20;
/// Seconds after which a token is verified anew although it has not expired.
const LONGEST_STAY: u64 = 300;
/// Longest leeway, in seconds.
const LONGEST_LEEWAY: u64 = 600;

/// The tokens of an issuer.
pub(super) struct Tokens {
    places: Box<[Place]>,
    verifier: Verifier,
    keys: Origin,
    cache: CredentialCache,
    /// Where costly signatures are verified.
    bench: Arc<Workbench>,
    clock: Clock,
}

/// Where the keys come from.
enum Origin {
    /// They were given.
    Given(Arc<Keys>),
    /// They are fetched.
    Fetched(RemoteKeys),
}

impl Tokens {
    /// Compiles a `jwt` section, or reports everything that is wrong with it.
    pub(super) fn compile(
        provider: &str,
        jwt: &Spanned<config::Jwt>,
        members: Members,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let (key_sets, base) = (surroundings.key_sets, surroundings.base);
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
        let likeness = Likeness {
            provider: provider.into(),
            subject: jwt.subject_claim.as_str().into(),
            roles: texts(&jwt.roles_from),
            forwarded: forwarded_claims(&jwt.forward_claims, diagnostics),
            members,
            hidden: Arc::default(),
        };
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
                likeness,
            },
            keys,
            bench: surroundings.workbenches.signatures.clone(),
            cache: CredentialCache::new(jwt.cache_tokens.value, LONGEST_STAY),
            clock: Clock::default(),
        })
    }

    pub(super) fn has_same_keys(&self, other: &Self) -> bool {
        match (&self.keys, &other.keys) {
            (Origin::Fetched(this), Origin::Fetched(that)) => this.are_of_same_set(that),
            // What is given is a part of the section.
            _ => true,
        }
    }

    /// Whether its keys are here.
    pub(super) fn has_keys(&self) -> bool {
        match &self.keys {
            Origin::Fetched(keys) => keys.are_known(),
            Origin::Given(_) => true,
        }
    }

    /// Whether some take long to verify.
    pub(super) fn may_be_costly(&self) -> bool {
        self.verifier.may_be_costly()
    }

    /// The headers in which claims are forwarded.
    pub(super) fn forwarded_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.verifier
            .likeness
            .forwarded
            .iter()
            .map(|(_, name)| name)
    }

    /// Whose token a request carries. One that is not remembered and would be costly is not read if `wait`
    /// says for how long not.
    pub(super) fn authenticate(
        self: &Arc<Self>,
        credentials: Credentials<'_>,
        wait: impl Fn(Labour) -> Option<u64>,
    ) -> Verdict {
        let query = credentials.uri.query();
        let token = match find_token(&self.places, credentials.headers, query) {
            Ok(token) => token,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let now = self.clock.steady(credentials.now);
        if let Origin::Fetched(keys) = &self.keys
            && keys.have_changed()
        {
            keys.read_again(|is_removal| self.cache.begin_epoch(is_removal));
        }
        if let Some(known) = self.cache.find(token.as_bytes(), now) {
            return known.into();
        }
        // Keys are public or secret, so if one token is costly to verify, all are.
        if self.verifier.may_be_costly()
            && let Some(seconds) = wait(Labour::Signature)
            && has_shape(token)
        {
            return Verdict::Throttled(seconds);
        }
        // From before the keys are looked at: if one is taken away meanwhile, this is not remembered.
        let epoch = self.cache.epoch();
        let keys = match &self.keys {
            Origin::Given(keys) => keys.clone(),
            Origin::Fetched(keys) => match keys.load() {
                Some(keys) => keys,
                // Whose it is not can be said without them.
                None => return Verdict::Refused(self.verifier.without_keys(token)),
            },
        };
        let claimed = match self.verifier.read(token, &keys, now) {
            Ok(claimed) => claimed,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        if !claimed.is_costly() {
            return self.confirm(token, claimed, &keys, (epoch, now)).into();
        }
        let (this, token) = (self.clone(), token.to_owned());
        Verdict::Costly(Work::new(&self.bench, move || {
            this.confirm(&token, claimed, &keys, (epoch, now))
        }))
    }

    /// Verifies the signature, and remembers how that ended.
    fn confirm(
        &self,
        token: &str,
        claimed: Claimed,
        keys: &Keys,
        (epoch, now): (Epoch, u64),
    ) -> Result<Arc<Identity>, Refusal> {
        let key = token.as_bytes();
        match self.verifier.confirm(token, claimed, keys) {
            Ok(verified) => {
                self.cache.keep(key, &verified, epoch, now);
                Ok(verified.identity)
            }
            Err(refusal) => {
                // Other refusals are cheap to find again, or may pass.
                if refusal == Refusal::BadSignature {
                    self.cache.refuse(key, refusal, epoch, now);
                }
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
}

fn texts(list: &config::OneOrMany<Spanned<String>>) -> Box<[Box<str>]> {
    list.iter().map(|text| text.as_str().into()).collect()
}

#[cfg(test)]
mod tests;
