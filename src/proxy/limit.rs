//! Rate limits of the route and of the consumer, and what clients are told of them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::RequestHeader;

use super::charge::Charge;
use super::context::Context;
use super::pipeline::Stop;
use super::reply::Reply;
use super::{deadline, trace};
use crate::auth::Identity;
use crate::limits::{
    Denial, KeySource, LimitNumber, Passed, Phase, RateLimits, Tightest, Verdict, Zone,
};
use crate::snapshot::{Limits, Route, Snapshot};
use crate::telemetry::Flag;
use crate::telemetry::tracing::Phase as Measured;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// When a client may come back that is refused because the store of limits is silent, in seconds: by then
/// another try has been made to reach it.
const UNTIL_NEXT_TRY: HeaderValue = HeaderValue::from_static("1");

/// The limit that is nearest to refusing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest {
    /// Whether it is one of the consumer's own.
    pub(super) is_of_consumer: bool,
    pub(super) tightest: Tightest,
}

/// The limit that the log names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    is_of_consumer: bool,
    limit: LimitNumber,
}

/// What the limits say.
#[derive(Default)]
struct Decision {
    nearest: Option<Nearest>,
    noted: Option<Noted>,
    would_be_refused: bool,
    charges: Vec<Charge>,
    queued: Option<Duration>,
    stop: Option<Stop>,
}

