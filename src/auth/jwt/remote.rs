//! Keys that are fetched: what a provider makes of a key set.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use http::Uri;
use openssl::x509::X509;

use super::Origin;
use super::jwks::read_set;
use super::key_set::{Awaited, KeySet};
use super::key_sets::KeySets;
use super::key_source::{Place, Source, Upkeep, has_host, is_safe_origin};
use super::keys::Keys;
use crate::config::{self, Diagnostics, Jwt, JwtAlgorithm, JwtKeys, Spanned};

/// What tokens may be signed with whose keys are public: never what a shared secret is for.
const ASYMMETRIC: [JwtAlgorithm; 9] = [
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
    JwtAlgorithm::ES256,
    JwtAlgorithm::ES384,
    JwtAlgorithm::EdDSA,
];

/// How many keys a text holds that tokens can be signed with.
///
/// # Errors
/// Why it is no key set, or one without such a key.
pub fn count_keys(text: &str) -> Result<usize, String> {
    match read_set(text, &ASYMMETRIC)?.keys.len() {
        0 => Err("the set holds no key that tokens can be signed with".into()),
        count => Ok(count),
    }
}

/// The keys of a set that fit a provider's algorithms.
pub(super) struct RemoteKeys {
    set: Arc<KeySet>,
    algorithms: Box<[JwtAlgorithm]>,
    /// `None` before the set is known, and if it has no key that fits.
    keys: ArcSwapOption<Keys>,
    /// The set's generation that they are of.
    generation: AtomicU64,
    reading: Mutex<()>,
}

/// What the generation of no set is.
const NEVER: u64 = u64::MAX;

impl RemoteKeys {
    fn new(set: Arc<KeySet>, algorithms: &[JwtAlgorithm]) -> Self {
        let keys = Self {
            set,
            algorithms: algorithms.into(),
            keys: ArcSwapOption::empty(),
            generation: AtomicU64::new(NEVER),
            reading: Mutex::default(),
        };
        keys.read_again(|_| {});
        keys
    }

    pub(super) fn are_of_same_set(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set, &other.set)
    }

    /// Whether the set has been fetched.
    pub(super) fn are_known(&self) -> bool {
        self.set.is_known()
    }

    /// Whether the set is another one than the keys are of.
    pub(super) fn have_changed(&self) -> bool {
        self.generation.load(Ordering::Acquire) != self.set.generation()
    }

    /// Makes the keys those of the set, if they are not yet. Before anybody takes them for that, `changed`
    /// is told whether a key was taken away.
    pub(super) fn read_again(&self, changed: impl FnOnce(bool)) {
        // Whoever comes meanwhile needs what is being read, and must not put older keys back.
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.have_changed() {
            return;
        }
        // From before the text: if that is of a later one, it is read once more.
        let generation = self.set.generation();
        let keys = self.read();
        let before = self.keys.swap(keys.clone());
        let are_here = |before: &Arc<Keys>| keys.is_some_and(|keys| keys.include(before));
        changed(before.is_some_and(|before| !are_here(&before)));
        self.generation.store(generation, Ordering::Release);
    }

    fn read(&self) -> Option<Arc<Keys>> {
        let read = self
            .set
            .with_text(|text| read_set(text?, &self.algorithms).ok());
        let keys = Keys::several(read?.keys);
        if keys.is_empty() {
            log::warn!(
                "no key of the set is for the `algorithms` of its provider: from={} algorithms={:?}",
                self.set.source().place,
                self.algorithms
            );
            return None;
        }
        Some(Arc::new(keys))
    }

    /// The keys, if there are any.
    pub(super) fn load(&self) -> Option<Arc<Keys>> {
        self.keys.load_full()
    }

    /// What there may be to wait for when a key is missing.
    pub(super) fn ask(&self, now: Instant) -> Option<Awaited> {
        self.set.ask(now)
    }
}

