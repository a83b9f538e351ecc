//! An answer that is kept whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, LAST_MODIFIED, PRAGMA, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_cache::key::HashBinary;

/// Bytes that an answer takes beside its header and body, by measure.
const OVERHEAD: u64 = 1024;
/// Bytes that a tag takes beside its text: where it stands, and in the index.
const TAG: usize = 80;
/// Fields that say how an answer may be given, whether it is still the same, and when it has to go.
const RULES: [HeaderName; 8] = [
    CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    PRAGMA,
    VARY,
    ETAG,
    LAST_MODIFIED,
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
];
/// Uses that are remembered.
const MOST_USES: u8 = 3;

/// The header of an answer and its times.
#[derive(Debug, Clone)]
pub(super) struct Head {
    header: ResponseHeader,
    made: SystemTime,
    fresh_until: SystemTime,
    /// From when on its variants are valid.
    provenance: SystemTime,
    stale: (u32, u32),
    variance: Option<HashBinary>,
    /// Whether it was stale when it came, so that it has to be asked about each time.
    pub(super) is_never_fresh: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) head: Head,
    pub(super) body: Arc<[Bytes]>,
    pub(super) size: u64,
    pub(super) number: u64,
    pub(super) location: Arc<str>,
    pub(super) tags: Arc<[Box<str>]>,
    pub(super) uses: AtomicU8,
    /// Seconds since 1970 at which it was purged softly; 0 if it was not.
    expired: AtomicU64,
    is_refreshing: Arc<AtomicBool>,
}

/// The right to refresh an answer, of which there is one at a time.
#[derive(Debug)]
pub struct Refresh(Arc<AtomicBool>);

/// With an answer that was found: the right to refresh it, if anybody wants it.
#[derive(Debug, Clone)]
pub(super) struct Refreshing(pub(super) Arc<AtomicBool>);

/// Which answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

impl Refresh {
    /// The right to refresh the answer that was found, unless somebody has it.
    pub fn begin(found: &CacheMeta) -> Option<Self> {
        let Refreshing(flag) = found.extensions().get::<Refreshing>()?;
        (!flag.swap(true, Ordering::Relaxed)).then(|| Self(flag.clone()))
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A header in one piece of memory of its own. As it was read, each field holds all that came with it; and names
/// as the backend spelled them are known for no more than the first client.
fn compact(header: &ResponseHeader) -> ResponseHeader {
    let mut parts = header.as_owned_parts();
    let length = parts.headers.values().map(HeaderValue::len).sum();
    let mut text = BytesMut::with_capacity(length);
    for value in parts.headers.values_mut() {
        text.extend_from_slice(value.as_bytes());
        // What is a field's value already is one in another place, too.
        if let Ok(own) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            *value = own;
        }
    }
    parts.into()
}

impl Head {
    pub(super) fn of(meta: &CacheMeta) -> Self {
        Self {
            header: compact(meta.response_header()),
            made: meta.epoch(),
            fresh_until: meta.fresh_until(),
            provenance: meta.provenance(),
            stale: (meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()),
            variance: meta.variance(),
            is_never_fresh: meta.fresh_until() <= meta.updated(),
        }
    }

    /// As the framework knows it.
    pub(super) fn meta(&self, number: u64, refreshing: &Arc<AtomicBool>) -> CacheMeta {
        let (while_revalidate, if_error) = self.stale;
        let header = self.header.clone();
        let mut meta = CacheMeta::new(
            self.fresh_until,
            self.provenance,
            while_revalidate,
            if_error,
            header,
        );
        meta.set_epoch_override(self.made);
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta.extensions_mut().insert(Number(number));
        meta.extensions_mut().insert(Refreshing(refreshing.clone()));
        meta
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> u64 {
        let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len() + 64
        };
        self.header.headers.iter().map(size).sum::<usize>() as u64
    }

    /// The length of the body is known from now on.
    pub(super) fn set_length(&mut self, length: u64) {
        let has_none = self.header.status == http::StatusCode::NO_CONTENT;
        if !has_none && !self.header.headers.contains_key(CONTENT_LENGTH) {
            // A number is a field's value.
            let _ = self.header.insert_header(CONTENT_LENGTH, length);
        }
    }

    pub(super) fn header(&self) -> &ResponseHeader {
        &self.header
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.header.headers
    }

