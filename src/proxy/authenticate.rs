//! Who comes: asks the providers of a route one after the other, waits for what they wait for, and has
//! the identity's rights checked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, header};
use pingora::http::RequestHeader;

use super::ask::{Asked, ask};
use super::content::Bound;
use super::context::Context;
use super::reply::Reply;
use super::trace;
use crate::auth::{
    Arrival, AuthResult, Content, Credentials, Decider, Identity, Labour, Mechanism, Provider,
    Refusal, Rule, Verdict, Work,
};
use crate::snapshot::{AuthFailures, Route};
use crate::telemetry::Flag;
use crate::telemetry::tracing::Phase;
use crate::upstream::Backends;

/// When a client may come back whose credential could not be verified: seconds.
const COME_BACK: HeaderValue = HeaderValue::from_static("5");
/// How often keys are looked for that are not known yet.
const MOST_LOOKS: usize = 2;

/// What becomes of a request by its credentials.
#[derive(Debug)]
pub enum Admission {
    /// It shows none, and needs none.
    Anonymous,
    /// It comes from this one, by the provider of this number, if its body is this.
    Identified(usize, Arc<Identity>, Content),
    /// It comes from this one, by the provider of this number, who lacks the rights.
    Forbidden(usize, Arc<Identity>),
    /// It does not prove whom it comes from, says the provider of this number; `None` if it shows
    /// nothing at all.
    Refused(Option<usize>, Refusal),
    /// It may be asked again in so many seconds: too many bad credentials came from its address.
    Throttled(u64),
    /// This service decides, the provider of this number.
    Elsewhere(usize, Arc<Decider>),
}

/// Why a provider does not vouch.
enum Denied {
    Refused(Refusal),
    Throttled(u64),
    Elsewhere(Arc<Decider>),
}

/// When and whom a request comes from as far as the network knows, and the bad credentials from there.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'o> {
    /// When it arrived.
    pub arrived: Instant,
    /// The client's address.
    pub client: IpAddr,
    /// What is counted of addresses, if anything is.
    pub failures: Option<&'o AuthFailures>,
}

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
    let credentials = Credentials {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
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
            let asked = ask(&decider, request, backends, context).await;
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

/// What becomes of a request by its credentials under a rule. `parameter` is what the path has in place
/// of one.
pub async fn admission<'p>(
    rule: &Rule,
    credentials: Credentials<'_>,
    origin: Origin<'_>,
    parameter: &impl Fn(usize) -> &'p str,
) -> Admission {
    let mut refused = (None, Refusal::Missing);
    // Where there are others, only what a credential says tells whose it is.
    let is_only = rule.ways().len() == 1;
    for (number, way) in rule.ways().iter().enumerate() {
        match identity(&way.provider, is_only, credentials, origin).await {
            Ok((identity, content)) if way.admits(&identity, parameter) => {
                return Admission::Identified(number, identity, content);
            }
            Ok((identity, _)) => return Admission::Forbidden(number, identity),
            Err(Denied::Elsewhere(decider)) => return Admission::Elsewhere(number, decider),
            Err(Denied::Throttled(seconds)) => return Admission::Throttled(seconds),
            Err(Denied::Refused(Refusal::Missing)) => {}
            Err(Denied::Refused(refusal)) => {
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
    is_only: bool,
    credentials: Credentials<'_>,
    origin: Origin<'_>,
) -> Result<(Arc<Identity>, Content), Denied> {
    let wait = |labour| origin.wait(labour).filter(|_| is_only);
    let mut verdict = provider.authenticate_unless(credentials, wait);
    let mut looked = origin.arrived;
    for _ in 0..MOST_LOOKS {
        let Verdict::Refused(refusal) = verdict else {
            break;
        };
        let Some(awaited) = provider.remedy(refusal, looked) else {
            break;
        };
        let arrival = awaited.come().await;
        looked = Instant::now();
        verdict = provider.authenticate_unless(credentials, wait);
        match (arrival, &verdict) {
            // The key may have been published since they were sent.
            (Arrival::Older, _) => {}
            // Nothing is known against the token yet.
            (Arrival::Late, Verdict::Refused(Refusal::UnknownKey)) => {
                return Err(Denied::Refused(Refusal::KeysUnavailable));
            }
            (Arrival::Over | Arrival::Late, _) => break,
        }
    }
    match verdict {
        Verdict::Known(identity) => Ok((identity, Content::Any)),
        Verdict::Bound(identity, content) => Ok((identity, content)),
        Verdict::Refused(refusal) => Err(Denied::Refused(refusal)),
        Verdict::Costly(work) => Ok((origin.perform(work).await?, Content::Any)),
        Verdict::Throttled(seconds) => Err(Denied::Throttled(seconds)),
        Verdict::Elsewhere(decider) => Err(Denied::Elsewhere(decider)),
    }
}

impl Origin<'_> {
    /// For how many seconds nothing of the kind is worked out, if too much of it was in vain.
    fn wait(self, labour: Labour) -> Option<u64> {
        self.failures?.wait(labour, Instant::now(), self.client)
    }

    /// Has something worked out, unless too much of it was in vain.
    async fn perform(self, work: Work) -> Result<Arc<Identity>, Denied> {
        let labour = work.labour();
        let Some(failures) = self.failures else {
            return work.done().await.map_err(Denied::Refused);
        };
        if let Some(seconds) = self.wait(labour) {
            return Err(Denied::Throttled(seconds));
        }
        let found = work.done().await;
        found.map_err(|refusal| {
            if !refusal.is_unavailability() {
                failures.count(labour, Instant::now(), self.client);
            }
            Denied::Refused(refusal)
        })
    }
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
