//! Requests and the answers that are kept: the callbacks of the framework's state machine.
//!
//! Which answers may be kept is decided in [`crate::cache`]; here stands what of a request and of an
//! exchange goes into that, and what the client is told.

mod give;
mod identity;
mod interim;
mod outcome;
mod refresh;
mod request;
mod response;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CachePhase, ForcedFreshness, NoCacheReason};
use pingora_proxy::Session;

pub(super) use self::give::give;
pub(super) use self::interim::pass_on;
pub(super) use self::outcome::outcome;
pub(super) use self::refresh::resume;
pub(super) use self::request::begin;
pub(super) use self::response::{Told, invalidate, judge, tell};
use super::context::Context;
use super::reply::Reply;
use super::{attempt, fallback, repeat};
use crate::cache::{CachePolicy, Refresh, Refusal, RequestDirectives, Ticket, variance};
use crate::config::FallbackOn;
use crate::telemetry::Flag;

/// What a request has to do with answers that are kept.
#[derive(Debug, Default)]
pub(super) enum Caching {
    /// Nothing: its route keeps none.
    #[default]
    Off,
    /// None is looked for, because of this.
    Bypassed(&'static str),
    /// The framework looks for one, or keeps one.
    On(Box<Lookup>),
    /// One was there at once, fresh for so many seconds more.
    Given(i64),
}

/// How a request fares with the store.
#[derive(Debug)]
pub(super) struct Lookup {
    policy: Arc<CachePolicy>,
    ticket: Arc<Ticket>,
    hash: HashBinary,
    directives: RequestDirectives,
    needs_permission: bool,
    /// When the backend was asked.
    asked: SystemTime,
    /// What a 304 said.
    update: Option<HeaderMap>,
    /// Fields of the backend's answer that are not kept, for this client.
    withheld: Vec<(HeaderName, HeaderValue)>,
    refused: Option<Refusal>,
    /// Whether there is an answer for when the backend fails.
    has_stale: bool,
    /// Whether the client is given one that was kept.
    is_given: bool,
    /// Why the client gets a stale one.
    is_stale: Option<&'static str>,
    /// What went wrong, if that is why.
    stale_for: Option<FallbackOn>,
    /// The right to fetch a fresh one, if that is all that this request is for.
    refresh: Option<Refresh>,
}

impl Lookup {
    /// One that has just begun, for whatever answer there is.
    fn new(
        policy: Arc<CachePolicy>,
        ticket: Arc<Ticket>,
        hash: HashBinary,
        needs_permission: bool,
        asked: SystemTime,
    ) -> Self {
        Self {
            policy,
            ticket,
            hash,
            directives: RequestDirectives::default(),
            needs_permission,
            asked,
            update: None,
            withheld: Vec::new(),
            refused: None,
            has_stale: false,
            is_given: false,
            is_stale: None,
            stale_for: None,
            refresh: None,
        }
    }
}

impl Context {
    pub(super) fn lookup(&mut self) -> Option<&mut Lookup> {
        match &mut self.caching {
            Caching::On(lookup) => Some(lookup),
            Caching::Off | Caching::Bypassed(_) | Caching::Given(_) => None,
        }
    }

    /// Whether the client is given an answer that was kept, so that its request is there as a whole.
    pub(super) fn is_answered_from_store(&self) -> bool {
        match &self.caching {
            Caching::On(lookup) => lookup.is_given,
            Caching::Given(_) => true,
            Caching::Off | Caching::Bypassed(_) => false,
        }
    }

    /// What went wrong so that the client is given a stale answer.
    pub(super) fn stale_for(&self) -> Option<FallbackOn> {
        match &self.caching {
            Caching::On(lookup) => lookup.stale_for,
            Caching::Off | Caching::Bypassed(_) | Caching::Given(_) => None,
        }
    }

