//! What a request had to do with answers that are kept, in the log, in the metrics, and for the client.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use pingora_cache::{CacheMeta, CachePhase, NoCacheReason};
use pingora_proxy::Session;

use super::super::context::Context;
use super::{Caching, Lookup};
use crate::telemetry::CacheResult;

/// What came of it, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Outcome {
    pub(in super::super) result: CacheResult,
    pub(in super::super) reason: Option<&'static str>,
}

/// What came of it so far; `None` if the route keeps nothing.
pub(in super::super) fn outcome(session: &Session, context: &Context) -> Option<Outcome> {
    let (result, reason) = match &context.caching {
        Caching::Off => return None,
        Caching::Bypassed(why) => (CacheResult::Bypass, Some(*why)),
        Caching::On(lookup) => of_phase(session, lookup),
        Caching::Given(_) => (CacheResult::Hit, None),
    };
    Some(Outcome { result, reason })
}

fn of_phase(session: &Session, lookup: &Lookup) -> (CacheResult, Option<&'static str>) {
    let refused = lookup.refused.map(|refusal| refusal.word());
    let has_waited = session.cache.lock_duration().is_some();
    match session.cache.phase() {
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating
            if lookup.is_stale.is_some() =>
        {
            (CacheResult::Stale, lookup.is_stale)
        }
        CachePhase::Hit if lookup.ticket.is_from_disk() => (CacheResult::Hit, Some("disk")),
        CachePhase::Hit => (CacheResult::Hit, has_waited.then_some("collapsed")),
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            (CacheResult::Revalidated, refused)
        }
        CachePhase::Bypass => (CacheResult::Bypass, refused.or(Some("uncacheable"))),
        CachePhase::Expired | CachePhase::Stale | CachePhase::StaleUpdating => {
            (CacheResult::Miss, refused.or(Some("expired")))
        }
        CachePhase::Disabled(why) => (CacheResult::Miss, refused.or(Some(word(why)))),
        CachePhase::Miss | CachePhase::CacheKey | CachePhase::Uninit => (CacheResult::Miss, None),
    }
}

fn word(why: NoCacheReason) -> &'static str {
    match why {
        NoCacheReason::Deferred => "head",
        NoCacheReason::CacheLockTimeout => "waited_too_long",
        NoCacheReason::CacheLockGiveUp | NoCacheReason::CacheLockRetryLimit => "uncacheable",
        NoCacheReason::DeclinedToUpstream => "only_if_cached",
        NoCacheReason::UpstreamError => "upstream_error",
        NoCacheReason::Custom(word) => word,
        _ => "internal",
    }
}

impl Outcome {
    /// What the client is told of it (RFC 9211).
    pub(super) fn cache_status(self, session: &Session, context: &Context) -> Option<HeaderValue> {
        let left = match context.caching {
            Caching::Given(left) => Some(left),
            _ => session.cache.maybe_cache_meta().map(left),
        };
        let is_kept = matches!(
            session.cache.phase(),
            CachePhase::Miss | CachePhase::Expired
        );
        let forwarded = context.attempt.status.map_or(0, |status| status.as_u16());
        let text = match (self.result, left) {
            (CacheResult::Hit | CacheResult::Stale, Some(left)) => {
                let more = match self.reason {
                    Some("collapsed") => "; collapsed",
                    Some("disk") => "; detail=disk",
                    _ => "",
                };
                return hit(left, more);
            }
            (CacheResult::Revalidated, Some(left)) => {
                format!("tollgate; fwd=stale; fwd-status={forwarded}; ttl={left}")
            }
            (CacheResult::Miss, Some(left)) if is_kept => {
                let why = if self.reason == Some("expired") {
                    "stale"
                } else {
                    "miss"
                };
                format!("tollgate; fwd={why}; fwd-status={forwarded}; stored; ttl={left}")
            }
            (CacheResult::Miss, _) => match self.reason {
                Some(reason) => format!("tollgate; fwd=miss; detail={reason}"),
                None => "tollgate; fwd=miss".to_owned(),
            },
            (_, _) => format!(
                "tollgate; fwd=bypass; detail={}",
                self.reason.unwrap_or("uncacheable")
            ),
        };
        HeaderValue::try_from(text).ok()
    }
}

/// For how many seconds more an answer is fresh, or less than none if it is not.
fn left(meta: &CacheMeta) -> i64 {
    match meta.fresh_until().duration_since(SystemTime::now()) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, |it| -it),
    }
}

/// The commonest one, in one piece of memory of its size.
fn hit(left: i64, more: &str) -> Option<HeaderValue> {
    let mut digits = itoa::Buffer::new();
    let text = ["tollgate; hit; ttl=", digits.format(left), more].concat();
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}
