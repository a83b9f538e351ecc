//! Gives answers that are there at once: in memory, whole and fresh, to a client that asks for nothing more.
//!
//! Most hits are such. The framework's state machine would give the same answers in the same words, after
//! several copies of their headers; whatever is less plain is left to it.

use std::time::SystemTime;

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::super::concurrency;
use super::super::context::Context;
use super::request::{Wanted, wanted};
use super::{Caching, identity, response};
use crate::cache::{Kept, RequestDirectives, variance};

/// In which unit parts of an answer can be asked for.
const RANGES: HeaderValue = HeaderValue::from_static("bytes");

/// Answers a request with what is kept, if that can be done at once. If not, and an answer is looked for, the
/// framework has to.
///
/// # Errors
/// If the client goes away.
pub(in super::super) async fn give(session: &mut Session, context: &mut Context) -> Result<bool> {
    let Some(cache) = context.snapshot.cache else {
        return Ok(false);
    };
    let Some(wanted) = wanted(session, cache, None, context) else {
        return Ok(false);
    };
    // Limits may have let the request wait.
    let now = SystemTime::now();
    let kept = is_plain(session, &wanted, context)
        .then(|| {
            let variant = |kept: &HeaderMap| {
                let request = &session.req_header().headers;
                variance(kept, |name| identity::field(name, request, context))
            };
            cache
                .store
                .kept(&wanted.hash, &wanted.location, now, variant)
        })
        .flatten();
    let Some(kept) = kept else {
        wanted.look_up(None, context);
        return Ok(false);
    };
    context.caching = Caching::Given(kept.left(now));
    let written = Box::pin(write((&kept, now), session, context)).await;
    written.map_err(Error::into_down)?;
    Ok(true)
}

/// Whether all that a request asks for is an answer as it is kept.
fn is_plain(session: &Session, wanted: &Wanted, context: &Context) -> bool {
    let request = session.req_header();
    let has = |name| request.headers.contains_key(name);
    let is_particular =
        wanted.policy.obeys_requests && wanted.directives != RequestDirectives::default();
    request.method == Method::GET
        && !has(IF_NONE_MATCH)
        && !has(IF_MODIFIED_SINCE)
        && !has(RANGE)
        && !is_particular
        && context.paced.is_none()
}

async fn write(
    (kept, now): (&Kept, SystemTime),
    session: &mut Session,
    context: &mut Context,
) -> Result<()> {
    let mut header = kept.header(now);
    if header.status == StatusCode::OK && header.headers.contains_key(CONTENT_LENGTH) {
        // The name and the value are those of a field.
        let _ = header.insert_header(ACCEPT_RANGES, RANGES);
    }
    response::tell(session, &mut header, context);
    if concurrency::is_whole(session.req_header(), &header) {
        concurrency::ended(context);
    }
    session
        .write_response_header(Box::new(header), false)
        .await?;
    let mut parts = kept.parts().peekable();
    loop {
        let part = parts.next();
        let is_end = parts.peek().is_none();
        if is_end {
            concurrency::ended(context);
        }
        session.write_response_body(part, is_end).await?;
        if is_end {
            return Ok(());
        }
    }
}
