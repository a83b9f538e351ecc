//! What is kept: as metrics, and let go before its time.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::answer::Answer;
use crate::cache::{Cache, DiskUsage, Purge};
use crate::snapshot::Snapshot;
use crate::telemetry::{CacheResult, Exposition};

/// How long a purge may take on disk until whoever asked for it is told that it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is kept and what it did for requests.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct CacheReport {
    /// Bytes that kept answers take.
    pub bytes: u64,
    /// Bytes that they may take; 0 if no route keeps any.
    pub max_bytes: u64,
    /// Answers that are kept.
    pub objects: u64,
    /// Answers that went for lack of room, since the start of the process.
    pub evictions: u64,
    /// What is kept on disk, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
    /// Requests of routes that keep answers, by what those did for them: `hit`, `miss`, `stale`, `revalidated`
    /// and `bypass`.
    pub results: BTreeMap<String, u64>,
}

/// What is kept on disk.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct DiskReport {
    /// `ready`; `reading` while it is looked what is there; `failing` if nothing can be written; `waiting` while
    /// another process has the folder, and `handed_over` once one has taken it over.
    pub state: String,
    /// Bytes that answers take there.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Answers that are there.
    pub objects: u64,
    /// Requests that were answered from there, since the start of the process.
    pub hits: u64,
    /// Answers that went for lack of room.
    pub evictions: u64,
    /// Answers that were not written because too many waited for that.
    pub busy: u64,
    /// Answers that could not be written.
    pub failed: u64,
    /// Files that were dropped since they were not what had been written.
    pub damaged: u64,
}

impl From<DiskUsage> for DiskReport {
    fn from(usage: DiskUsage) -> Self {
        Self {
            state: usage.state.word().to_owned(),
            bytes: usage.bytes,
            max_bytes: usage.max_bytes,
            objects: usage.objects,
            hits: usage.hits,
            evictions: usage.evicted,
            busy: usage.busy,
            failed: usage.failed,
            damaged: usage.damaged,
        }
    }
}

/// The same for `GET /cache`.
pub(super) fn show(snapshot: &Snapshot) -> Answer {
    let report = snapshot.cache.map_or_else(CacheReport::default, |cache| {
        let usage = cache.store.usage();
        let results = CacheResult::ALL.into_iter();
        CacheReport {
            bytes: usage.bytes,
            max_bytes: snapshot.settings.cache_memory,
            objects: usage.objects,
            evictions: usage.evicted,
            disk: cache.store.disk_usage().map(DiskReport::from),
            results: results
                .map(|it| (it.word().to_owned(), cache.results.sum(it)))
                .collect(),
        }
    });
    Answer::json(StatusCode::OK, &report)
}

/// The same as metrics.
pub(super) fn expose(cache: &Cache, page: &mut Exposition) {
    let mut requests = page.counter(
        "tollgate_cache_requests_total",
        "Requests of routes that keep answers, by what those did for them.",
    );
    for result in CacheResult::ALL {
        requests.sample(&[("result", result.word())], cache.results.sum(result));
    }
    let usage = cache.store.usage();
    page.gauge("tollgate_cache_bytes", "Bytes that kept answers take.")
        .sample(&[], usage.bytes);
    page.gauge("tollgate_cache_objects", "Answers that are kept.")
        .sample(&[], usage.objects);
    page.counter(
        "tollgate_cache_evictions_total",
        "Kept answers that went for lack of room.",
    )
    .sample(&[], usage.evicted);
    if let Some(disk) = cache.store.disk_usage() {
        expose_disk(&disk, page);
    }
}

fn expose_disk(disk: &DiskUsage, page: &mut Exposition) {
    page.gauge(
        "tollgate_cache_disk_bytes",
        "Bytes that kept answers take on disk.",
    )
    .sample(&[], disk.bytes);
    page.gauge(
        "tollgate_cache_disk_objects",
        "Answers that are kept on disk.",
    )
    .sample(&[], disk.objects);
    page.counter(
        "tollgate_cache_disk_hits_total",
        "Kept answers that were read from disk.",
    )
    .sample(&[], disk.hits);
    page.counter(
        "tollgate_cache_disk_evictions_total",
        "Kept answers that went from disk for lack of room.",
    )
    .sample(&[], disk.evicted);
    let mut dropped = page.counter(
        "tollgate_cache_disk_writes_dropped_total",
        "Kept answers that were not written to disk: too many waited for that, or it failed.",
    );
    dropped.sample(&[("reason", "busy")], disk.busy);
    dropped.sample(&[("reason", "failed")], disk.failed);
    page.counter(
        "tollgate_cache_disk_damaged_total",
        "Files of kept answers that were dropped since they were not what had been written.",
    )
    .sample(&[], disk.damaged);
}

/// Lets answers go, as the body of a request says.
pub(super) async fn purge(cache: Option<&Cache>, body: &[u8]) -> Answer {
    let Some(cache) = cache else {
        return Answer::text(StatusCode::CONFLICT, "no route keeps answers: see `cache`");
    };
    let purge = serde_json::from_slice(body).ok().and_then(|purge: Purge| {
        let target = purge.target.normalised()?;
        Some(Purge { target, ..purge })
    });
    let Some(purge) = purge else {
        let text = "send { \"target\": { \"url\": \"http://host/path\" }, \"soft\": false }, or a prefix, or a tag; \
                    or { \"target\": \"all\" }";
        return Answer::text(StatusCode::BAD_REQUEST, text);
    };
    let (purged, carried_out) = cache.store.purge(&purge, SystemTime::now());
    if let Some(carried_out) = carried_out
        && !matches!(timeout(PATIENCE, carried_out).await, Ok(Ok(())))
    {
        let text = "what is in memory is purged, and nothing of it is given any more; but what is on disk \
                    may come back with a restart: see the log, and send it again";
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    Answer::json(StatusCode::OK, &purged)
}
