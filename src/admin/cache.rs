//! What is kept: as metrics, and let go before its time.

use std::time::SystemTime;

use http::StatusCode;

use super::answer::Answer;
use crate::cache::{Cache, Purge};
use crate::telemetry::{CacheResult, Exposition};

/// What is kept and what it did for requests.
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
