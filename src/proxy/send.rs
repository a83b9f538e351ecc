//! Writes the gateway's own answers, so that the client's connection lives on where it can.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::context::Context;
use super::reply::{Body, Reply};
use super::{grpc, pipeline};

/// Request bodies up to this size are read and thrown away, so that the connection can be kept.
const SMALL_BODY: u64 = 16 * 1024;
/// Fields that most answers have beside their own, so that room for all is made at once.
const USUAL_FIELDS: usize = 8;
/// How long the rest of a request body is waited for.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Answers a request. The response policies of its route hold for this answer too.
pub(super) async fn send(
    session: &mut Session,
    context: &mut Context,
    mut reply: Reply,
) -> Result<()> {
    context.note(reply.flag);
    context.replied = Some(reply.status.as_u16());
    if is_small_body(session) {
        drain(session).await;
    }
    let status = reply.status;
    grpc::answer(&mut reply, context);
    let (body, kind) = body(session, &mut reply, context);
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = reply.status;
    parts.headers.reserve(reply.headers.len() + USUAL_FIELDS);
    for (name, value) in reply.headers.drain(..) {
        parts.headers.append(name, value);
    }
    if let Some(kind) = kind {
        parts.headers.insert(header::CONTENT_TYPE, kind);
    }
    // Without a length what ends a call is its trailers.
    let is_call = grpc::is_call(context) && session.req_header().version == Version::HTTP_2;
    let is_bare = is_call && body.is_empty();
    let may_have_body = !matches!(
        reply.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) && !is_bare;
    if may_have_body {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let asked = &session.req_header().headers;
    pipeline::decorate(asked, status, &mut parts.headers, context);
    grpc::expose(&mut parts.headers, context);
    pipeline::mark_own(&reply, &mut parts.headers);
    pipeline::edit(session.req_header(), &mut parts.headers, context);
    let response = ResponseHeader::from(parts);
    context.held.release();
    if context.is_last {
        session.set_keepalive(None);
        if let Some(connection) = &context.connection {
            connection.end();
        }
    }
    if is_bare && let ServerSession::H2(stream) = &mut *session.downstream_session {
        // The framework would end it with a frame of its own.
        stream.write_response_header(Box::new(response), true)?;
        return Ok(());
    }
    let has_body = may_have_body && !body.is_empty() && session.req_header().method != Method::HEAD;
    session
        .write_response_header(Box::new(response), !has_body)
        .await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    // Closing a connection with bytes unread would reset it, and the client might never see the
    // answer.
    drain(session).await;
    Ok(())
}

/// Answers the process itself.
pub(super) async fn acknowledge(session: &mut Session) -> Result<()> {
    let response = ResponseHeader::build(StatusCode::NO_CONTENT, Some(0))?;
    session
        .write_response_header(Box::new(response), true)
        .await
}

fn body(session: &Session, reply: &mut Reply, context: &Context) -> (Bytes, Option<HeaderValue>) {
    match &mut reply.body {
        Body::Fixed(body) => (std::mem::take(body), None),
        Body::Problem(problem) => {
            let headers = &session.req_header().headers;
            let (body, kind) = problem.render(reply.status, context.id(), headers);
            (body, Some(kind))
        }
    }
}

/// Whether a short body is on its way that was announced, and that does not wait to be asked for.
fn is_small_body(session: &mut Session) -> bool {
    let headers = &session.req_header().headers;
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
    length.is_some_and(|length| length <= SMALL_BODY) && !headers.contains_key(header::EXPECT)
}

/// Reads and throws away what is left of the request's body, for a while.
async fn drain(session: &mut Session) {
    if session.is_body_done() || session.req_header().headers.contains_key(header::EXPECT) {
        return;
    }
    session.set_total_drain_timeout(Some(DRAIN_TIME));
    if let Err(error) = session.drain_request_body().await {
        log::debug!("the rest of a request body did not come: {error}");
        session.set_keepalive(None);
    }
}