    /// When it was made, by which it has its age.
    pub(super) fn made(&self) -> SystemTime {
        self.made
    }

    pub(super) fn variance(&self) -> Option<HashBinary> {
        self.variance
    }

    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        self.fresh_until >= now
    }

    pub(super) fn fresh_until(&self) -> SystemTime {
        self.fresh_until
    }

    /// How long it can be given from now on, stale or not.
    pub(super) fn life(&self, now: SystemTime) -> Duration {
        let fresh = self.fresh_until.duration_since(now).unwrap_or_default();
        let stale = Duration::from_secs(self.stale.0.max(self.stale.1).into());
        let over = now.duration_since(self.fresh_until).unwrap_or_default();
        fresh + stale.saturating_sub(over)
    }

    /// Its times and its header, as [`CacheMeta::deserialize`] reads them.
    pub(super) fn serialise(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.meta(0, &Arc::default()).serialize().ok()
    }

    /// Whether both say the same of how they may be given, and when they have to go.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        RULES.iter().all(|name| {
            let (one, another) = (self.headers().get_all(name), other.headers().get_all(name));
            one.iter().eq(another.iter())
        })
    }
}

impl Object {
    pub(super) fn new(
        number: u64,
        head: Head,
        body: Arc<[Bytes]>,
        location: Arc<str>,
        expired: u64,
    ) -> Self {
        let tags = tags(head.headers());
        let bytes: usize = body.iter().map(Bytes::len).sum();
        let names: usize = tags.iter().map(|tag| tag.len() + TAG).sum::<usize>() + location.len();
        Self {
            size: bytes as u64 + head.size() + names as u64 + OVERHEAD,
            head,
            body,
            number,
            location,
            tags,
            uses: AtomicU8::new(0),
            expired: AtomicU64::new(expired),
            is_refreshing: Arc::default(),
        }
    }

    /// The same answer, after the backend said that it has not changed.
    pub(super) fn updated(&self, head: Head) -> Self {
        let object = Self::new(
            self.number,
            head,
            self.body.clone(),
            self.location.clone(),
            0,
        );
        object
            .uses
            .store(self.uses.load(Ordering::Relaxed), Ordering::Relaxed);
        object
    }

    pub(super) fn meta(&self) -> CacheMeta {
        let mut meta = self.head.meta(self.number, &self.is_refreshing);
        expire(&mut meta, self.expired());
        meta
    }

    /// It was asked for.
    pub(super) fn used(&self) {
        used(&self.uses);
    }

    pub(super) fn is_used(&self) -> bool {
        self.uses.load(Ordering::Relaxed) > 0
    }

    /// It is stale from now on.
    pub(super) fn expire(&self, now: SystemTime) {
        self.expired.fetch_max(seconds(now), Ordering::Relaxed);
    }

    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        self.expired.load(Ordering::Relaxed) == 0 && self.head.is_fresh(now)
    }

    pub(super) fn length(&self) -> u64 {
        self.body.iter().map(Bytes::len).sum::<usize>() as u64
    }
}

/// What is kept was asked for.
pub(super) fn used(uses: &AtomicU8) {
    let count = uses.load(Ordering::Relaxed);
    if count < MOST_USES {
        uses.store(count + 1, Ordering::Relaxed);
    }
}

/// What was purged softly is stale from then on.
pub(super) fn expire(meta: &mut CacheMeta, expired: u64) {
    if expired > 0 {
        meta.expire_at(SystemTime::UNIX_EPOCH + Duration::from_secs(expired));
    }
}

/// A second earlier than now, so that what expired then has.
pub(super) fn seconds(now: SystemTime) -> u64 {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs().saturating_sub(1).max(1)
}

/// What an answer says it is about, by which it can be purged: `Surrogate-Key`, words, and `Cache-Tag`, a
/// list.
pub(super) fn tags(headers: &HeaderMap) -> Arc<[Box<str>]> {
    let texts = |name: &str| {
        let lines = headers
            .get_all(name)
            .iter()
            .filter_map(|line| line.to_str().ok());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let words = texts("surrogate-key");
    let words = words.iter().flat_map(|line| line.split_ascii_whitespace());
    let members = texts("cache-tag");
    let members = members
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim);
    let all = words.chain(members).filter(|tag| !tag.is_empty());
    all.map(Box::from).collect()
}
