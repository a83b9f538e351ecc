//! The end of a request: the answer to one that failed, its line in the log, and its client's connection.

use http::{StatusCode, header};
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::Gateway;
use super::context::Context;
use super::{attempt, caching, charge, fallback, grpc, limit, meter, send, trace};
use crate::auth::Identity;
use crate::telemetry::{Flag, LineRules, RecentKind, Record};

impl Gateway {
    /// The framework closes the client's connection after a failed attempt, whatever was answered. The
    /// client has done nothing wrong: if its request is there as a whole, its connection is kept.
    pub(super) async fn keep_client(&self, session: &mut Session, context: &mut Context) {
        let Some(connection) = context.connection.clone() else {
            return;
        };
        if session.get_keepalive().is_none() || !session.is_body_done() {
            return;
        }
        // What takes the session's place knows no request that could be logged.
        self.settle(session, context);
        let settings = HttpPersistentSettings::for_session(session);
        let nobody = ServerSession::new_http1(Box::new(tokio::io::duplex(1).0));
        let served = std::mem::replace(&mut *session.downstream_session, nobody);
        if let Ok(Some(stream)) = served.finish().await {
            connection.keep(ReusedHttpStream::from_reusable_stream(stream, settings));
        }
    }

    /// Answers a request that failed, if there is anything to be answered still. Gives the answer's status, 0
    /// without one.
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Context,
    ) -> u16 {
        attempt::ended(context);
        let is_answered = session
            .response_written()
            .is_some_and(|it| !it.status.is_informational());
        let reply = context
            .pending_reply
            .take()
            .or_else(|| {
                // Where a request ends that can't be read, nobody knows.
                context.is_last |= matches!(error.esource(), ErrorSource::Downstream);
                attempt::reply_to(error, context)
            })
            .map(|reply| fallback::instead_of(reply, context));
        match reply {
            Some(reply) if !is_answered => {
                let status = reply.status.as_u16();
                match send::send(session, context, reply).await {
                    Ok(()) => self.keep_client(session, context).await,
                    Err(error) => log::debug!("an answer was not sent: {error}"),
                }
                status
            }
            _ => {
                context.note(attempt::flag_of(error, context));
                0
            }
        }
    }

    /// Charges what the request has cost, counts it and writes its line, once.
    pub(super) fn settle(&self, session: &Session, context: &mut Context) {
        if !context.is_logged {
            // Its backend was cut off, which is an end like any other.
            let connection = context.connection.as_ref();
            if connection.is_some_and(|it| it.is_expired()) {
                context.note(Flag::Expired);
            }
            charge::by_bytes(session.body_bytes_sent() as u64, context);
            self.log(session, context);
            context.is_logged = true;
            meter::end(context);
        }
    }

    /// Counts the request, writes its line, if it is one of those that have one, and keeps it for operators if
    /// it went badly.
    fn log(&self, session: &Session, context: &Context) {
        let written = session
            .response_written()
            .map(|response| response.status.as_u16());
        let status = context.replied.or(written).unwrap_or(0);
        let total = context.arrived.elapsed();
        let judged =
            StatusCode::from_u16(status).map_or(status, |it| grpc::effective(it, context).as_u16());
        meter::count(status, total, session, context);
        let identity = context.identity.as_deref();
        if let Some(consumer) = context.snapshot.consumer(identity) {
            consumer.requests.count(status);
        }
        trace::finish(session, status, total, context);
        let outcome = caching::outcome(session, context);
        if let (Some(outcome), Some(cache)) = (outcome, context.snapshot.cache) {
            cache.results.count(outcome.result);
        }
        let (is_failure, took) = (
            trace::is_failure(judged, context),
            trace::answered_in(total, context),
        );
        let rules = context.snapshot.access_log.as_ref();
        let line = rules.and_then(|rules| Some((rules, rules.choose(is_failure, took)?)));
        let kind = RecentKind::of(status, context.flags, is_failure);
        let kept = self.recent.choose(kind, took, context.arrived + total);
        if line.is_none() && kept.is_none() {
            return;
        }
        let request = session.req_header();
        let client = context.client_text();
        let route = context.route();
        let consumer = identity.and_then(Identity::consumer);
        let connection = context.connection.as_ref();
        let shown = connection.and_then(|it| it.certificate());
        let record = Record {
            time: context.time,
            id: context.id(),
            trace: trace::ids(context),
            client: client.as_deref(),
            method: &request.method,
            host: request
                .headers
                .get(header::HOST)
                .map(|host| host.as_bytes()),
            path: context.path(&request.uri),
            query: request.uri.query(),
            version: request.version,
            route: route.map(|route| &*route.name),
            service: match context.service() {
                Some(service) => Some(&*service.name),
                None => route.map(|route| &*route.service),
            },
            endpoint: context
                .attempt
                .choice
                .as_ref()
                .map(|choice| choice.endpoint.as_str()),
            consumer: consumer.map(|it| &*it.name),
            client_certificate: shown.map(|it| it.fingerprint()),
            limit: limit::noted(context),
            cache: outcome.map(|it| (it.result.word(), it.reason)),
            status,
            grpc_status: context.call.as_ref().and_then(|call| call.status),
            request_bytes: session.body_bytes_read() as u64,
            response_bytes: session.body_bytes_sent() as u64,
            total,
            queued: context.queued,
            pipeline: context.attempt.pipeline,
            connected: context.attempt.connected,
            first_byte: context.attempt.first_byte,
            attempts: context.attempt.count,
            flags: context.flags,
            headers: &request.headers,
        };
        if let Some((rules, weight)) = line {
            self.access_log.write(rules, weight, &record);
        }
        if let Some(keep) = kept {
            let client = context.client;
            let client = client.and_then(|client| LineRules::told(rules, client));
            self.recent.keep(keep, &record, client);
        }
    }
}
