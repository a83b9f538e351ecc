//! Rate limits of the route and of the consumer, and what clients are told of them.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::context::Context;
use super::reply::Reply;
use crate::auth::Identity;
use crate::limits::{KeySource, Phase, RateLimits, Tightest, Verdict};
use crate::snapshot::Route;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limit that is nearest to refusing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest {
    /// Whether it is one of the consumer's own.
    is_of_consumer: bool,
    tightest: Tightest,
}

/// What the limits say, and which of them is nearest to refusing.
type Decision = Result<Option<Nearest>, (Nearest, Box<Reply>)>;

/// Counts a request by those limits that need not know who comes.
pub(super) async fn before_authentication(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(limits) = &route.policies.limits else {
        return Ok(());
    };
    let facts = Facts::of(request, route, context);
    let phase = Phase::BeforeAuthentication;
    let verdict = match limits.is_shared() {
        false => limits.decide(phase, context.arrived, &facts),
        true => limits.decide_shared(phase, context.arrived, &facts).await,
    };
    let decision = judge(verdict, limits, false);
    note(decision, context)
}

/// Counts a request by who comes: by the consumer's own limits, if it has some, or else by the route's.
pub(super) async fn after_authentication(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let facts = Facts::of(request, route, context);
    let consumer = context.snapshot.consumer(facts.identity);
    let decision = if let Some(limits) = consumer.and_then(|it| it.limits.as_deref()) {
        let verdict = match limits.is_shared() {
            false => limits.decide_all(context.arrived, &facts),
            true => limits.decide_all_shared(context.arrived, &facts).await,
        };
        judge(verdict, limits, true)
    } else if let Some(limits) = &route.policies.limits {
        let phase = Phase::AfterAuthentication;
        let verdict = match limits.is_shared() {
            false => limits.decide(phase, context.arrived, &facts),
            true => limits.decide_shared(phase, context.arrived, &facts).await,
        };
        judge(verdict, limits, false)
    } else {
        return Ok(());
    };
    note(decision, context)
}

fn judge(verdict: Verdict, limits: &RateLimits, is_of_consumer: bool) -> Decision {
    let nearest = |tightest| Nearest {
        is_of_consumer,
        tightest,
    };
    match verdict {
        Verdict::Admit(tightest) => Ok(tightest.map(nearest)),
        Verdict::Refuse(refusal) => {
            let seconds = refusal.retry_after;
            let reply = Reply::rate_limited(format!(
                "the limit `{}` is spent: try again in {seconds} s",
                limits.name(&refusal.tightest)
            ));
            let reply = reply.with(header::RETRY_AFTER, HeaderValue::from(seconds));
            Err((nearest(refusal.tightest), reply.into()))
        }
    }
}

/// Remembers the nearest limit, for the client to be told.
fn note(decision: Decision, context: &mut Context) -> Result<(), Box<Reply>> {
    match decision {
        Ok(candidate) => {
            let left = |nearest: &Nearest| nearest.tightest.remaining;
            let known = context.nearest_limit.as_ref().map(left);
            if candidate.is_some_and(|it| known.is_none_or(|known| left(&it) < known)) {
                context.nearest_limit = candidate;
            }
            Ok(())
        }
        Err((nearest, reply)) => {
            context.nearest_limit = Some(nearest);
            Err(reply)
        }
    }
}

/// Tells the client of the limits in force, and of the nearest one.
pub(super) fn tell(response: &mut HeaderMap, route: &Route, context: &Context) {
    let of_route = route.policies.limits.as_deref();
    let consumer = context.snapshot.consumer(context.identity.as_deref());
    let of_consumer = consumer.and_then(|it| it.limits.as_deref());
    match (of_route, of_consumer) {
        (None, None) => return,
        (Some(limits), None) => {
            response.insert(RATE_LIMIT_POLICY, limits.policy());
        }
        (of_route, Some(limits)) => {
            response.insert(RATE_LIMIT_POLICY, limits.policy());
            if let Some(policy) = of_route.and_then(RateLimits::policy_before) {
                response.append(RATE_LIMIT_POLICY, policy);
            }
        }
    }
    let Some(nearest) = &context.nearest_limit else {
        return;
    };
    let limits = match nearest.is_of_consumer {
        true => of_consumer,
        false => of_route,
    };
    if let Some(limits) = limits {
        response.insert(RATE_LIMIT, limits.state(&nearest.tightest));
    }
}

/// What rate limits may ask of a request.
struct Facts<'r> {
    client: IpAddr,
    headers: &'r HeaderMap,
    identity: Option<&'r Identity>,
    route: u64,
}

impl<'r> Facts<'r> {
    fn of(request: &'r RequestHeader, route: &Route, context: &'r Context) -> Self {
        Self {
            client: context.client(),
            headers: &request.headers,
            identity: context.identity.as_deref(),
            route: route.id,
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
        self.route
    }
}
