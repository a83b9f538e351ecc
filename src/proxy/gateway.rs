//! The gateway as the framework's proxy: its phases, in the order in which they run.
//!
//! The framework boxes the future of a phase anew for each request, and moves all of it. What is seldom awaited
//! stands in a box of its own, so that every other request pays nothing for its size.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora_proxy::{FailToProxy, ProxyHttp, RangeType, Session, range_header_filter};

use super::caching::Told;
use super::connection::Connection;
use super::context::Context;
use super::handshake::Handshake;
use super::pipeline::Stop;
use super::pressure::Pressure;
use super::{
    arrival, attempt, bandwidth, caching, concurrency, content, forward, framing, grpc, handshake,
    hedge, mirror, pipeline, repeat, respond, send, trace,
};
use crate::cache::is_unchanged;
use crate::snapshot::Store;
use crate::telemetry::{AccessLog, Flag, RecentRequests};
use crate::upstream::Backends;

/// Parts of an answer that one request may ask for.
const MOST_RANGES: usize = 16;

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    snapshots: Arc<Store>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) recent: Arc<RecentRequests>,
    is_draining: Arc<AtomicBool>,
    backends: Arc<Backends>,
    pressure: Arc<Pressure>,
}

impl Gateway {
    /// A gateway that decides by the snapshot in force. While `is_draining`, clients are told to
    /// close their connections; by `pressure`, requests are shed. `backends` are for exchanges beside
    /// the framework's own. Requests are told of in the access log, and those that operators ask about
    /// afterwards are kept.
    pub fn new(
        snapshots: Arc<Store>,
        (access_log, recent): (Arc<AccessLog>, Arc<RecentRequests>),
        is_draining: Arc<AtomicBool>,
        pressure: Arc<Pressure>,
        backends: Arc<Backends>,
    ) -> Self {
        Self {
            snapshots,
            access_log,
            recent,
            is_draining,
            backends,
            pressure,
        }
    }

