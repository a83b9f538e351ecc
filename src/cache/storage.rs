//! The store as the framework's state machine asks for it.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget,
    PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta};

use super::Cache;
use super::disk::{FileHit, Loaded};
use super::fill::{Fill, Reader};
use super::object::Object;
use super::shard::Found;

/// An answer that is kept as a whole, as it is read.
struct WholeHit {
    object: Arc<Object>,
    /// The bytes that are still to be read.
    rest: std::ops::Range<u64>,
}

/// An answer on its way, as it is read.
struct FillHit(Reader);

/// An answer as it is written.
struct Miss {
    cache: &'static Cache,
    fill: Arc<Fill>,
}

type Hit = Option<(CacheMeta, HitHandler)>;

fn whole(object: Arc<Object>) -> (CacheMeta, HitHandler) {
    let rest = 0..object.length();
    (object.meta(), Box::new(WholeHit { object, rest }))
}

fn follow(fill: &Arc<Fill>) -> (CacheMeta, HitHandler) {
    (fill.meta(), Box::new(FillHit(fill.reader())))
}

#[async_trait]
impl Storage for Cache {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Hit> {
        let entry = match self.store.find(key) {
            None => return Ok(None),
            Some(Found::Fill(fill)) => return Ok(Some(follow(&fill))),
            Some(Found::Object(object)) => return Ok(Some(whole(object))),
            Some(Found::Disk(entry)) => entry,
        };
        // In a box of its own, so that what is in memory pays nothing for it.
        let loaded = Box::pin(self.store.load(entry)).await;
        let loaded = loaded.map(|loaded| match loaded {
            Loaded::Object(object) => whole(object),
            Loaded::File(meta, file) => (meta, Box::new(file) as HitHandler),
        });
        if let (Some(_), Some(ticket)) = (&loaded, key.extensions.get::<Arc<super::Ticket>>()) {
            ticket.came_from_disk();
        }
        Ok(loaded)
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        _: Option<&[u8]>,
        _: &SpanHandle,
    ) -> Result<Hit> {
        let ticket = key.extensions.get::<Arc<super::Ticket>>();
        Ok(ticket
            .and_then(|ticket| ticket.fill())
            .map(|fill| follow(&fill)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        match self.store.begin(key, meta) {
            Some(fill) => Ok(Box::new(Miss { cache: self, fill })),
            None => Err(Error::new_in(ErrorType::InternalError)),
        }
    }

    async fn purge(
        &'static self,
        _: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        // Purges come to the store itself.
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        Ok(self.store.update(key, meta))
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

impl WholeHit {
    fn next(&mut self) -> Option<Bytes> {
        let mut begin = 0;
        for part in &*self.object.body {
            let end = begin + part.len() as u64;
            if self.rest.start < end && !self.rest.is_empty() {
                let from = (self.rest.start - begin) as usize;
                let to = (self.rest.end.min(end) - begin) as usize;
                self.rest.start = begin + to as u64;
                return Some(part.slice(from..to));
            }
            begin = end;
        }
        None
    }
}

#[async_trait]
impl HandleHit for WholeHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.next())
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.object.length();
        if start as u64 >= length {
            return Err(Error::new_in(ErrorType::InternalError));
        }
        let end = end.map_or(length, |end| length.min(end as u64));
        self.rest = start as u64..end;
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl HandleHit for FileHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let part = self.next().await;
        part.map_err(|error| Error::because(ErrorType::ReadError, "a kept answer on disk", error))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        match Self::seek(self, start as u64, end.map(|end| end as u64)) {
            true => Ok(()),
            false => Err(Error::new_in(ErrorType::InternalError)),
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl HandleHit for FillHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let part = self.0.read().await;
        // What is known of the backend's failure is known to whoever fetches; here the answer just ends.
        part.map_err(|_| Error::new_up(ErrorType::ReadError))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, part: Bytes, _is_end: bool) -> Result<()> {
        match self.cache.store.write(&self.fill, &part) {
            true => Ok(()),
            false => Err(Error::new_down(ErrorType::WriteTimedout)),
        }
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        if !self.fill.end() {
            return Err(Error::new_up(ErrorType::ReadError));
        }
        self.cache.store.complete(&self.fill);
        Ok(MissFinishType::Created(0))
    }
}

/// What was not finished breaks off for all who read it.
impl Drop for Miss {
    fn drop(&mut self) {
        self.fill.break_off();
        self.cache.store.abandon(&self.fill);
    }
}
