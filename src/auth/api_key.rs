//! API keys. Only digests of them are kept: SHA-256, which is enough for keys that nobody chose
//! ([`new_key`] makes them of 32 random bytes), and costs a fraction of a microsecond.
//!
//! The digest of what a client sends is looked up, so how long that takes says nothing of any key:
//! nobody can choose a key by its digest, one byte after the other.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderName;
use openssl::rand::rand_bytes;
use openssl::sha::sha256;

use super::consumer::Members;
use super::credentials::Credentials;
use super::header::forwarded_header;
use super::identity::{Identity, Likeness};
use super::place::{Place, find_token, is_token};
use super::refusal::Refusal;
use crate::config::{self, ApiKeyDigests, Diagnostics, OneOrMany, Span, Spanned};

/// What a digest begins with as it is written.
const SHA_256: &str = "sha256:";
/// Longest key.
const LONGEST_KEY: usize = 1024;

type Digest = [u8; 32];

/// The API keys of a provider.
pub(super) struct ApiKeys {
    places: Box<[Place]>,
    by_digest: HashMap<Digest, Arc<Identity>, RandomState>,
    forwarded: Option<HeaderName>,
}

/// A key that nobody can guess.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_key() -> Result<String, String> {
    let mut random = [0; 32];
    rand_bytes(&mut random).map_err(|error| error.to_string())?;
    // Programs that look for secrets that were published by mistake know them by what they begin with.
    Ok(format!("tg_{}", URL_SAFE_NO_PAD.encode(random)))
}

/// The digest of a key, as it is written in configurations.
///
/// # Errors
/// Why no request could carry it.
pub fn hash_key(key: &str) -> Result<String, String> {
    if !is_token(key) {
        return Err("a key has letters, digits and `-._~+/=` only".to_owned());
    }
    if key.len() > LONGEST_KEY {
        return Err(format!("a key has {LONGEST_KEY} characters at most"));
    }
    let digest = sha256(key.as_bytes());
    let hex = digest.iter().map(|byte| format!("{byte:02x}"));
    Ok(SHA_256.to_owned() + &hex.collect::<String>())
}

impl ApiKeys {
    /// Compiles an `api_key` section, or reports everything that is wrong with it.
    pub(super) fn compile(
        provider: &str,
        section: &Spanned<config::ApiKey>,
        members: Members,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut is_sound = true;
        if section.from.0.is_empty() {
            diagnostics
                .error(section.span, "`from` is empty, so no key would be found")
                .help("remove it to use `header:X-Api-Key`");
            is_sound = false;
        }
        let forwarded = section.forward_name.as_ref();
        let forwarded = match forwarded.map(|it| forwarded_header(it, diagnostics)) {
            None => None,
            Some(Some(name)) => Some(name),
            Some(None) => {
                is_sound = false;
                None
            }
        };
        let mut hidden = Vec::new();
        if section.hide_credentials {
            for written in &section.from {
                let header = Place::new(written).and_then(|it| it.header());
                is_sound &= header.is_some();
                if header.is_none() {
                    diagnostics
                        .error(
                            written.span,
                            "`hide_credentials` can't take a key out of this place",
                        )
                        .help(
                            "let keys be in headers only, or backends see those that are elsewhere",
                        );
                }
                hidden.extend(header);
            }
        }
        let likeness = Likeness::of_names(provider, forwarded.clone(), members, hidden);
        let by_digest = match &section.keys.value {
            config::ApiKeys::Here(written) => {
                Table::new(&likeness, section.keys.span).fill(written, diagnostics)
            }
            config::ApiKeys::InFile(text) => {
                let span = text.file.as_ref().map_or(section.keys.span, |it| it.span);
                let written = read_file(text.text(), span, diagnostics)?;
                Table::new(&likeness, span).fill(&written, diagnostics)
            }
        };
        let by_digest = by_digest?;
        is_sound.then(|| Self {
            places: section
                .from
                .iter()
                .filter_map(|it| Place::new(it))
                .collect(),
            by_digest,
            forwarded,
        })
    }