    /// How long the client may take from here on, and what it can be sent.
    fn fit_client(&self, session: &mut Session, context: &Context) {
        let timeouts = context.snapshot.settings.timeouts;
        session.set_read_timeout(Some(timeouts.request_body));
        session.set_write_timeout(Some(timeouts.response));
        if session.req_header().version == Version::HTTP_10 {
            // It knows no interim responses (RFC 9110 §15.2).
            session.set_ignore_info_resp(true);
        }
        // A connection that can't be kept must not be made one that can.
        if session.get_keepalive().is_some() {
            // Silence is timed by the connection's own deadline: 0 is no time-out.
            let is_draining = self.is_draining.load(Ordering::Relaxed);
            session.set_keepalive((!is_draining).then_some(0));
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    // Boxed: it is moved through several futures of the framework, each of which would have room for all of it.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(self.snapshots.load()))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// The server hands each request of HTTP/1 its connection this way, and [`arrival::unify`] one of HTTP/2.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        context: &mut Self::CTX,
        connection: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(connection) = connection.downcast::<Arc<Connection>>() {
            connection.request_came();
            context.connection = Some(*connection);
        }
    }

    /// So that answers can be refreshed in the background.
    fn allow_spawning_subrequest(&self, _session: &Session, context: &Self::CTX) -> bool {
        context.snapshot.cache.is_some()
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<bool> {
        if caching::resume(session, context) {
            return Ok(false);
        }
        if session.req_header().version == Version::HTTP_2 {
            arrival::unify(session.req_header_mut(), context);
        }
        context.call = grpc::Call::of(session.req_header());
        if context.connection.as_ref().is_some_and(|it| it.is_own()) {
            context.is_logged = true;
            Box::pin(send::acknowledge(session)).await?;
            return Ok(true);
        }
        self.fit_client(session, context);
        let raw = session.as_http1().map(|it| it.get_headers_raw_bytes());
        let admitted = pipeline::admit(
            (session.req_header(), raw.as_deref()),
            &self.pressure,
            &self.backends,
            context,
        );
        let admitted = admitted.await;
        trace::leave(context);
        match admitted.and_then(|()| Ok(content::check_bodiless(session, context)?)) {
            Ok(()) => {
                if caching::give(session, context).await? {
                    return Ok(true);
                }
                forward::simplify(session.req_header_mut());
                hedge::answer(session, &self.backends, &self.pressure, context).await
            }
            Err(Stop::Reply(reply)) => {
                Box::pin(send::send(session, context, *reply)).await?;
                Ok(true)
            }
            Err(Stop::Gone) => Err(Error::new_down(ErrorType::ConnectionClosed)),
        }
    }

    fn request_cache_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<()> {
        caching::begin(session, context);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, context: &mut Self::CTX) -> Result<CacheKey> {
        caching::key(context)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _hit: &mut HitHandler,
        is_fresh: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(caching::found(session, meta, is_fresh, context))
    }

    fn cache_miss(&self, session: &mut Session, _context: &mut Self::CTX) {
        caching::missed(session);
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        context: &mut Self::CTX,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        caching::variant(meta, &request.headers, context)
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        _context: &mut Self::CTX,
    ) -> Result<bool> {
        Ok(is_unchanged(session.req_header(), response))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _context: &mut Self::CTX,
    ) -> RangeType {
        range_header_filter(session.req_header(), response, Some(MOST_RANGES))
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
    ) -> Result<bool> {
        match caching::refused_miss(context) {
            Some(reply) => {
                Box::pin(send::send(session, context, reply)).await?;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        let pause = std::mem::take(&mut context.attempt.pause);
        if !pause.is_zero() {
            Box::pin(tokio::time::sleep(pause)).await;
        }
        let mut peer = attempt::next(session.req_header(), context)?;
        if context.connection.is_none() {
            // Nothing else times what happens in the background.
            peer.options.read_timeout = attempt::first_byte(context);
        }
        // HTTP/2 knows no `Upgrade`, and who speaks nothing else ignores it (RFC 9110 §7.8).
        if handshake::is_asked_for(session) && peer.options.alpn.get_min_http_version() == 1 {
            let introduction = context.attempt.introduction.clone();
            context.attempt.handshake = Some(Handshake::on(&mut peer, introduction));
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        trace::failed(&error, context);
        attempt::not_connected(&error, context);
        error.set_retry(repeat::after_connect_failure(context));
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        is_reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        _digest: Option<&Digest>,
        context: &mut Self::CTX,
    ) -> Result<()> {
        attempt::connected(fd, is_reused, context);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        content::begin(context);
        let sent = session.req_header();
        mirror::begin(sent, request, context);
        let (Some(service), Some(choice)) = (context.service(), &context.attempt.choice) else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        forward::prepare(sent, request, (service, &choice.endpoint), context)?;
        grpc::ask(request, context)?;
        caching::asked(context);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        chunk: &mut Option<Bytes>,
        is_end: bool,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if let Some(limit) = context.body_limit
            && session.body_bytes_read() as u64 > limit
            && !session.was_upgraded()
        {
            context.pending_reply = Some(pipeline::body_too_large(limit));
            return Err(Error::new_down(ErrorType::HTTPStatus(413)));
        }
        bandwidth::receive(session.body_bytes_read(), context).await;
        content::passed(chunk.as_ref(), is_end, context)?;
        mirror::passed(chunk.as_ref(), is_end, &self.backends, context);
        grpc::decode(chunk, is_end, context)?;
        if is_end {
            attempt::completed(context);
        } else {
            attempt::received(context);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let is_switch = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_switch && context.attempt.handshake.is_none() {
            // Nobody asked for it (RFC 9110 §15.2.2), and the client takes what follows for answers.
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        framing::settle(response)?;
        caching::pass_on(session, response, context).await;
        grpc::note(&response.headers, context);
        let status = grpc::effective(response.status, context);
        attempt::answered(status, context);
        if let Some(error) = repeat::instead_of(session, status, context) {
            return Err(error);
        }
        if is_switch {
            // The client may be silent for as long as the backend may.
            session.set_read_timeout(
                context
                    .route()
                    .and_then(|route| route.policies.timeouts.idle),
            );
        }
        caching::invalidate(
            session.req_header(),
            response.status,
            &response.headers,
            context,
        );
        if caching::answered(session, response.status, &response.headers, context) {
            respond::strip(response);
        } else {
            respond::prepare(session.req_header(), response, context);
        }
        grpc::translate(response, context)?;
        if concurrency::is_whole(session.req_header(), response) {
            concurrency::ended(context);
        }
        Ok(())
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(caching::judge(session, response, context))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let told = caching::tell(session, response, context);
        if told == Told::Here && concurrency::is_whole(session.req_header(), response) {
            concurrency::ended(context);
        }
        Ok(())
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
        error: Option<&Error>,
    ) -> bool {
        caching::serves_stale(session, error, context)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _chunk: &mut Option<Bytes>,
        is_end: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        if is_end {
            attempt::ended(context);
        } else {
            attempt::progressed(Instant::now(), context);
        }
        Ok(caching::hold_back(context))
    }

    /// What comes behind the body says how a call by gRPC went.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        context: &mut Self::CTX,
    ) -> Result<()> {
        grpc::note(trailers, context);
        attempt::concluded(context);
        attempt::ended(context);
        Ok(())
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        context: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        concurrency::ended(context);
        Ok(grpc::end(trailers, context))
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        chunk: &mut Option<Bytes>,
        is_end: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        grpc::encode(chunk, context);
        let wait = bandwidth::wait_to_send(chunk.as_ref(), context);
        // What has to wait is under way yet.
        if is_end && wait.is_none() {
            concurrency::ended(context);
        }
        Ok(wait)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Self::CTX,
        is_reused: bool,
    ) -> Box<Error> {
        trace::failed(&error, context);
        repeat::after_failure(session, &mut error, is_reused, context);
        if error.retry() {
            context.note(Flag::Retried);
        }
        attempt::ended(context);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Self::CTX,
    ) -> FailToProxy {
        let error_code = self.answer_failure(session, error, context).await;
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        session: &mut Session,
        _error: Option<&Error>,
        context: &mut Self::CTX,
    ) {
        attempt::ended(context);
        self.settle(session, context);
    }

    /// The access log is the record of every request.
    fn suppress_error_log(&self, _session: &Session, _context: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Self::CTX,
        _error: &Error,
        _about: pingora_proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
