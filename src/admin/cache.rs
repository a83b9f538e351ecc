//! What is kept: as metrics, and let go before its time.

use std::time::SystemTime;

use http::StatusCode;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::api::Answer;
use crate::cache::{Cache, Purge};
use crate::telemetry::CacheResult;

/// What is kept and what it did for requests.
pub(super) fn metrics(cache: &Cache) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    let requests = Opts::new(
        "tollgate_cache_requests_total",
        "Requests of routes that keep answers, by what those did for them.",
    );
    let requests = IntCounterVec::new(requests, &["result"])?;
    registry.register(Box::new(requests.clone()))?;
    for result in CacheResult::ALL {
        let counter = requests.with_label_values(&[result.word()]);
        counter.inc_by(cache.results.sum(result));
    }
    let usage = cache.store.usage();
    for (name, help, value) in [
        (
            "tollgate_cache_bytes",
            "Bytes that kept answers take.",
            usage.bytes,
        ),
        (
            "tollgate_cache_objects",
            "Answers that are kept.",
            usage.objects,
        ),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))?;
    }
    let evicted = IntCounter::new(
        "tollgate_cache_evictions_total",
        "Kept answers that went for lack of room.",
    )?;
    evicted.inc_by(usage.evicted);
    registry.register(Box::new(evicted))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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
