//! The policies that every request passes, in their one order, and on the way back.
//!
//! request id → bounds → route → addresses → rate limits by address → preflight → authentication →
//! authorisation → rate limits by identity → body bound → redirect or direct answer → backend

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::RequestHeader;
use uuid::{NoContext, Timestamp, Uuid};

use super::context::{Context, Matched};
use super::forward::X_REQUEST_ID;
use super::reply::{Body, Reply};
use crate::auth::Verified;
use crate::limits::{KeySource, Phase, Tightest, Verdict};
use crate::routing::{Outcome, Request, canonical_path};
use crate::snapshot::{Action, Bounds, Route};
use crate::telemetry::Flag;
use crate::traffic::Preflight;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Longest request id that is taken over from a trusted proxy.
const LONGEST_ID: usize = 128;

/// Takes a request through the pipeline.
///
/// # Errors
/// The gateway's own answer, if the request goes no further.
pub(super) fn admit(request: &RequestHeader, context: &mut Context) -> Result<(), Box<Reply>> {
    identify(request, context);
    check_bounds(request, context.snapshot.settings.bounds)?;
    let preflight = find_route(request, context)?;
    let snapshot = context.snapshot.clone();
    let Some(route) = context.matched.map(|matched| snapshot.route(matched.route)) else {
        return Err(Reply::internal("a request passed the routes without one").into());
    };
    admit_address(route, context)?;
    limit(route, Phase::BeforeAuthentication, request, context)?;
    answer_preflight(route, preflight, context)?;
    authenticate(route, request, context)?;
    limit(route, Phase::AfterAuthentication, request, context)?;
    bound_body(route, request, context)?;
    answer_directly(route, request, context)
}

/// What responses say on their way back, whoever gave them.
pub(super) fn decorate(request: &HeaderMap, response: &mut HeaderMap, context: &Context) {
    if let Some(route) = context.route() {
        let policies = &route.policies;
        if let Some(limits) = &policies.limits {
            response.insert(RATE_LIMIT_POLICY, limits.policy());
            if let Some(tightest) = &context.tightest_limit {
                response.insert(RATE_LIMIT, limits.state(tightest));
            }
        }
        if let Some(cors) = &policies.cors {
            cors.apply(request, context.preflight, response);
        }
    }
    response.insert(X_REQUEST_ID, context.id.clone());
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
    if let Body::Problem(problem) = &reply.body
        && let Some(status) = problem.proxy_status()
    {
        response.insert(PROXY_STATUS, status);
    }
}

