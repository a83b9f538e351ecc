//! Passes on an answer that the framework does not see.

use std::time::Instant;

use http::{Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, Result};
use pingora_proxy::Session;

use super::context::Context;
use super::{attempt, bandwidth, caching, concurrency, framing, respond};
use crate::upstream::{Answer, Outcome};

/// Passes an answer on to the client as it comes, and gives it back when it was read to its end.
///
/// # Errors
/// If the client goes away, or the backend does before the end.
pub(super) async fn pass_on(
    mut answer: Answer,
    session: &mut Session,
    context: &mut Context,
) -> Result<Answer> {
    let passed = pass(&mut answer, session, context).await;
    if let Err(error) = &passed
        && error.esource() == &ErrorSource::Upstream
    {
        attempt::settle(Outcome::Failure, context);
    }
    // Its socket is open until here.
    attempt::ended(context);
    passed.map(|()| answer)
}

/// Ends when the client goes away.
pub(super) async fn gone(session: &mut Session) -> Box<Error> {
    match session.downstream_session.read_body_or_idle(true).await {
        Err(error) => error.into_down(),
        // It has sent its next request.
        Ok(_) => std::future::pending().await,
    }
}

async fn pass(answer: &mut Answer, session: &mut Session, context: &mut Context) -> Result<()> {
    for mut early in std::mem::take(&mut answer.early) {
        framing::settle(&mut early)?;
        write(early, false, session).await?;
    }
    let mut header = answer.header.clone();
    caching::invalidate(
        session.req_header(),
        header.status,
        &header.headers,
        context,
    );
    framing::settle(&mut header)?;
    respond::prepare(session.req_header(), &mut header, context);
    let is_end = answer.session.response_done();
    if is_end {
        concurrency::ended(context);
    } else {
        frame(session.req_header(), &mut header)?;
    }
    write(header, is_end, session).await?;
    loop {
        let part = tokio::select! {
            biased;
            part = answer.session.read_response_body() => part.map_err(Error::into_up)?,
            error = gone(session) => return Err(error),
        };
        let is_end = part.is_none();
        if !is_end {
            attempt::progressed(Instant::now(), context);
        }
        if let Some(wait) = bandwidth::wait_to_send(part.as_ref(), context) {
            tokio::time::sleep(wait).await;
        }
        if is_end || answer.session.response_done() {
            concurrency::ended(context);
        }
        session
            .write_response_body(part, is_end)
            .await
            .map_err(Error::into_down)?;
        if is_end {
            return Ok(());
        }
    }
}

async fn write(header: ResponseHeader, is_end: bool, session: &mut Session) -> Result<()> {
    let written = session.write_response_header(Box::new(header), is_end);
    written.await.map_err(Error::into_down)
}

/// A body that ends with the backend's connection comes in chunks, so that the client's can be kept.
fn frame(request: &RequestHeader, response: &mut ResponseHeader) -> Result<()> {
    let has_none = request.method == Method::HEAD
        || matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let is_framed = response.headers.contains_key(header::CONTENT_LENGTH)
        || response.headers.contains_key(header::TRANSFER_ENCODING);
    if !has_none && !is_framed {
        response.set_version(Version::HTTP_11);
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}
