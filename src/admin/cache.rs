//! What is kept: as metrics, and let go before its time.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use crate::cache::{Cache, Purge};
use crate::snapshot::Snapshot;
use crate::telemetry::{CacheResult, Exposition};

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
    /// Requests of routes that keep answers, by what those did for them: `hit`, `miss`, `stale`, `revalidated`
    /// and `bypass`.
    pub results: BTreeMap<String, u64>,
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
}

/// Lets answers go, as the body of a request says.
pub(super) fn purge(cache: Option<&Cache>, body: &[u8]) -> Answer {
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
    Answer::json(
        StatusCode::OK,
        &cache.store.purge(&purge, SystemTime::now()),
    )
}
