//! Fetches a fresh answer in the background, for one that was given stale.
//!
//! The framework copies a request as the client sent it, and runs it like any other. Whose it is and which
//! route takes it has been decided once, and nobody is counted twice for it.

use std::sync::Arc;

use pingora_proxy::Session;
use pingora_proxy::subrequest::Ctx;

use super::super::context::{Context, Matched};
use super::super::forward::{self, ORIGIN_FIELDS};
use super::{Caching, Lookup};
use crate::auth::Identity;
use crate::cache::Refresh;
use crate::snapshot::Snapshot;

/// What was decided about the request whose answer is refreshed.
struct Decided {
    snapshot: Arc<Snapshot>,
    matched: Option<Matched>,
    rewritten_path: Option<Box<str>>,
    identity: Option<Arc<Identity>>,
    client: Option<std::net::IpAddr>,
    is_from_trusted_proxy: bool,
    id: http::HeaderValue,
    lookup: Box<Lookup>,
}

/// Begins to fetch a fresh answer.
pub(super) fn spawn(session: &Session, right: Refresh, context: &mut Context) {
    let Some(spawner) = &session.subrequest_spawner else {
        return;
    };
    let Caching::On(lookup) = &context.caching else {
        return;
    };
    if forward::certificate(context).is_some() {
        // The client's connection is its own, and so is what backends are shown of it.
        return;
    }
    let decided = Decided {
        lookup: Box::new(Lookup {
            refresh: Some(right),
            ..Lookup::new(
                lookup.policy.clone(),
                lookup.ticket.clone(),
                lookup.hash,
                lookup.needs_permission,
                lookup.asked,
            )
        }),
        snapshot: context.snapshot.clone(),
        matched: context.matched,
        rewritten_path: context.rewritten_path.clone(),
        identity: context.identity.clone(),
        client: context.client,
        is_from_trusted_proxy: context.is_from_trusted_proxy,
        id: context.id.clone(),
    };
    let request = Ctx::builder().user_ctx(Box::new(Some(decided))).build();
    // Its end is nobody's to wait for.
    drop(spawner.spawn_background_subrequest(session.as_ref(), request));
}

/// Takes up what was decided, if this is a request in the background.
pub(in super::super) fn resume(session: &mut Session, context: &mut Context) -> bool {
    let Some(request) = &mut session.subrequest_ctx else {
        return false;
    };
    let decided = request
        .user_ctx_mut()
        .and_then(|it| it.downcast_mut::<Option<Decided>>());
    let Some(decided) = decided.and_then(Option::take) else {
        return false;
    };
    context.snapshot = decided.snapshot;
    context.matched = decided.matched;
    context.rewritten_path = decided.rewritten_path;
    context.identity = decided.identity;
    context.client = decided.client;
    context.is_from_trusted_proxy = decided.is_from_trusted_proxy;
    context.id = decided.id;
    context.caching = Caching::On(decided.lookup);
    // No line of the log is about it.
    context.is_logged = true;
    let request = session.req_header_mut();
    forward::simplify(request);
    if !context.is_from_trusted_proxy {
        for name in &ORIGIN_FIELDS {
            request.remove_header(name);
        }
    }
    true
}