/// Who the client is, and what the request is called.
fn identify(request: &RequestHeader, context: &mut Context) {
    let peer = context
        .connection
        .as_ref()
        .map(|connection| connection.peer());
    if let Some(peer) = peer {
        let proxies = &context.snapshot.trusted_proxies;
        context.is_from_trusted_proxy = proxies.contains(peer);
        context.client = Some(if context.is_from_trusted_proxy {
            proxies.client(peer, &request.headers)
        } else {
            peer
        });
    }
    let given = request.headers.get(X_REQUEST_ID).filter(|id| {
        context.is_from_trusted_proxy
            && (1..=LONGEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    context.id = match given {
        Some(id) => id.clone(),
        None => new_id(context),
    };
}

fn new_id(context: &Context) -> HeaderValue {
    let since_epoch = context.since_epoch();
    let time = Timestamp::from_unix(NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::new_v7(time).hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

fn check_bounds(request: &RequestHeader, bounds: Bounds) -> Result<(), Box<Reply>> {
    if request.raw_path().len() > bounds.uri {
        return Err(Reply::uri_too_long(format!(
            "the request target is longer than {} bytes",
            bounds.uri
        ))
        .into());
    }
    if request.headers.len() > bounds.headers {
        return Err(Reply::headers_too_large(format!(
            "the request has more than {} header fields",
            bounds.headers
        ))
        .into());
    }
    // As they stand in the request: name, colon, space, value, line end.
    let size: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if size > bounds.header_size {
        return Err(Reply::headers_too_large(format!(
            "the request's header fields have more than {} bytes",
            bounds.header_size
        ))
        .into());
    }
    Ok(())
}

/// Finds the route, which for a preflight is that of the request it asks about.
fn find_route(request: &RequestHeader, context: &mut Context) -> Result<Preflight, Box<Reply>> {
    if request.version == Version::HTTP_11
        && request.headers.get_all(header::HOST).iter().count() != 1
    {
        return Err(Reply::bad_request("a request needs exactly one Host field").into());
    }
    if std::str::from_utf8(request.raw_path()).is_err() {
        return Err(Reply::bad_request("the request target holds bytes that are no text").into());
    }
    check_target(request)?;
    let path = match canonical_path(request.uri.path()) {
        Ok(path) => path,
        Err(error) => return Err(Reply::bad_request(error.to_string()).into()),
    };
    let host = request
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let search = |method: &Method| {
        context.snapshot.find(&Request {
            host,
            path: &path,
            query: request.uri.query(),
            method,
            headers: &request.headers,
        })
    };
    if let Some(asked) = preflight_method(request)
        && let Outcome::Found { value, parameters } = search(&asked)
        && context.snapshot.route(value).policies.cors.is_some()
    {
        let path = owned(path);
        context.rewritten_path = path;
        context.matched = Some(Matched {
            route: value,
            parameters,
        });
        return Ok(Preflight::Asked);
    }
    match search(&request.method) {
        Outcome::Found { value, parameters } => {
            let path = owned(path);
            context.rewritten_path = path;
            context.matched = Some(Matched {
                route: value,
                parameters,
            });
            Ok(Preflight::No)
        }
        Outcome::MethodNotAllowed { allow } => {
            let allow: Vec<&str> = allow.iter().map(Method::as_str).collect();
            let reply = Reply::method_not_allowed("the path has no route for this method");
            Err(match HeaderValue::from_str(&allow.join(", ")) {
                Ok(allow) => reply.with(header::ALLOW, allow),
                Err(_) => reply,
            }
            .into())
        }
        Outcome::NotFound => Err(Reply::no_route("no route takes this request").into()),
    }
}

/// A target is a path, or a URL of the same host as the `Host` field says (RFC 9112 §3.2).
fn check_target(request: &RequestHeader) -> Result<(), Box<Reply>> {
    let target = request.raw_path();
    if target.first() == Some(&b'/') {
        return Ok(());
    }
    let authority = std::str::from_utf8(target)
        .ok()
        .and_then(|target| target.split_once("://"))
        .filter(|(scheme, _)| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        })
        .and_then(|(_, rest)| rest.split(['/', '?']).next());
    let Some(authority) = authority else {
        return Err(Reply::bad_request("the request target is neither a path nor a URL").into());
    };
    let host = request.headers.get(header::HOST);
    if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(Reply::bad_request("the request target and the Host field differ").into());
    }
    Ok(())
}

/// The canonical path, if it is not the one that was sent.
fn owned(path: Cow<'_, str>) -> Option<Box<str>> {
    match path {
        Cow::Borrowed(_) => None,
        Cow::Owned(path) => Some(path.into()),
    }
}

/// The method that a browser asks about, if this is a preflight.
fn preflight_method(request: &RequestHeader) -> Option<Method> {
    if request.method != Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

fn admit_address(route: &Route, context: &Context) -> Result<(), Box<Reply>> {
    match &route.policies.access {
        Some(access) if !access.admits(context.client()) => {
            Err(Reply::access_denied("requests from this address are not admitted").into())
        }
        _ => Ok(()),
    }
}

fn limit(
    route: &Route,
    phase: Phase,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(limits) = &route.policies.limits else {
        return Ok(());
    };
    let facts = Facts {
        client: context.client(),
        headers: &request.headers,
        identity: context.identity.as_deref(),
        route: context.matched.map_or(0, |matched| matched.route),
    };
    match limits.decide(phase, context.arrived, &facts) {
        Verdict::Admit(tightest) => {
            context.tightest_limit = tighter(context.tightest_limit, tightest);
            Ok(())
        }
        Verdict::Refuse(refusal) => {
            context.tightest_limit = Some(refusal.tightest);
            let seconds = refusal.retry_after;
            let reply = Reply::rate_limited(format!(
                "the limit `{}` is spent: try again in {seconds} s",
                limits.name(&refusal.tightest)
            ));
            Err(reply
                .with(header::RETRY_AFTER, HeaderValue::from(seconds))
                .into())
        }
    }
}

fn tighter(a: Option<Tightest>, b: Option<Tightest>) -> Option<Tightest> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
        (a, b) => a.or(b),
    }
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

fn authenticate(
    route: &Route,
    request: &RequestHeader,
    context: &mut Context,
) -> Result<(), Box<Reply>> {
    let Some(rule) = &route.policies.auth else {
        return Ok(());
    };
    let now = context.since_epoch().as_secs();
    match rule
        .provider
        .authenticate(&request.headers, request.uri.query(), now)
    {
        Ok(identity) => {
            if let Err(forbidden) = rule.authorise(&identity) {
                return Err(Reply::forbidden(forbidden.description())
                    .with(header::WWW_AUTHENTICATE, rule.challenge())
                    .into());
            }
            context.identity = Some(identity);
            Ok(())
        }
        Err(refusal) => Err(Reply::unauthorized(refusal.description())
            .with(header::WWW_AUTHENTICATE, refusal.challenge())
            .into()),
    }
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

/// What rate limits may ask of a request.
struct Facts<'r> {
    client: IpAddr,
    headers: &'r HeaderMap,
    identity: Option<&'r Verified>,
    route: u32,
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

    fn route(&self) -> u32 {
        self.route
    }
}
