//! Signed requests: HTTP Message Signatures (RFC 9421) with `hmac-sha256`, and bodies by their
//! `Content-Digest` (RFC 9530).
//!
//! A request has one signature of a key that is known; others may stand beside it. Whatever of it is not
//! understood is refused.

mod base;
mod content;
mod coverage;
mod fields;
mod memory;
mod offered;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use http::{HeaderMap, HeaderName};
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use sfv::InnerList;

use self::base::signature_base;
pub use self::content::Content;
use self::coverage::{Coverage, covers_digest};
use self::memory::Memory;
use self::offered::Offered;
use super::clock::Clock;
use super::consumer::Members;
use super::credentials::{Credentials, Verdict};
use super::header::forwarded_header;
use super::identity::{Identity, Likeness};
use super::refusal::Refusal;
use crate::config::{self, Diagnostics, Replay, Secret, SignedBody, Spanned};

/// Shortest secret: as long as the hash.
const SHORTEST_SECRET: usize = 32;
/// Longest age of a signature, in seconds.
const LONGEST_AGE: u64 = 86_400;
/// Longest leeway, in seconds.
const LONGEST_LEEWAY: u64 = 600;

/// The signed requests of a provider.
pub(super) struct SignedRequests {
    keys: HashMap<Box<str>, Key, RandomState>,
    coverage: Coverage,
    max_age: u64,
    leeway: u64,
    body: SignedBody,
    /// Signatures that were used, if none may be used twice.
    memory: Option<Arc<Memory>>,
    /// Signatures from before this may have been forgotten, in seconds since 1970.
    since: u64,
    clock: Clock,
    forwarded: Option<HeaderName>,
}

/// Somebody's secret.
struct Key {
    secret: PKey<Private>,
    identity: Arc<Identity>,
}

impl SignedRequests {
    /// Compiles a `signature` section, or reports everything that is wrong with it.
    pub(super) fn compile(
        provider: &str,
        section: &Spanned<config::Signature>,
        members: Members,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let coverage = Coverage::compile(&section.components, section.span, diagnostics);
        let are_times_sound = check_times(section, diagnostics);
        let forwarded = section.forward_name.as_ref();
        let forwarded = forwarded.map(|it| forwarded_header(it, diagnostics));
        let is_forwarded_sound = !matches!(forwarded, Some(None));
        let likeness = Likeness::of_names(provider, forwarded.clone().flatten(), members, None);
        let keys = compile_keys(section, &likeness, diagnostics)?;
        if !are_times_sound || !is_forwarded_sound {
            return None;
        }
        Some(Self {
            keys,
            coverage: coverage?,
            max_age: section.max_age.0.as_secs(),
            leeway: section.leeway.0.as_secs(),
            body: section.body,
            memory: match section.replay {
                Replay::Refused => Some(Arc::default()),
                Replay::Allowed => None,
            },
            since: 0,
            clock: Clock::default(),
            forwarded: forwarded.flatten(),
        })
    }

    /// Goes on to remember the signatures that a predecessor has seen.
    pub(super) fn succeed(&mut self, before: &Self) {
        if let (Some(memory), Some(known)) = (&mut self.memory, &before.memory) {
            *memory = known.clone();
            // Whatever was too old for the predecessor stays too old, since it may have been used.
            self.since = before.oldest(before.clock.latest());
            self.clock = Clock::new(before.clock.latest());
        }
    }

    /// The header in which key ids are forwarded.
    pub(super) fn forwarded_header(&self) -> Option<&HeaderName> {
        self.forwarded.as_ref()
    }

    /// Who has signed a request, and with which body.
    pub(super) fn authenticate(&self, request: Credentials<'_>) -> Verdict {
        verdict(self.verify(request, Memory::remember))
    }

    /// The same, of a request that does not really come: its signature can still be used.
    pub(super) fn rehearse(&self, request: Credentials<'_>) -> Verdict {
        verdict(self.verify(request, |memory, signature, _, oldest| {
            memory.check(signature, oldest)
        }))
    }

    /// `remember` is what is done about a signature that may be used only once.
    fn verify(
        &self,
        request: Credentials<'_>,
        remember: impl Fn(&Memory, &[u8], u64, u64) -> Result<(), Refusal>,
    ) -> Result<(Arc<Identity>, Content), Refusal> {
        let offered = Offered::all(request.headers)?;
        let (offered, key) = self.choose(&offered)?;
        let times = offered.times()?;
        let now = self.clock.steady(request.now);
        let oldest = self.oldest(now);
        times.check(now, oldest, self.leeway)?;
        let covered = &offered.covered;
        if !self.coverage.is_met_by(covered, request.headers) {
            return Err(Refusal::NotCovered);
        }
        let is_digested = self.is_digested(covered, request.headers)?;
        key.verify(&signature_base(covered, request)?, &offered.value)?;
        let content = match is_digested {
            true => Content::announced(request.headers)?,
            false if self.body == SignedBody::Required => Content::Nothing,
            false => Content::Any,
        };
        if let Some(memory) = &self.memory {
            remember(memory, &offered.value, times.created.unsigned_abs(), oldest)?;
        }
        Ok((key.identity.clone(), content))
    }