    /// The header in which the names of keys are forwarded.
    pub(super) fn forwarded_header(&self) -> Option<&HeaderName> {
        self.forwarded.as_ref()
    }

    /// Whose key a request carries.
    pub(super) fn authenticate(
        &self,
        credentials: Credentials<'_>,
    ) -> Result<Arc<Identity>, Refusal> {
        let key = find_token(&self.places, credentials.headers, credentials.uri.query())?;
        if key.len() > LONGEST_KEY {
            return Err(Refusal::TooLong);
        }
        let known = self.by_digest.get(&sha256(key.as_bytes()));
        known.cloned().ok_or(Refusal::UnknownCredential)
    }
}

/// A file of digests: YAML as in place, which says where it is wrong.
fn read_file(text: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<ApiKeyDigests> {
    if text.is_empty() {
        // That it can't be read has been reported, or there are no keys in it.
        return (!diagnostics.has_error_within(span)).then(ApiKeyDigests::default);
    }
    /// As in place, without the places.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Digests {
        One(String),
        Several(Vec<String>),
    }
    match serde_yaml::from_str::<indexmap::IndexMap<String, Digests>>(text) {
        Ok(written) => {
            let written = written.into_iter().map(|(name, digests)| {
                let digests = match digests {
                    Digests::One(digest) => vec![digest],
                    Digests::Several(digests) => digests,
                };
                let digests = digests.into_iter().map(|it| Spanned::new(it, span));
                (Spanned::new(name, span), OneOrMany(digests.collect()))
            });
            Some(written.collect())
        }
        Err(error) => {
            diagnostics
                .error(span, format!("this is not a file of API keys: {error}"))
                .help("each line of it is a name and a digest: `acme: sha256:…`");
            None
        }
    }
}

/// Identities by digests, on the way to being complete.
struct Table<'t> {
    likeness: &'t Likeness,
    span: Span,
    by_digest: HashMap<Digest, Arc<Identity>, RandomState>,
    is_sound: bool,
}

impl<'t> Table<'t> {
    fn new(likeness: &'t Likeness, span: Span) -> Self {
        Self {
            likeness,
            span,
            by_digest: HashMap::default(),
            is_sound: true,
        }
    }

    fn fill(
        mut self,
        written: &ApiKeyDigests,
        diagnostics: &mut Diagnostics,
    ) -> Option<HashMap<Digest, Arc<Identity>, RandomState>> {
        if written.is_empty() && !diagnostics.has_error_within(self.span) {
            diagnostics.warning(self.span, "there are no API keys, so nobody can come in");
        }
        for (name, digests) in written {
            let identity = Arc::new(self.likeness.named(name));
            if name.is_empty() || digests.0.is_empty() {
                diagnostics
                    .error(name.span, format!("`{name}` is no name with a digest"))
                    .help("make a key with `tollgate hash-key`");
                self.is_sound = false;
            }
            for digest in digests {
                self.insert(name, digest, &identity, diagnostics);
            }
        }
        self.is_sound.then_some(self.by_digest)
    }

    fn insert(
        &mut self,
        name: &str,
        written: &Spanned<String>,
        identity: &Arc<Identity>,
        diagnostics: &mut Diagnostics,
    ) {
        // What is written here may be the key itself, so it is never shown.
        let Some(digest) = read_digest(written) else {
            diagnostics
                .error(
                    written.span,
                    format!("this is no digest of a key of `{name}`"),
                )
                .help("write `sha256:` and 64 hexadecimal digits: `tollgate hash-key` prints it");
            self.is_sound = false;
            return;
        };
        if let Some(other) = self.by_digest.insert(digest, identity.clone()) {
            let other = other.subject().unwrap_or_default();
            diagnostics
                .error(
                    written.span,
                    format!("`{name}` and `{other}` have the same key"),
                )
                .help("give each a key of its own");
            self.is_sound = false;
        }
    }
}

fn read_digest(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix(SHA_256)?;
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        // `from_str_radix` takes a sign.
        if !pair.bytes().all(|it| it.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}
