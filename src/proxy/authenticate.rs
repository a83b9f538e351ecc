//! Who comes: asks the providers of a route one after the other, waits for what they wait for, and has
//! the identity's rights checked.

use std::sync::Arc;

use http::{HeaderValue, header};
use pingora::http::RequestHeader;

use super::context::Context;
use super::reply::Reply;
use crate::auth::{Credentials, Identity, Provider, Refusal, Rule, Verdict};
use crate::snapshot::Route;

/// When a client may come back whose credential could not be verified: seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("5");

/// What becomes of a request by its credentials.
#[derive(Debug)]
pub enum Admission {
    /// It shows none, and needs none.
    Anonymous,
    /// It comes from this one, by the provider of this number.
    Identified(usize, Arc<Identity>),
    /// It comes from this one, by the provider of this number, who lacks the rights.
    Forbidden(usize, Arc<Identity>),
    /// It does not prove whom it comes from, says the provider of this number; `None` if it shows
    /// nothing at all.
    Refused(Option<usize>, Refusal),
}

pub(super) async fn authenticate(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(rule) = &route.policies.auth else {
        return Ok(());
    };
    let credentials = Credentials {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
        is_from_trusted_proxy: context.is_from_trusted_proxy,
        now: context.since_epoch().as_secs(),
    };
    let parameter = |index| context.parameter(&request.uri, index);
    match admission(rule, credentials, &parameter).await {
        Admission::Anonymous => Ok(()),
        Admission::Identified(_, identity) => {
            context.identity = Some(identity);
            Ok(())
        }
        Admission::Forbidden(way, identity) => {
            let reply =
                Reply::forbidden("the credential does not have the rights that this route needs");
            let challenge = rule.ways()[way].challenge();
            context.identity = Some(identity);
            Err(challenge
                .into_iter()
                .fold(reply, |reply, it| reply.with(header::WWW_AUTHENTICATE, it))
                .into())
        }
        Admission::Refused(way, refusal) => Err(refused(rule, way, refusal).into()),
    }
}

/// What becomes of a request by its credentials under a rule. `parameter` is what the path has in place
/// of one.
pub async fn admission<'p>(
    rule: &Rule,
    credentials: Credentials<'_>,
    parameter: &impl Fn(usize) -> &'p str,
) -> Admission {
    let mut refused = (None, Refusal::Missing);
    for (number, way) in rule.ways().iter().enumerate() {
        match identity(&way.provider, credentials).await {
            Ok(identity) if way.admits(&identity, parameter) => {
                return Admission::Identified(number, identity);
            }
            Ok(identity) => return Admission::Forbidden(number, identity),
            Err(Refusal::Missing) => {}
            Err(refusal) => {
                if refused.0.is_none() {
                    refused = (Some(number), refusal);
                }
                if !refusal.leaves_it_to_others() {
                    refused = (Some(number), refusal);
                    break;
                }
            }
        }
    }
    match refused {
        (None, _) if rule.is_open => Admission::Anonymous,
        (way, refusal) => Admission::Refused(way, refusal),
    }
}

async fn identity(
    provider: &Provider,
    credentials: Credentials<'_>,
) -> Result<Arc<Identity>, Refusal> {
    let mut verdict = provider.authenticate(credentials);
    if let Verdict::Refused(refusal) = verdict
        && let Some(awaited) = provider.remedy(refusal)
    {
        awaited.come().await;
        verdict = provider.authenticate(credentials);
    }
    match verdict {
        Verdict::Known(identity) => Ok(identity),
        Verdict::Refused(refusal) => Err(refusal),
        Verdict::Costly(work) => work.done().await,
    }
}

fn refused(rule: &Rule, way: Option<usize>, refusal: Refusal) -> Reply {
    if refusal.is_unavailability() {
        return Reply::auth_unavailable(refusal.description()).with(header::RETRY_AFTER, COME_BACK);
    }
    let reply = Reply::unauthorized(refusal.description());
    let challenge = |reply: Reply, it| reply.with(header::WWW_AUTHENTICATE, it);
    match way {
        Some(way) => challenge(reply, rule.ways()[way].provider.challenge(refusal)),
        None => rule.challenges().fold(reply, challenge),
    }
}