impl Origin {
    /// Where the keys of a `jwt` section come from and the algorithms they are for, or a report of what is
    /// wrong with that.
    pub(super) fn compile(
        jwt: &Spanned<Jwt>,
        key_sets: &KeySets,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<(Self, Vec<JwtAlgorithm>)> {
        let defaults = JwtKeys::default();
        let written = jwt.keys.as_ref();
        let keys = written.map_or(&defaults, |keys| &keys.value);
        let given = [
            keys.secret.is_some(),
            keys.public_key.is_some(),
            keys.jwks.is_some(),
            keys.jwks_url.is_some(),
        ];
        let span = written.map_or(jwt.span, |keys| keys.span);
        let count = given.iter().filter(|is_given| **is_given).count();
        if count > 1 || (count == 0 && jwt.issuer.is_none()) {
            if !diagnostics.has_lost(span, "keys") {
                diagnostics
                    .error(
                        span,
                        "`keys` needs exactly one of `secret`, `public_key`, `jwks` and `jwks_url`",
                    )
                    .help("several keys go into one `jwks` file; an `issuer` that publishes its own needs none");
            }
            return None;
        }
        if count == 1 && keys.jwks_url.is_none() {
            refuse_upkeep(keys, diagnostics);
            let (keys, algorithms) = Keys::compile(jwt, keys, diagnostics)?;
            return Some((Self::Given(Arc::new(keys)), algorithms));
        }
        let algorithms = fetched_algorithms(jwt, diagnostics);
        let place = place(jwt, keys, diagnostics);
        let authorities = authorities(keys, base, diagnostics);
        let upkeep = upkeep(keys, diagnostics);
        let source = Source {
            place: place?,
            authorities: authorities?,
        };
        let (algorithms, upkeep) = (algorithms?, upkeep?);
        let set = key_sets.of(source, upkeep, Instant::now());
        Some((Self::Fetched(RemoteKeys::new(set, &algorithms)), algorithms))
    }
}

fn fetched_algorithms(jwt: &Jwt, diagnostics: &mut Diagnostics) -> Option<Vec<JwtAlgorithm>> {
    let Some(written) = &jwt.algorithms else {
        return Some(ASYMMETRIC.into());
    };
    let mut is_sound = true;
    for algorithm in written.iter() {
        if !ASYMMETRIC.contains(&algorithm.value) {
            diagnostics
                .error(
                    algorithm.span,
                    format!(
                        "{:?} can't be used with keys that are fetched",
                        algorithm.value
                    ),
                )
                .help(
                    "whoever can fetch a shared secret can make tokens: use RS256, ES256 or EdDSA",
                );
            is_sound = false;
        }
    }
    if written.0.is_empty() {
        diagnostics
            .error(
                written.span,
                "`algorithms` is empty, so every token would be refused",
            )
            .help("remove it, or list what your tokens are signed with, such as `[RS256]`");
        is_sound = false;
    }
    is_sound.then(|| written.iter().map(|it| it.value).collect())
}

fn place(jwt: &Jwt, keys: &JwtKeys, diagnostics: &mut Diagnostics) -> Option<Place> {
    let (text, what) = match (&keys.jwks_url, &jwt.issuer) {
        (Some(url), _) => (url, "`jwks_url`"),
        (None, Some(issuer)) => (issuer, "an `issuer` that publishes its keys"),
        (None, None) => return None,
    };
    let uri = text.parse::<Uri>().ok();
    let Some(uri) = uri.filter(|uri| uri.scheme().is_some() && has_host(uri)) else {
        diagnostics
            .error(text.span, format!("`{}` is not a URL", text.value))
            .help(format!("{what} is one such as `https://id.example.com/`"));
        return None;
    };
    let is_issuer = keys.jwks_url.is_none();
    let odd = match (text.contains('#'), uri.query()) {
        (true, _) => Some("fragment (`#…`)"),
        (false, Some(_)) if is_issuer => Some("query (`?…`)"),
        _ => None,
    };
    if let Some(odd) = odd {
        diagnostics
            .error(text.span, format!("`{}` has a {odd}", text.value))
            .help(format!("{what} has none: leave it out"));
        return None;
    }
    if !is_safe_origin(&uri) {
        diagnostics
            .error(
                text.span,
                "keys that are fetched without TLS can be replaced on the way",
            )
            .help(format!("{what} must begin with `https://`"));
        return None;
    }
    Some(match is_issuer {
        false => Place::Url(uri),
        true => Place::Issuer(text.value.clone()),
    })
}

fn authorities(
    keys: &JwtKeys,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<Option<Arc<str>>> {
    let Some(file) = &keys.ca else {
        return Some(None);
    };
    match std::fs::read_to_string(base.join(file.as_str())) {
        Err(error) => {
            diagnostics.error(
                file.span,
                format!("`{}` can't be read: {error}", file.value),
            );
            None
        }
        Ok(pem) if X509::stack_from_pem(pem.as_bytes()).is_ok_and(|found| !found.is_empty()) => {
            Some(Some(pem.into()))
        }
        Ok(_) => {
            diagnostics
                .error(file.span, format!("`{}` holds no certificate", file.value))
                .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
            None
        }
    }
}

fn upkeep(keys: &JwtKeys, diagnostics: &mut Diagnostics) -> Option<Upkeep> {
    let mut is_sound = true;
    for (name, period) in [
        ("refresh", &keys.refresh),
        ("max_stale", &keys.max_stale),
        ("timeout", &keys.timeout),
    ] {
        if period.0 < std::time::Duration::from_secs(1) {
            diagnostics
                .error(period.span, format!("`{name}` is less than a second"))
                .help("write `1s` or more");
            is_sound = false;
        }
    }
    if is_sound && keys.max_stale.0 < keys.refresh.0 {
        diagnostics
            .error(
                keys.max_stale.span.or(keys.refresh.span),
                "`max_stale` is less than `refresh`, so the keys would be given up between two times they are fetched",
            )
            .help("let it be several times as long");
        is_sound = false;
    }
    is_sound.then_some(Upkeep {
        refresh: keys.refresh.0,
        max_stale: keys.max_stale.0,
        timeout: keys.timeout.0,
    })
}

/// What is only for keys that are fetched means nothing for those that are given.
fn refuse_upkeep(keys: &JwtKeys, diagnostics: &mut Diagnostics) {
    let defaults = JwtKeys::default();
    let period = |name, written: &Spanned<config::Period>, default: &Spanned<config::Period>| {
        (written != default).then_some((name, written.span))
    };
    let written = [
        period("refresh", &keys.refresh, &defaults.refresh),
        period("max_stale", &keys.max_stale, &defaults.max_stale),
        period("timeout", &keys.timeout, &defaults.timeout),
        keys.ca.as_ref().map(|ca| ("ca", ca.span)),
    ];
    for (name, span) in written.into_iter().flatten() {
        diagnostics
            .warning(
                span,
                format!("`{name}` has no effect on keys that are given"),
            )
            .help("it is for keys that are fetched, from `jwks_url` or the `issuer`");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::Algorithm;
    use serde_json::json;

    use super::*;

    const LATER: Duration = Duration::from_secs(100_000);

    fn set() -> Arc<KeySet> {
        let source = Source {
            place: Place::Issuer("https://id.example.com".to_owned()),
            authorities: None,
        };
        let second = Duration::from_secs(1);
        let upkeep = Upkeep {
            refresh: 10 * second,
            max_stale: 2 * LATER,
            timeout: second,
        };
        KeySets::default().of(source, upkeep, Instant::now())
    }

    /// Makes the set one of a key with this id.
    fn publish(set: &Arc<KeySet>, id: &str) {
        // The public key of RFC 7517 §A.1.
        let key = json!({"kty": "EC", "crv": "P-256", "kid": id,
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
        let now = Instant::now();
        let attempt = set.begin(now + LATER).unwrap();
        attempt.fetched(&json!({ "keys": [key] }).to_string(), None, now, 0.0);
    }

    fn knows(keys: &RemoteKeys, id: &str) -> bool {
        let known = keys.load();
        known.is_some_and(|keys| keys.candidates(Algorithm::ES256, Some(id)).is_ok())
    }

    /// Whether it was said that a key was taken away; `None` if nothing was said.
    fn read_again(keys: &RemoteKeys) -> Option<bool> {
        let mut said = None;
        keys.read_again(|is_removal| {
            assert!(keys.have_changed(), "nobody relies on them yet");
            said = Some(is_removal);
        });
        assert!(!keys.have_changed());
        said
    }

    #[test]
    fn it_is_said_when_a_key_is_taken_away_and_only_then() {
        let set = set();
        let keys = RemoteKeys::new(set.clone(), &[JwtAlgorithm::ES256]);
        assert!(keys.load().is_none() && !keys.have_changed());
        publish(&set, "a");
        assert!(keys.have_changed());
        assert_eq!(read_again(&keys), Some(false), "there was none");
        assert!(knows(&keys, "a"));
        assert_eq!(read_again(&keys), None, "it is the same");
        publish(&set, "b");
        assert_eq!(read_again(&keys), Some(true), "the first one is gone");
        assert!(knows(&keys, "b") && !knows(&keys, "a"));
        let others = RemoteKeys::new(set, &[JwtAlgorithm::RS256]);
        assert!(others.load().is_none(), "none is for RSA");
    }
}
