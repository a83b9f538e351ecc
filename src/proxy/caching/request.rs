//! Whether an answer is looked for, and under which key.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::{HeaderValue, Uri};
use pingora_cache::CacheOptionOverrides;
use pingora_cache::key::HashBinary;
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_proxy::Session;

use super::super::attempt;
use super::super::context::Context;
use super::super::forward::X_FORWARDED_HOST;
use super::{Caching, Lookup, identity};
use crate::cache::{
    Cache, CachePolicy, KeyParts, Question, Refresh, RequestDirectives, Ticket, location,
};

/// How often a request looks again after others that it waited for.
const MOST_LOOKS: usize = 8;

/// The answer that a request asks for, if one is looked for.
pub(super) struct Wanted {
    pub(super) policy: Arc<CachePolicy>,
    /// What tells it from others.
    pub(super) hash: HashBinary,
    /// The host and the target that it is about.
    pub(super) location: String,
    /// Purges up to this one came before the request.
    generation: u64,
    pub(super) directives: RequestDirectives,
    needs_permission: bool,
}

impl Wanted {
    /// Has the framework look for it.
    pub(super) fn look_up(self, refresh: Option<Refresh>, context: &mut Context) {
        let ticket = Ticket::new(self.location, self.generation, self.policy.max_object_size);
        let lookup = Lookup {
            directives: self.directives,
            refresh,
            ..Lookup::new(
                self.policy,
                ticket,
                self.hash,
                self.needs_permission,
                context.time,
            )
        };
        context.caching = Caching::On(lookup.into());
    }
}

/// The answer that a request asks for if the route keeps some and the request is one for which that makes
/// sense.
pub(super) fn wanted(
    session: &mut Session,
    cache: &Cache,
    directives: Option<RequestDirectives>,
    context: &mut Context,
) -> Option<Wanted> {
    let policy = context.route()?.policies.cache.clone()?;
    let has_body = !session.is_body_empty();
    let request = session.req_header();
    let directives = directives.unwrap_or_else(|| RequestDirectives::of(&request.headers));
    let bypass = policy.bypass(Question {
        method: &request.method,
        headers: &request.headers,
        has_body,
        is_from_trusted_proxy: context.is_from_trusted_proxy,
        directives,
    });
    if let Some(why) = bypass {
        context.caching = Caching::Bypassed(why);
        return None;
    }
    decide_service(session, context);
    select(session, &policy);
    let request = session.req_header();
    let host = request
        .headers
        .get(HOST)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let path = context.path(&request.uri);
    let has_credential = request.headers.contains_key(AUTHORIZATION);
    Some(Wanted {
        hash: hash(session, host, &policy, context),
        location: location(host, path, request.uri.query()),
        generation: cache.store.generation(),
        directives,
        needs_permission: has_credential || (policy.is_shared && context.identity.is_some()),
        policy,
    })
}

/// Has the framework look for an answer, if one is wanted.
pub(in super::super) fn begin(session: &mut Session, context: &mut Context) {
    let Some(cache) = context.snapshot.cache else {
        return;
    };
    if let Some(refresh) = context.lookup().and_then(|lookup| lookup.refresh.take())
        && let Some(wanted) = wanted(session, cache, Some(RequestDirectives::default()), context)
    {
        wanted.look_up(Some(refresh), context);
    }
    if let Some(lookup) = context.lookup() {
        enable(session, cache, &lookup.policy);
    }
}

fn enable(session: &mut Session, cache: &'static Cache, policy: &CachePolicy) {
    let lock = policy.wait.map(|_| cache as &'static CacheKeyLockImpl);
    let mut options = CacheOptionOverrides::default();
    options.wait_timeout = policy.wait;
    options.max_lock_retries = Some(MOST_LOOKS);
    // A client that reads slowly must not hold up those who read along.
    session.set_proxy_tasks_enabled(true);
    let uncacheable = cache.uncacheable();
    session
        .cache
        .enable(cache, None, Some(uncacheable), lock, Some(options));
}

/// Which of the services that share the route would get the request: their answers are not the same.
fn decide_service(session: &Session, context: &mut Context) {
    let forward = context.route().and_then(|route| route.forward());
    if forward.is_some_and(|forward| forward.split.services().nth(1).is_some()) {
        attempt::decide_destination(session.req_header(), context);
    }
}

/// Takes away from a request what does not stand in the key.
fn select(session: &mut Session, policy: &CachePolicy) {
    let request = session.req_header();
    let query = policy
        .query
        .select(request.uri.query())
        .map(Cow::into_owned);
    if query.as_deref() != request.uri.query() {
        let path = request.uri.path();
        let target = match &query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        if let Ok(uri) = Uri::from_maybe_shared(Bytes::from(target)) {
            session.req_header_mut().set_uri(uri);
        }
    }
    if policy.cookies.is_some() && session.req_header().headers.contains_key(COOKIE) {
        let cookies = cookies(session, policy);
        let cookies = cookies.and_then(|it| HeaderValue::from_maybe_shared(Bytes::from(it)).ok());
        let request = session.req_header_mut();
        request.remove_header(&COOKIE);
        if let Some(cookies) = cookies {
            // A name and a value cannot fail to be a field.
            let _ = request.insert_header(COOKIE, cookies);
        }
    }
}

fn cookies(session: &Session, policy: &CachePolicy) -> Option<Vec<u8>> {
    let lines = session.req_header().headers.get_all(COOKIE);
    policy.select_cookies(lines.iter().map(HeaderValue::as_bytes))
}

fn hash(session: &Session, host: &[u8], policy: &CachePolicy, context: &Context) -> HashBinary {
    let request = session.req_header();
    let headers = &request.headers;
    let service = context.service().map_or("", |service| &*service.name);
    let mut more: Vec<(&str, Option<Cow<'_, [u8]>>)> = Vec::new();
    for name in &policy.vary {
        more.push((name.as_str(), identity::field(name, headers, context)));
    }
    for claim in &policy.claims {
        let identity = context.identity.as_deref();
        more.push((claim, identity.and_then(|it| it.claim_bytes(claim))));
    }
    if !policy.is_shared {
        more.push(("", identity::asker(headers, context).map(Cow::from)));
    }
    if context.is_from_trusted_proxy {
        more.push(("host", identity::field(&X_FORWARDED_HOST, headers, context)));
    }
    KeyParts {
        scheme: if context.is_over_tls(headers) {
            "https"
        } else {
            "http"
        },
        host,
        path: context.path(&request.uri),
        query: request.uri.query(),
        cookies: cookies(session, policy).as_deref(),
        service,
        route: context.route().map_or(0, |route| route.id),
        more: &more,
    }
    .hash(policy)
}
