//! Names and passwords (RFC 7617) of users in `htpasswd` files.
//!
//! Passwords are hashed beside the threads that serve, and what came of it is remembered under a digest
//! that only this process can compute. Names that nobody has are verified too, against the hash of somebody
//! else, so that neither the answer nor its time tells them from wrong passwords.

mod htpasswd;
mod pair;
mod password;

use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use indexmap::IndexMap;
use openssl::rand::rand_bytes;
use openssl::sha::Sha256;

pub use self::htpasswd::hash_password;
use self::pair::{LONGEST_PAIR, Pair};
use self::password::PasswordHash;
use super::cache::{CredentialCache, Verified};
use super::consumer::Members;
use super::credentials::{Credentials, Verdict};
use super::header::forwarded_header;
use super::identity::{Identity, Likeness};
use super::refusal::Refusal;
use super::surroundings::Surroundings;
use super::work::{Work, Workbench};
use crate::config::{self, Diagnostics, Period, Spanned, Toggle};

/// Passwords remembered at most, however many users there are.
const MOST_REMEMBERED: usize = 1 << 16;
/// Longest time for which a password is remembered, in seconds.
const LONGEST_STAY: u64 = 86_400;
/// Seconds by which a clock may be set back before passwords are hashed anew.
const CLOCK_STEP: u64 = 60;

type Digest = [u8; 32];

/// The users of a provider.
pub(super) struct Users {
    by_name: IndexMap<Box<str>, User, RandomState>,
    forwarded: Option<HeaderName>,
    challenge: HeaderValue,
    cache: CredentialCache,
    /// Without it, nobody can compute the digest of a pair.
    secret: [u8; 32],
    /// Where passwords are hashed.
    bench: Arc<Workbench>,
}

struct User {
    hash: PasswordHash,
    identity: Arc<Identity>,
}

impl Users {
    /// Compiles a `basic` section, or reports everything that is wrong with it.
    pub(super) fn compile(
        provider: &str,
        section: &Spanned<config::Basic>,
        members: Members,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let users = read_users(section, diagnostics);
        let challenge = challenge(&section.realm, diagnostics);
        let stay = stay(&section.cache, diagnostics);
        let forwarded = section.forward_name.as_ref();
        let forwarded = match forwarded.map(|it| forwarded_header(it, diagnostics)) {
            Some(None) => return None,
            forwarded => forwarded.flatten(),
        };
        let mut secret = [0; 32];
        if let Err(error) = rand_bytes(&mut secret) {
            diagnostics.error(
                section.span,
                format!("there are no random numbers: {error}"),
            );
            return None;
        }
        let hidden = section.hide_credentials.then_some(header::AUTHORIZATION);
        let likeness = Likeness::of_names(provider, forwarded.clone(), members, hidden);
        let users = users?.into_iter().map(|(name, hash)| {
            let identity = Arc::new(likeness.named(name));
            (name.into(), User { hash, identity })
        });
        let by_name: IndexMap<_, _, _> = users.collect();
        // Twice as many places as users, so that few have to share them.
        let places = (by_name.len() * 2).clamp(1, MOST_REMEMBERED);
        Some(Self {
            cache: CredentialCache::new(places, stay?),
            by_name,
            forwarded,
            challenge: challenge?,
            secret,
            bench: surroundings.workbenches.passwords.clone(),
        })
    }

    /// The header in which names are forwarded.
    pub(super) fn forwarded_header(&self) -> Option<&HeaderName> {
        self.forwarded.as_ref()
    }

