//! Answers that can be given at once: whole, in memory and fresh. Whatever has to wait, to be read or to be
//! asked about goes by the framework's state machine.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, HeaderValue, Version};
use pingora::http::ResponseHeader;
use pingora_cache::key::HashBinary;

use super::object::Object;
use super::store::{Store, read};

/// An answer that can be given at once.
#[derive(Debug)]
pub struct Kept(Arc<Object>);

impl Store {
    /// The answer for a key about a location, unless it is stale, is not in memory, is about to be replaced,
    /// or is not the one that `variant` says of its header that the client wants.
    pub fn kept(
        &self,
        key: &HashBinary,
        location: &str,
        now: SystemTime,
        variant: impl FnOnce(&HeaderMap) -> Option<HashBinary>,
    ) -> Option<Kept> {
        let shard = read(self.shard(self.hash(location)));
        let object = match shard.look(u128::from_be_bytes(*key)) {
            (Some(object), None) if object.is_fresh(now) => object.clone(),
            _ => return None,
        };
        drop(shard);
        let wanted = variant(object.head.headers());
        if wanted.is_some() && wanted != object.head.variance() {
            return None;
        }
        object.used();
        Some(Kept(object))
    }
}

impl Kept {
    /// Its header for a client that gets it now.
    pub fn header(&self, now: SystemTime) -> ResponseHeader {
        let mut header = self.0.head.header().clone();
        header.set_version(Version::HTTP_11);
        let age = now.duration_since(self.0.head.made()).unwrap_or_default();
        // A number is a field's value.
        let _ = header.insert_header(AGE, HeaderValue::from(age.as_secs()));
        header
    }

    /// For how many seconds more it is fresh.
    pub fn left(&self, now: SystemTime) -> i64 {
        let left = self.0.head.fresh_until().duration_since(now);
        i64::try_from(left.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
    }

    /// Its body, part by part.
    pub fn parts(&self) -> impl Iterator<Item = Bytes> {
        self.0.body.iter().cloned()
    }
}