    /// When the oldest signature was created that is good now.
    fn oldest(&self, now: u64) -> u64 {
        let lifetime = self.max_age + self.leeway;
        now.saturating_sub(lifetime).max(self.since)
    }

    /// The one signature of a key that is known.
    fn choose<'o>(&self, offered: &'o [Offered]) -> Result<(&'o Offered, &Key), Refusal> {
        let known = |it: &'o Offered| Some((it, self.keys.get(it.key_id()?)?));
        let mut known = offered.iter().filter_map(known);
        let first = known.next().ok_or(Refusal::UnknownCredential)?;
        match known.next() {
            None => Ok(first),
            Some(_) => Err(Refusal::SeveralCredentials),
        }
    }

    /// Whether the body must have the digests that the request gives.
    fn is_digested(&self, covered: &InnerList, headers: &HeaderMap) -> Result<bool, Refusal> {
        match self.body {
            SignedBody::Off => Ok(false),
            _ if covers_digest(covered) => Ok(true),
            SignedBody::Required if content::is_announced(headers) => Err(Refusal::NotCovered),
            _ => Ok(false),
        }
    }
}

impl Key {
    fn verify(&self, base: &str, signature: &[u8]) -> Result<(), Refusal> {
        let sign = || {
            let mut signer = Signer::new(MessageDigest::sha256(), &self.secret)?;
            signer.sign_oneshot_to_vec(base.as_bytes())
        };
        match sign() {
            Ok(expected)
                if expected.len() == signature.len() && memcmp::eq(&expected, signature) =>
            {
                Ok(())
            }
            _ => Err(Refusal::BadSignature),
        }
    }
}

fn verdict(verified: Result<(Arc<Identity>, Content), Refusal>) -> Verdict {
    match verified {
        Ok((identity, content)) => Verdict::Bound(identity, content),
        Err(refusal) => Verdict::Refused(refusal),
    }
}

fn check_times(section: &config::Signature, diagnostics: &mut Diagnostics) -> bool {
    let mut is_sound = true;
    let max_age = &section.max_age;
    if !(1..=LONGEST_AGE).contains(&max_age.0.as_secs()) {
        diagnostics
            .error(
                max_age.span,
                format!("a `max_age` of {max_age} is not possible"),
            )
            .help("1s to 1d: what is seen on its way can be used for so long");
        is_sound = false;
    }
    if section.leeway.0.as_secs() > LONGEST_LEEWAY {
        diagnostics
            .error(
                section.leeway.span,
                format!("a leeway of {} is too long", section.leeway),
            )
            .help("10m at most: signatures that are too old are accepted for so long");
        is_sound = false;
    }
    is_sound
}

fn compile_keys(
    section: &config::Signature,
    likeness: &Likeness,
    diagnostics: &mut Diagnostics,
) -> Option<HashMap<Box<str>, Key, RandomState>> {
    let written = &section.keys;
    if written.is_empty() && !diagnostics.has_error_within(written.span) {
        diagnostics.warning(written.span, "there are no keys, so nobody can come in");
    }
    let mut keys = HashMap::default();
    let mut is_sound = true;
    for (index, (id, secret)) in written.iter().enumerate() {
        // As a text of structured fields.
        if id.is_empty() || !id.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            diagnostics
                .error(id.span, format!("`{}` is not a key id", id.escape_debug()))
                .help("ids are visible ASCII, such as `acme-1`");
            is_sound = false;
        }
        // One in a file that can't be read has been reported.
        if diagnostics.has_error_within(secret.span) {
            is_sound = false;
            continue;
        }
        let mut others = written.iter().take(index);
        if let Some((other, _)) = others.find(|(_, it)| it.expose() == secret.expose()) {
            diagnostics
                .error(
                    secret.span,
                    format!("`{id}` and `{other}` have the same secret"),
                )
                .help("give each a secret of its own");
            is_sound = false;
        }
        match compile_secret(id, secret, diagnostics) {
            Some(secret) => {
                let identity = Arc::new(likeness.named(id));
                keys.insert(id.as_str().into(), Key { secret, identity });
            }
            None => is_sound = false,
        }
    }
    is_sound.then_some(keys)
}

fn compile_secret(
    id: &str,
    secret: &Spanned<Secret>,
    diagnostics: &mut Diagnostics,
) -> Option<PKey<Private>> {
    let bytes = secret.expose().as_bytes();
    if bytes.len() < SHORTEST_SECRET {
        diagnostics
            .error(
                secret.span,
                format!(
                    "the secret of `{id}` has {} bytes: {SHORTEST_SECRET} at least",
                    bytes.len()
                ),
            )
            .help("make one with `openssl rand -base64 32`");
        return None;
    }
    match PKey::hmac(bytes) {
        Ok(secret) => Some(secret),
        Err(error) => {
            diagnostics.error(
                secret.span,
                format!("the secret of `{id}` can't be used: {error}"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
