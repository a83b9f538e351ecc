//! What becomes of a backend's answer, and what clients are told of one that was kept.

use std::time::SystemTime;

use http::header::{AGE, CONTENT_LOCATION, HOST, LOCATION, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_cache::{CachePhase, NoCacheReason, RespCacheable};
use pingora_proxy::Session;

use super::super::context::{Context, Destination};
use super::super::{fallback, respond};
use super::{Caching, outcome};
use crate::cache::{Circumstances, Refusal, Terms, Update, location, merge};

/// What caches did (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Who tells the client about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Told {
    /// What is here told it.
    Here,
    /// It was told before.
    Before,
}

/// Decides whether an answer is kept; after a 304, whether the answer that was kept still is.
pub(in super::super) fn judge(
    session: &Session,
    response: &ResponseHeader,
    context: &mut Context,
) -> RespCacheable {
    let is_of_fallback = matches!(context.destination, Destination::Fallback(_));
    let cache = context.snapshot.cache;
    let is_fallback = fallback::gives_stale(context);
    let Some(lookup) = context.lookup() else {
        return RespCacheable::Uncacheable(NoCacheReason::InternalError);
    };
    let circumstances = Circumstances {
        asked: lookup.asked,
        came: SystemTime::now(),
        needs_permission: lookup.needs_permission,
        is_fallback,
    };
    let update = lookup.update.take();
    let terms = |response: &ResponseHeader| {
        let terms = Terms::of(response, &lookup.policy, circumstances)?;
        let meta = terms.meta(response.clone(), circumstances.came);
        Ok((terms, meta))
    };
    let kept = session
        .cache
        .maybe_cache_meta()
        .map(|meta| meta.response_header());
    let judged = match (&update, kept) {
        _ if is_of_fallback => Err(Refusal::Fallback),
        (Some(update), Some(kept)) => match merge(kept, update) {
            Update::Header(header) => terms(&header),
            Update::OfAnother => Err(Refusal::Changed),
        },
        _ => terms(response),
    };
    match judged {
        Ok((terms, meta)) => {
            if update.is_none() {
                lookup.withheld = terms.withheld;
            }
            RespCacheable::Cacheable(meta)
        }
        Err(mut refusal) => {
            let is_failure = response.status.is_server_error();
            if is_failure && refusal != Refusal::Fallback {
                refusal = Refusal::Failure;
            }
            lookup.refused = Some(refusal);
            // What was kept is not what the backend answers any more.
            if !is_failure
                && refusal != Refusal::Fallback
                && session.cache.enabled()
                && let (Some(cache), Some(key)) = (cache, session.cache.maybe_cache_key())
            {
                cache.store.forget(key);
            }
            RespCacheable::Uncacheable(refusal.into())
        }
    }
}

/// Tells the client about an answer: that it was kept, and all that does not stand in what is kept.
pub(in super::super) fn tell(
    session: &Session,
    response: &mut ResponseHeader,
    context: &mut Context,
) -> Told {
    if response.status.is_informational() {
        return Told::Before;
    }
    let status = match &context.caching {
        Caching::Off => return Told::Before,
        _ => outcome(session, context).and_then(|outcome| outcome.cache_status(session, context)),
    };
    let told = match &mut context.caching {
        Caching::On(lookup) => {
            let phase = session.cache.phase();
            if matches!(phase, CachePhase::Miss | CachePhase::Expired) {
                for (name, value) in lookup.withheld.drain(..) {
                    // Both came in a header.
                    let _ = response.append_header(name, value);
                }
            }
            let is_passed_on = matches!(
                phase,
                CachePhase::Miss | CachePhase::Expired | CachePhase::Revalidated
            );
            if is_passed_on && let Some(meta) = session.cache.maybe_cache_meta() {
                let age = meta.age().as_secs();
                if age > 0 {
                    let _ = response.insert_header(AGE, age);
                }
            }
            lookup.is_given = !session.cache.upstream_used();
            vary(response, &lookup.policy.vary);
            respond::decorate(session.req_header(), response, context);
            Told::Here
        }
        Caching::Given(_) => {
            let policy = context
                .route()
                .and_then(|route| route.policies.cache.as_ref());
            if let Some(policy) = policy {
                vary(response, &policy.vary);
            }
            respond::decorate(session.req_header(), response, context);
            Told::Here
        }
        Caching::Off | Caching::Bypassed(_) => Told::Before,
    };
    if let Some(status) = status {
        let _ = response.append_header(CACHE_STATUS, status);
    }
    told
}

/// Caches between here and the client have to tell answers apart by the same fields.
fn vary(response: &mut ResponseHeader, names: &[HeaderName]) {
    for name in names {
        let is_there = response.headers.get_all(VARY).iter().any(|line| {
            let mut members = line.as_bytes().split(|byte| *byte == b',');
            members.any(|it| {
                it.trim_ascii()
                    .eq_ignore_ascii_case(name.as_str().as_bytes())
            })
        });
        if !is_there {
            let _ = response.append_header(VARY, HeaderValue::from(name.clone()));
        }
    }
}

/// What an unsafe request changed is kept no longer, nor what it says that it changed beside it (RFC 9111
/// §4.4).
pub(in super::super) fn invalidate(
    request: &RequestHeader,
    status: StatusCode,
    response: &HeaderMap,
    context: &Context,
) {
    let Some(cache) = context.snapshot.cache else {
        return;
    };
    let is_done = status.is_success() || status.is_redirection();
    if !is_done || request.method.is_safe() {
        return;
    }
    let host = request
        .headers
        .get(HOST)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let path = context.path(&request.uri);
    let now = SystemTime::now();
    let query = request.uri.query();
    let policy = context
        .route()
        .and_then(|route| route.policies.cache.as_ref());
    let selected = policy.map(|policy| policy.query.select(query));
    cache.store.invalidate(location(host, path, query), now);
    if let Some(selected) = selected
        && selected.as_deref() != query
    {
        cache
            .store
            .invalidate(location(host, path, selected.as_deref()), now);
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        let said = response.get(name).and_then(|value| value.to_str().ok());
        if let Some(said) = said.and_then(|text| same_host(text, host)) {
            cache.store.invalidate(said, now);
        }
    }
}

/// Where a reference leads, if that is the same host.
fn same_host(text: &str, host: &[u8]) -> Option<String> {
    let text = text.split('#').next().unwrap_or_default();
    let own = location(host, "", None);
    let Some((_, rest)) = text.split_once("://") else {
        let is_path = text.starts_with('/') && !text.starts_with("//");
        return is_path.then(|| own + text);
    };
    let (authority, path) = rest.split_at(rest.find('/')?);
    (location(authority.as_bytes(), "", None) == own).then(|| own + path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_the_same_host_is_followed() {
        let at = |text| same_host(text, b"Shop.example:80");
        assert_eq!(at("/a?b=1#c").as_deref(), Some("shop.example/a?b=1"));
        assert_eq!(
            at("https://shop.example/a").as_deref(),
            Some("shop.example/a")
        );
        for other in [
            "//evil.example/a",
            "http://evil.example/a",
            "a",
            "",
            "http://shop.example.evil/a",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