/// Counts a request by those limits that need not know who comes.
pub(super) async fn before_authentication(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Stop> {
    let Some(limits) = &route.policies.limits else {
        return Ok(());
    };
    if limits.rates.has_any(Phase::BeforeAuthentication) {
        trace::enter(Measured::RateLimit, context);
    }
    let phase = Some(Phase::BeforeAuthentication);
    let facts = Facts::of(request, route, context);
    let decision = decide((limits, false), phase, (request, &facts), context).await;
    note(decision, context)
}

/// Counts a request by who comes: by the consumer's own limits, if it has some, or else by the route's.
pub(super) async fn after_authentication(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Stop> {
    let is_by_who_comes = |it: &Limits| it.rates.has_any(Phase::AfterAuthentication);
    let limits = route.policies.limits.as_deref();
    if of_consumer(context).is_some() || limits.is_some_and(is_by_who_comes) {
        trace::enter(Measured::RateLimit, context);
    }
    let facts = Facts::of(request, route, context);
    let decision = if let Some(limits) = of_consumer(context) {
        decide((limits, true), None, (request, &facts), context).await
    } else if let Some(limits) = limits {
        let phase = Some(Phase::AfterAuthentication);
        decide((limits, false), phase, (request, &facts), context).await
    } else {
        return Ok(());
    };
    note(decision, context)
}

/// The limits of the consumer's own, if one comes that has some.
fn of_consumer(context: &Context) -> Option<&Limits> {
    let consumer = context.snapshot.consumer(context.identity.as_deref())?;
    consumer.limits.as_deref()
}

/// Has the limits of a phase decide, or all of them, and notes what they will charge a request that passes.
async fn decide(
    (limits, is_of_consumer): (&Limits, bool),
    phase: Option<Phase>,
    (request, facts): (&RequestHeader, &Facts<'_>),
    context: &Context,
) -> Decision {
    let mut decision = admit((limits, is_of_consumer), phase, (request, facts), context).await;
    if decision.stop.is_none() {
        let dues = limits.rates.dues(phase, facts);
        decision.charges = dues.map(|due| Charge::new(is_of_consumer, due)).collect();
    }
    decision
}

/// Lets the limits decide, and the request wait if one of them says so.
async fn admit(
    (limits, is_of_consumer): (&Limits, bool),
    phase: Option<Phase>,
    (request, facts): (&RequestHeader, &Facts<'_>),
    context: &Context,
) -> Decision {
    let rates = &limits.rates;
    let now = context.now();
    let verdict = match (phase, rates.is_shared()) {
        (Some(phase), false) => rates.decide(phase, now, facts),
        (Some(phase), true) => Box::pin(rates.decide_shared(phase, now, facts)).await,
        (None, false) => rates.decide_all(now, facts),
        (None, true) => Box::pin(rates.decide_all_shared(now, facts)).await,
    };
    let admitted = match verdict {
        Verdict::Admit(passed) => Ok(passed),
        Verdict::Refuse(refusal) => Err(Denial::Refused(refusal)),
        Verdict::Unavailable(limit) => Err(Denial::Unavailable(limit)),
        Verdict::Wait(limit) => {
            let decision = let_wait(
                (limits, is_of_consumer),
                (phase, limit),
                (request, facts),
                context,
            );
            return Box::pin(decision).await;
        }
    };
    judge(admitted, limits, is_of_consumer)
}

/// Lets the request wait for one of the limits.
async fn let_wait(
    (limits, is_of_consumer): (&Limits, bool),
    (phase, limit): (Option<Phase>, LimitNumber),
    (request, facts): (&RequestHeader, &Facts<'_>),
    context: &Context,
) -> Decision {
    let longest = deadline::of_client(request, context).unwrap_or(Duration::MAX);
    let is_gone = || {
        let connection = context.connection.as_ref();
        connection.is_some_and(|it| it.is_client_gone())
    };
    let waited = limits.rates.wait(phase, limit, facts, longest, is_gone);
    let waited = waited.await;
    let decision = match waited.admitted {
        Some(admitted) => judge(admitted, limits, is_of_consumer),
        None => Decision {
            stop: Some(Stop::Gone),
            ..Decision::default()
        },
    };
    let waited_for = Noted {
        is_of_consumer,
        limit,
    };
    Decision {
        noted: decision.noted.or(Some(waited_for)),
        queued: waited.time,
        ..decision
    }
}

fn judge(admitted: Result<Passed, Denial>, limits: &Limits, is_of_consumer: bool) -> Decision {
    let nearest = |tightest| Nearest {
        is_of_consumer,
        tightest,
    };
    let noted = |limit| Noted {
        is_of_consumer,
        limit,
    };
    match admitted {
        Ok(passed) => Decision {
            nearest: passed.tightest.map(nearest),
            noted: passed.would_refuse.map(noted),
            would_be_refused: passed.would_refuse.is_some(),
            ..Decision::default()
        },
        Err(Denial::Refused(refusal)) => {
            let limit = refusal.tightest.limit;
            let name = limits.rates.name(limit);
            let reply = Reply::over_limit(name, refusal.retry_after, limits.refusal(limit));
            Decision {
                nearest: Some(nearest(refusal.tightest)),
                noted: Some(noted(limit)),
                stop: Some(Stop::Reply(reply.into())),
                ..Decision::default()
            }
        }
        Err(Denial::Unavailable(limit)) => {
            let name = limits.rates.name(limit);
            let reply = Reply::rate_limit_store_unavailable(format!(
                "nobody can say now whether the limit `{name}` is spent"
            ))
            .with(header::RETRY_AFTER, UNTIL_NEXT_TRY);
            Decision {
                noted: Some(noted(limit)),
                stop: Some(Stop::Reply(reply.into())),
                ..Decision::default()
            }
        }
    }
}

/// Remembers the nearest limit, for the client to be told, and what the log says.
fn note(decision: Decision, context: &mut Context) -> Result<(), Stop> {
    if decision.noted.is_some() {
        context.noted_limit = decision.noted;
    }
    if decision.would_be_refused {
        context.note(Flag::RateLimitWouldRefuse);
    }
    if let Some(queued) = decision.queued {
        *context.queued.get_or_insert_default() += queued;
        context.note(Flag::Queued);
        trace::waited(queued, context);
    }
    if let Some(stop) = decision.stop {
        context.nearest_limit = decision.nearest;
        return Err(stop);
    }
    if let Some(candidate) = decision.nearest {
        nearer(candidate, context);
    }
    context.charges.extend(decision.charges);
    Ok(())
}

/// Remembers this limit instead of the one that is remembered, if it is nearer or the same later.
pub(super) fn nearer(candidate: Nearest, context: &mut Context) {
    let goes_before = |known: &Nearest| {
        let is_same = candidate.is_of_consumer == known.is_of_consumer
            && candidate.tightest.limit == known.tightest.limit;
        is_same || candidate.tightest.is_nearer_than(&known.tightest)
    };
    if context.nearest_limit.as_ref().is_none_or(goes_before) {
        context.nearest_limit = Some(candidate);
    }
}

pub(super) fn limits_of(is_of_consumer: bool, context: &Context) -> Option<&Limits> {
    match is_of_consumer {
        true => of_consumer(context),
        false => context.route()?.policies.limits.as_deref(),
    }
}

/// The name of the limit that refused the request, would have, or let it wait.
pub(super) fn noted(context: &Context) -> Option<&str> {
    let noted = context.noted_limit?;
    let limits = limits_of(noted.is_of_consumer, context)?;
    Some(limits.rates.name(noted.limit))
}

/// Tells the client of the limits in force, and of the nearest one.
pub(super) fn tell(status: StatusCode, response: &mut HeaderMap, route: &Route, context: &Context) {
    let of_route = route.policies.limits.as_deref().map(|it| &it.rates);
    let of_consumer = of_consumer(context).map(|it| &it.rates);
    let policies = match (of_route, of_consumer) {
        (None, None) => return,
        (Some(rates), None) => [rates.policy(), None],
        (of_route, Some(rates)) => {
            let before = of_route.and_then(RateLimits::policy_before);
            [rates.policy(), before]
        }
    };
    let mut policies = policies.into_iter().flatten();
    if let Some(policy) = policies.next() {
        response.insert(RATE_LIMIT_POLICY, policy);
    }
    for policy in policies {
        response.append(RATE_LIMIT_POLICY, policy);
    }
    let Some(nearest) = &context.nearest_limit else {
        return;
    };
    let rates = match nearest.is_of_consumer {
        true => of_consumer,
        false => of_route,
    };
    if let Some(rates) = rates {
        tell_nearest(status, response, rates, &nearest.tightest);
    }
}

fn tell_nearest(
    status: StatusCode,
    response: &mut HeaderMap,
    rates: &RateLimits,
    tightest: &Tightest,
) {
    let is_followed = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
    if is_followed && tightest.remaining == 0 {
        // The client would wait before it follows.
        response.remove(RATE_LIMIT);
        return;
    }
    response.insert(RATE_LIMIT, rates.state(tightest));
    if let Some(quota) = rates.legacy_quota(tightest.limit) {
        response.insert(LEGACY_LIMIT, HeaderValue::from(quota));
        response.insert(LEGACY_REMAINING, HeaderValue::from(tightest.remaining));
        response.insert(LEGACY_RESET, HeaderValue::from(tightest.reset));
    }
}

/// What limits may ask of a request.
pub(super) struct Facts<'r> {
    client: IpAddr,
    headers: &'r HeaderMap,
    pub(super) identity: Option<&'r Identity>,
    snapshot: &'r Snapshot,
    route: &'r Route,
}

impl<'r> Facts<'r> {
    pub(super) fn of(request: &'r RequestHeader, route: &'r Route, context: &'r Context) -> Self {
        Self {
            client: context.client(),
            headers: &request.headers,
            identity: context.identity.as_deref(),
            snapshot: &context.snapshot,
            route,
        }
    }
}

impl KeySource for Facts<'_> {
    fn client_ip(&self) -> IpAddr {
        self.client
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.identity
            .and_then(|identity| identity.claim_bytes(name))
    }

    fn consumer(&self) -> Option<(&str, &str)> {
        let identity = self.identity?;
        match identity.consumer() {
            Some(consumer) => Some(("", &consumer.name)),
            None => Some((identity.provider(), identity.subject()?)),
        }
    }

    fn route(&self) -> u64 {
        self.route.id
    }

    fn cost(&self) -> Option<u64> {
        Some(self.route.policies.rate_limit_cost.as_ref()?.value)
    }

    fn time_zone(&self) -> Option<&Arc<Zone>> {
        self.snapshot.consumer(self.identity)?.time_zone.as_ref()
    }
}
