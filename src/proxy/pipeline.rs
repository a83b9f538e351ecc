//! The policies that every request passes, in their one order, and on the way back.
//!
//! request id → bounds → framing → route → TLS → overload → addresses → rate limits by address → preflight →
//! authentication → authorisation → rate limits by identity → concurrency → body bound → redirect or direct answer →
//! backend

use http::{HeaderMap, StatusCode, header};
use pingora::http::RequestHeader;

use super::authenticate::authenticate;
use super::context::Context;
use super::forward::X_REQUEST_ID;
use super::pressure::Pressure;
use super::reply::{Body, PROXY_STATUS, Reply};
use super::{arrival, bandwidth, concurrency, encryption, framing, limit, meter, trace};
use crate::snapshot::{Action, Route};
use crate::telemetry::Flag;
use crate::traffic::Preflight;
use crate::upstream::Backends;

/// Why a request goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// This is the answer.
    Reply(Box<Reply>),
    /// Nobody is there to be answered.
    Gone,
}

impl From<Box<Reply>> for Stop {
    fn from(reply: Box<Reply>) -> Self {
        Self::Reply(reply)
    }
}

/// Takes a request through the pipeline. `raw` is the header of one of HTTP/1 as it came.
///
/// # Errors
/// If it goes no further.
pub(super) async fn admit(
    (request, raw): (&RequestHeader, Option<&[u8]>),
    pressure: &Pressure,
    backends: &Backends,
    context: &mut Context,
) -> Result<(), Stop> {
    arrival::identify(request, context);
    trace::begin(request, context);
    arrival::check_bounds(request, context.snapshot.settings.bounds)?;
    framing::check(request, raw, context)?;
    encryption::answer_challenge(request, context)?;
    let found = arrival::find_route(request, context);
    // What no route takes is sent on by the listener all the same.
    encryption::redirect(request, context)?;
    let preflight = found?;
    meter::begin(context);
    encryption::check_channel(request, context)?;
    let snapshot = context.snapshot.clone();
    let Some(route) = context.matched.map(|matched| snapshot.route(matched.route)) else {
        let reply = Reply::internal("a request passed the routes without one");
        return Err(Stop::Reply(reply.into()));
    };
    pressure.admit(route, context)?;
    admit_address(route, context)?;
    limit::before_authentication(route, request, context).await?;
    answer_preflight(route, preflight, context)?;
    authenticate(route, request, backends, context).await?;
    limit::after_authentication(route, request, context).await?;
    concurrency::enter(route, request, context)?;
    bound_body(route, request, context)?;
    answer_directly(route, request, context)?;
    bandwidth::begin(route, request, context);
    Ok(())
}

/// What responses say on their way back, whoever gave them.
pub(super) fn decorate(
    request: &HeaderMap,
    status: StatusCode,
    response: &mut HeaderMap,
    context: &Context,
) {
    tell(response, context);
    let route = context.route();
    if let Some(route) = route {
        limit::tell(status, response, route, context);
        concurrency::tell(response, route, context);
        if let Some(cors) = &route.policies.cors {
            cors.apply(request, context.preflight, response);
        }
    }
    let security = match route {
        Some(route) => &route.policies.security_headers,
        None => &context.snapshot.unrouted_security_headers,
    };
    if let Some(security) = security {
        security.apply(context.is_over_tls(request), response);
    }
    response.insert(X_REQUEST_ID, context.id.clone());
}

/// What the service that let the request in says to the client, in place of what the backend says there;
/// but each cookie is one of its own.
fn tell(response: &mut HeaderMap, context: &Context) {
    for (name, _) in &context.told {
        if *name != header::SET_COOKIE {
            response.remove(name);
        }
    }
    for (name, value) in &context.told {
        response.append(name, value.clone());
    }
}

/// The route's own edits, which have the last word.
pub(super) fn edit(request: &RequestHeader, response: &mut HeaderMap, context: &Context) {
    if let Some(edits) = context
        .route()
        .and_then(|route| route.policies.response_edits.as_ref())
    {
        edits.apply(response, |index| context.parameter(&request.uri, index));
    }
}

/// Tells the gateway's own problems from a backend's (RFC 9209).
pub(super) fn mark_own(reply: &Reply, response: &mut HeaderMap) {
    if let Body::Problem(problem) = &reply.body {
        response.insert(PROXY_STATUS, problem.proxy_status());
    }
}

fn admit_address(route: &Route, context: &Context) -> Result<(), Box<Reply>> {
    let Some(access) = &route.policies.access else {
        return Ok(());
    };
    access
        .admit(context.client())
        .map_err(|denied| Reply::access_denied(denied.description()).into())
}

fn answer_preflight(
    route: &Route,
    preflight: Preflight,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    if preflight == Preflight::Asked && route.policies.cors.is_some() {
        context.preflight = preflight;
        return Err(Reply::bare(StatusCode::NO_CONTENT, Flag::CorsPreflight).into());
    }
    Ok(())
}

/// Bodies that say how long they are; the others are counted while they come.
fn bound_body(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    context.body_limit = route.policies.body_limit;
    let Some(limit) = context.body_limit else {
        return Ok(());
    };
    let announced = request
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
    match announced {
        Some(length) if length > limit => Err(body_too_large(limit).into()),
        _ => Ok(()),
    }
}

/// The answer to a body above the bound.
pub(super) fn body_too_large(limit: u64) -> Reply {
    Reply::body_too_large(format!("the request body has more than {limit} bytes"))
}

fn answer_directly(
    route: &Route,
    request: &RequestHeader,
    context: &Context,
) -> Result<(), Box<Reply>> {
    match &route.action {
        Action::Forward(_) => Ok(()),
        Action::Redirect(redirect) => {
            let uri = &request.uri;
            let parameter = |index| context.parameter(uri, index);
            Err(
                match redirect.location(context.path(uri), uri.query(), parameter) {
                    Some(location) => Reply::bare(redirect.status, Flag::Redirected)
                        .with(header::LOCATION, location),
                    None => Reply::bad_request("the request target can't stand in a redirect"),
                }
                .into(),
            )
        }
        Action::Respond(respond) => {
            let mut reply = Reply::bare(respond.status, Flag::DirectResponse);
            reply.headers.extend(respond.headers.iter().cloned());
            reply.body = Body::Fixed(respond.body.clone());
            Err(reply.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of what it returns.
    fn size<'a, F>(
        _: impl FnOnce(
            (&'a RequestHeader, Option<&'a [u8]>),
            &'a Pressure,
            &'a Backends,
            &'a mut Context,
        ) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_request_may_have_to_wait_for_costs_others_nothing() {
        assert!(size(admit) <= 1024, "{}", size(admit));
    }
}
