//! Bodies that credentials are bound to: a request whose body is not the one that was signed never
//! reaches a backend as a whole. Its end is held back until all of it is known to be right.

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::authenticate::refused;
use super::context::Context;
use super::reply::Reply;
use crate::auth::{AuthResult, Content, Refusal};

/// What the body of a request must be, says the provider of this number.
#[derive(Debug)]
pub(super) struct Bound {
    way: usize,
    content: Content,
}

impl Bound {
    /// `None` if the body may be anything.
    pub(super) fn new(way: usize, content: Content) -> Option<Box<Self>> {
        (!content.is_any()).then(|| Self { way, content }.into())
    }
}

/// Tells at once whether a request that has no body may have none; the bodies of others are looked at as
/// they come.
pub(super) fn check_bodiless(
    session: &mut Session,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    match &context.bound {
        // What comes on an upgraded connection is no body.
        Some(bound) if session.is_body_empty() => {
            let end = bound.content.end();
            let reply = end.map_err(|refusal| reply(refusal, context).into());
            context.bound = None;
            reply
        }
        _ => Ok(()),
    }
}

/// The body comes from its start, for the first attempt or again for another one.
pub(super) fn begin(context: &mut Context) {
    if let Some(bound) = &mut context.bound {
        bound.content.restart();
    }
}

/// A part of the body came.
///
/// # Errors
/// If it is not the body that was signed; the answer waits in `context`.
pub(super) fn passed(part: Option<&Bytes>, is_end: bool, context: &mut Context) -> Result<()> {
    let Some(bound) = &mut context.bound else {
        return Ok(());
    };
    let mut verdict = part.map_or(Ok(()), |part| bound.content.add(part));
    if is_end && verdict.is_ok() {
        verdict = bound.content.end();
        if verdict.is_ok() {
            // If it is sent once more, it is this one.
            context.bound = None;
        }
    }
    verdict.map_err(|refusal| {
        let reply = reply(refusal, context);
        let status = reply.status.as_u16();
        context.pending_reply = Some(reply);
        Error::new_down(ErrorType::HTTPStatus(status))
    })
}

fn reply(refusal: Refusal, context: &Context) -> Reply {
    let rule = context
        .route()
        .and_then(|route| route.policies.auth.as_deref());
    match (rule, &context.bound) {
        (Some(rule), Some(bound)) => {
            let mechanism = rule.ways()[bound.way].provider.counted_as();
            let result = AuthResult::Refused(refusal);
            context.snapshot.auth_results.count(mechanism, result);
            refused(rule, Some(bound.way), refusal)
        }
        _ => Reply::internal("a body was checked for nobody"),
    }
}
