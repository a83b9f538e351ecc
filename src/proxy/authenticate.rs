//! Who comes: what becomes of a request by its credentials, and what its client is told.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, header};
use pingora::http::RequestHeader;

use super::admission::{Admission, Origin, admission};
use super::ask::{Asked, ask};
use super::content::Bound;
use super::context::Context;
use super::reply::Reply;
use super::trace;
use crate::auth::{AuthResult, Credentials, Identity, Mechanism, Refusal, Rule};
use crate::snapshot::Route;
use crate::telemetry::Flag;
use crate::telemetry::tracing::Phase;
use crate::upstream::Backends;

/// When a client may come back whose credential could not be verified: seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("5");

pub(super) async fn authenticate(
    route: &Route,
    request: &RequestHeader,
    backends: &Backends,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(rule) = &route.policies.auth else {
        return Ok(());
    };
    trace::enter(Phase::Authenticate, context);
    let connection = context.connection.as_ref();
    let shown = connection.and_then(|it| it.certificate());
    let credentials = Credentials {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
        certificates: shown.map_or(&[], |it| it.der()),
        is_encrypted: connection.is_some_and(|it| it.channel().is_some()),
        is_from_trusted_proxy: context.is_from_trusted_proxy,
        now: context.since_epoch().as_secs(),
    };
    let origin = Origin {
        arrived: context.arrived,
        client: context.client(),
        failures: context.snapshot.auth_failures.as_ref(),
    };
    let parameter = |index| context.parameter(&request.uri, index);
    let admission = admission(rule, credentials, origin, &parameter).await;
    count(&admission, rule, context);
    match admission {
        Admission::Anonymous => Ok(()),
        Admission::Identified(way, identity, content) => {
            if let Some(connection) = &context.connection {
                connection.credential_passed();
            }
            context.identity = Some(identity);
            context.bound = Bound::new(way, content);
            Ok(())
        }
        Admission::Forbidden(way, identity) => Err(forbidden(rule, way, identity, context)),
        Admission::Refused(way, refusal) => {
            let is_bad = way.is_some() && !refusal.is_unavailability();
            context.is_last |= is_bad && is_guessing(context);
            Err(refused(rule, way, refusal).into())
        }
        Admission::Throttled(seconds) => {
            if !context.is_from_trusted_proxy {
                context.is_last = true;
                if let (Some(failures), Some(connection)) =
                    (&context.snapshot.auth_failures, &context.connection)
                {
                    failures.count_unread(Instant::now(), connection.peer());
                }
            }
            let reply = Reply::rate_limited("too many bad credentials came from this address");
            let wait = HeaderValue::from(seconds);
            Err(reply.with(header::RETRY_AFTER, wait).into())
        }
        Admission::Elsewhere(way, decider) => {
            let asked = Box::pin(ask(&decider, request, backends, context)).await;
            context.snapshot.auth_results.count(
                Mechanism::Forward,
                match &asked {
                    Asked::Passed { .. } => AuthResult::Accepted,
                    Asked::Refused(_) => AuthResult::Denied,
                    Asked::Failed => AuthResult::Refused(Refusal::Undecided),
                },
            );
            match asked {
                Asked::Passed { identity, told } => {
                    context.told = told;
                    let parameter = |index| context.parameter(&request.uri, index);
                    if !rule.ways()[way].admits(&identity, &parameter) {
                        return Err(forbidden(rule, way, identity, context));
                    }
                    context.identity = Some(identity);
                    Ok(())
                }
                Asked::Refused(reply) => Err(reply),
                // Nobody has rights, so where some are asked for nobody comes in.
                Asked::Failed
                    if decider.is_open_on_failure && rule.ways()[way].requirement().is_none() =>
                {
                    context.note(Flag::AuthUnavailable);
                    Ok(())
                }
                Asked::Failed => Err(refused(rule, Some(way), Refusal::Undecided).into()),
            }
        }
    }
}

/// Counts what becomes of a request by its credentials, unless that is decided elsewhere.
fn count(admission: &Admission, rule: &Rule, context: &Context) {
    let (way, result) = match admission {
        Admission::Anonymous => (None, AuthResult::Anonymous),
        Admission::Identified(way, ..) => (Some(*way), AuthResult::Accepted),
        Admission::Forbidden(way, _) => (Some(*way), AuthResult::Forbidden),
        Admission::Refused(way, refusal) => (*way, AuthResult::Refused(*refusal)),
        Admission::Throttled(_) => (None, AuthResult::Throttled),
        Admission::Elsewhere(..) => return,
    };
    let mechanism = way.map_or(Mechanism::None, |way| {
        rule.ways()[way].provider.counted_as()
    });
    context.snapshot.auth_results.count(mechanism, result);
}

/// Whether a connection goes on to bring bad credentials. A proxy's is shared by many clients.
fn is_guessing(context: &Context) -> bool {
    let connection = context.connection.as_ref();
    !context.is_from_trusted_proxy && connection.is_some_and(|it| it.credential_failed())
}

/// The answer to who is known and lacks the rights.
fn forbidden(
    rule: &Rule,
    way: usize,
    identity: Arc<Identity>,
    context: &mut Context,
) -> Box<Reply> {
    let reply = Reply::forbidden("the credential does not have the rights that this route needs");
    let challenge = rule.ways()[way].challenge();
    context.identity = Some(identity);
    let challenge = challenge.into_iter();
    challenge
        .fold(reply, |reply, it| reply.with(header::WWW_AUTHENTICATE, it))
        .into()
}

/// The answer to a request that is not let in, says the provider of this number.
pub(super) fn refused(rule: &Rule, way: Option<usize>, refusal: Refusal) -> Reply {
    if refusal.is_unavailability() {
        return Reply::auth_unavailable(refusal.description()).with(header::RETRY_AFTER, COME_BACK);
    }
    let reply = Reply::unauthorized(refusal.description());
    let challenge = |reply: Reply, it| reply.with(header::WWW_AUTHENTICATE, it);
    match way {
        Some(way) => {
            let challenges = rule.ways()[way].provider.challenge(refusal);
            challenges.into_iter().fold(reply, challenge)
        }
        None => rule.challenges().fold(reply, challenge),
    }
}