    /// Whether a stale answer is there for when the backend fails.
    pub(super) fn has_stale(&self) -> bool {
        matches!(&self.caching, Caching::On(lookup) if lookup.has_stale)
    }
}

/// The key of the answer that is looked for.
pub(super) fn key(context: &mut Context) -> Result<CacheKey> {
    let lookup = context.lookup();
    let lookup = lookup.ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
    Ok(lookup.ticket.key(lookup.hash))
}

/// What becomes of an answer that was found.
pub(super) fn found(
    session: &Session,
    meta: &CacheMeta,
    is_fresh: bool,
    context: &mut Context,
) -> Option<ForcedFreshness> {
    let now = SystemTime::now();
    if let Some(forced) = asked_for(meta, (is_fresh, now), context) {
        return Some(forced);
    }
    let lookup = context.lookup()?;
    lookup.has_stale = !is_fresh && meta.serve_stale_if_error(now);
    if is_fresh || lookup.refresh.is_some() || !meta.serve_stale_while_revalidate(now) {
        return None;
    }
    lookup.is_stale = Some("revalidating");
    if let Some(right) = Refresh::begin(meta) {
        refresh::spawn(session, right, context);
    }
    Some(ForcedFreshness::ForceFresh)
}

/// What the client's own directives make of it, where they hold (RFC 9111 §5.2.1).
fn asked_for(
    meta: &CacheMeta,
    (is_fresh, now): (bool, SystemTime),
    context: &mut Context,
) -> Option<ForcedFreshness> {
    let lookup = context.lookup()?;
    if !lookup.policy.obeys_requests || lookup.refresh.is_some() {
        return None;
    }
    let directives = lookup.directives;
    let left = meta.fresh_until().duration_since(now).unwrap_or_default();
    let is_too_old = directives
        .max_age
        .is_some_and(|most| meta.age().as_secs() > most.into());
    let is_too_short = directives
        .min_fresh
        .is_some_and(|least| left.as_secs() < least.into());
    if directives.no_cache || is_too_old || is_too_short {
        return Some(ForcedFreshness::ForceExpired);
    }
    let since = now.duration_since(meta.fresh_until()).unwrap_or_default();
    let is_asked_for = directives
        .max_stale
        .is_some_and(|most| since.as_secs() <= most.into());
    if !is_fresh && is_asked_for && crate::cache::may_be_stale(meta.headers()) {
        lookup.is_stale = Some("max_stale");
        return Some(ForcedFreshness::ForceFresh);
    }
    None
}

/// Nothing was found. What is asked for by its header alone is not fetched whole to be kept.
pub(super) fn missed(session: &mut Session) {
    match session.req_header().method == http::Method::HEAD {
        true => session.cache.disable(NoCacheReason::Deferred),
        false => session.cache.cache_miss(),
    }
}

/// The answer to a request that must not go to a backend, although nothing was found for it.
pub(super) fn refused_miss(context: &mut Context) -> Option<Reply> {
    let lookup = context.lookup()?;
    lookup
        .directives
        .only_if_cached
        .then(|| Reply::not_cached("only a kept answer was asked for, and there is none"))
}

/// Which of the variants of an answer a request asks for.
pub(super) fn variant(
    meta: &CacheMeta,
    request: &HeaderMap,
    context: &Context,
) -> Option<HashBinary> {
    variance(meta.headers(), |name| {
        identity::field(name, request, context)
    })
}

/// Whether the client gets a stale answer instead of this failure.
pub(super) fn serves_stale(
    session: &Session,
    error: Option<&Error>,
    context: &mut Context,
) -> bool {
    let Some(error) = error else {
        // Fresh ones are fetched in the background by `found`.
        return false;
    };
    if let (ErrorSource::Upstream, ErrorType::HTTPStatus(status)) = (error.esource(), error.etype())
        && let Ok(status) = http::StatusCode::from_u16(*status)
    {
        let cause = FallbackOn::Status(status.as_u16());
        if !fallback::allows_stale(cause, context) {
            return false;
        }
        attempt::answered(status, context);
        if repeat::before_stale(session, status, context) {
            return false;
        }
        attempt::ended(context);
        return mark_stale("status", cause, context);
    }
    let pending = context.pending_reply.as_ref().map(|reply| reply.flag);
    let flag = pending.or_else(|| attempt::reply_to(error, context).map(|reply| reply.flag));
    let Some((flag, cause)) = flag.and_then(|flag| Some((flag, fallback::cause(flag)?))) else {
        return false;
    };
    if !fallback::allows_stale(cause, context) {
        return false;
    }
    context.pending_reply = None;
    context.note(flag);
    attempt::ended(context);
    mark_stale("error", cause, context)
}

fn mark_stale(why: &'static str, cause: FallbackOn, context: &mut Context) -> bool {
    if fallback::gives_stale(context) {
        context.note(Flag::Fallback);
    }
    if let Some(lookup) = context.lookup() {
        lookup.is_stale = Some(why);
        lookup.stale_for = Some(cause);
    }
    true
}

/// The backend is asked now.
pub(super) fn asked(context: &mut Context) {
    if let Some(lookup) = context.lookup() {
        lookup.asked = SystemTime::now();
    }
}

/// How long more of an answer is waited for that is too large to be kept, while its readers are slower than
/// its backend.
pub(super) fn hold_back(context: &mut Context) -> Option<Duration> {
    context.lookup()?.ticket.backlog()?.delay()
}

/// A backend's header came. Returns whether what the client is told of it waits until it is kept.
pub(super) fn answered(
    session: &Session,
    status: http::StatusCode,
    headers: &HeaderMap,
    context: &mut Context,
) -> bool {
    let Some(lookup) = context.lookup() else {
        return false;
    };
    let is_update =
        status == http::StatusCode::NOT_MODIFIED && session.cache.phase() == CachePhase::Stale;
    lookup.update = is_update.then(|| headers.clone());
    true
}