    /// The `WWW-Authenticate` for a request that was refused.
    pub(super) fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }

    /// Whose name and password a request carries.
    pub(super) fn authenticate(self: &Arc<Self>, credentials: Credentials<'_>) -> Verdict {
        let mut room = [0; LONGEST_PAIR];
        let pair = match Pair::find(credentials.headers, &mut room) {
            Ok(pair) => pair,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let digest = self.digest(pair);
        if let Some(known) = self.cache.find(&digest, credentials.now) {
            return known.into();
        }
        let (this, text, now) = (self.clone(), Box::<str>::from(pair.text()), credentials.now);
        Verdict::Costly(Work::new(&self.bench, move || {
            let pair = Pair::read(&text).ok_or(Refusal::MalformedCredential)?;
            this.confirm(pair, &digest, now, PasswordHash::matches)
        }))
    }

    /// Verifies a pair, and remembers how that ended.
    fn confirm(
        &self,
        pair: Pair<'_>,
        digest: &Digest,
        now: u64,
        matches: impl FnOnce(&PasswordHash, &str) -> Result<bool, Refusal>,
    ) -> Result<Arc<Identity>, Refusal> {
        // While this one waited for its turn, another of the same pair may have had it.
        if let Some(known) = self.cache.find(digest, now) {
            return known;
        }
        let user = self.by_name.get(pair.name());
        let hashed = user.or_else(|| self.stand_in(pair.name()));
        let hashed = hashed.ok_or(Refusal::UnknownCredential)?;
        let is_right = matches(&hashed.hash, pair.password())?;
        let epoch = self.cache.epoch();
        match user {
            Some(user) if is_right => {
                let verified = Verified {
                    identity: user.identity.clone(),
                    from: now.saturating_sub(CLOCK_STEP),
                    until: u64::MAX,
                };
                self.cache.keep(digest, &verified, epoch, now);
                Ok(verified.identity)
            }
            _ => {
                // That a name alone is known must not show, so the pair may be another provider's.
                let refusal = Refusal::UnknownCredential;
                self.cache.refuse(digest, refusal, epoch, now);
                Err(refusal)
            }
        }
    }

    /// Whose hash is computed for a name that nobody has: always the same one's, and for all such names
    /// anybody's, so that they take as long as those that somebody has.
    fn stand_in(&self, name: &str) -> Option<&User> {
        let number = self.by_name.hasher().hash_one(name) as usize;
        let count = self.by_name.len();
        let (_, user) = self.by_name.get_index(number.checked_rem(count)?)?;
        Some(user)
    }

    /// Stands for a pair in memory, where no password is kept.
    fn digest(&self, pair: Pair<'_>) -> Digest {
        let mut sha256 = Sha256::new();
        sha256.update(&self.secret);
        sha256.update(pair.text().as_bytes());
        sha256.finish()
    }
}

fn read_users<'t>(
    section: &'t Spanned<config::Basic>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(&'t str, PasswordHash)>> {
    let users = &section.users;
    let (place, span, at_lines) = match &users.file {
        Some(file) => (file.to_string_lossy(), file.span, file.span),
        // Where lines are wrong, the one that is shown is above them: they may hold a password.
        None => ("users".into(), users.span, section.span),
    };
    let found = htpasswd::read(users.text(), (&place, at_lines), diagnostics)?;
    if found.is_empty() && !diagnostics.has_error_within(span) {
        diagnostics
            .warning(span, "there are no users, so nobody can come in")
            .help("add one: `tollgate hash-key --password NAME` prints the line");
    }
    Some(found)
}

fn challenge(realm: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<HeaderValue> {
    let is_quotable = realm
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
    if !is_quotable {
        diagnostics
            .error(realm.span, "this realm can't stand in a challenge")
            .help("use letters, digits and blanks, such as `Back office`");
        return None;
    }
    let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", realm.value);
    HeaderValue::from_maybe_shared(Bytes::from(challenge)).ok()
}

/// For how many seconds verified passwords are remembered.
fn stay(cache: &Spanned<Toggle<Period>>, diagnostics: &mut Diagnostics) -> Option<u64> {
    let Some(period) = cache.on() else {
        return Some(0);
    };
    let seconds = period.0.as_secs();
    if (1..=LONGEST_STAY).contains(&seconds) {
        return Some(seconds);
    }
    diagnostics
        .error(cache.span, format!("`cache` of {period} is out of range"))
        .help("`1s` to `1d`, or `off` to hash passwords each time");
    None
}

#[cfg(test)]
mod tests;
