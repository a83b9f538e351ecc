//! gRPC-Web, bridged: browsers can't see trailers, so that they get them at the end of the body (gRPC-Web,
//! "Protocol differences vs gRPC over HTTP2"). Messages pass as they come.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::base64;
use super::{Dialect, dialect};
use crate::proxy::context::Context;
use crate::proxy::reply::Reply;

/// Marks trailers among the messages.
const TRAILERS: u8 = 0x80;
const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
/// What scripts of other origins have to see of an answer.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");

/// Makes a call of a browser one that a backend understands, if its route bridges them.
pub(in crate::proxy) fn ask(request: &mut RequestHeader, context: &mut Context) -> Result<()> {
    let is_on = context.route().is_some_and(|route| route.policies.grpc_web);
    let Some(call) = context.call.as_mut().filter(|_| is_on) else {
        return Ok(());
    };
    let kind = request.headers.get(header::CONTENT_TYPE);
    let Some((dialect, format)) = kind.and_then(|kind| dialect(kind.as_bytes())) else {
        return Ok(());
    };
    if dialect == Dialect::Plain {
        return Ok(());
    }
    let kind = [super::GRPC, format].concat();
    request.insert_header(header::CONTENT_TYPE, kind)?;
    request.insert_header(header::TE, "trailers")?;
    request.remove_header(&X_GRPC_WEB);
    request.remove_header(&header::ACCEPT);
    if dialect == Dialect::WebText {
        request.remove_header(&header::CONTENT_LENGTH);
    }
    // Again for each attempt.
    call.decoder.restart();
    call.is_bridged = true;
    Ok(())
}

/// Makes a part of a body that came as text what it stands for.
///
/// # Errors
/// If it stands for nothing; the answer waits in `context`.
pub(in crate::proxy) fn decode(
    part: &mut Option<Bytes>,
    is_end: bool,
    context: &mut Context,
) -> Result<()> {
    let Some(call) = &mut context.call else {
        return Ok(());
    };
    if !call.is_bridged || call.dialect != Dialect::WebText {
        return Ok(());
    }
    let decoded = match part {
        Some(text) => call.decoder.decode(text).map(|bytes| *part = Some(bytes)),
        None => Ok(()),
    };
    if decoded.is_ok() && (!is_end || call.decoder.is_at_end()) {
        return Ok(());
    }
    context.pending_reply = Some(Reply::bad_request("the request body is not Base64"));
    Err(Error::new_down(ErrorType::HTTPStatus(400)))
}

/// Makes the header of a backend's answer one for a browser.
pub(in crate::proxy) fn translate(
    response: &mut ResponseHeader,
    context: &mut Context,
) -> Result<()> {
    let Some(call) = context.call.as_mut().filter(|call| call.is_bridged) else {
        return Ok(());
    };
    let kind = response.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| dialect(kind.as_bytes()));
    let Some((Dialect::Plain, format)) = kind else {
        // Not one of gRPC, which is passed on as it is.
        call.is_bridged = false;
        return Ok(());
    };
    let ours: &[u8] = match call.dialect {
        Dialect::WebText => b"-web-text",
        _ => b"-web",
    };
    let kind = [super::GRPC, ours, format].concat();
    response.insert_header(header::CONTENT_TYPE, kind)?;
    response.remove_header(&header::CONTENT_LENGTH);
    if exposes(&response.headers, context) {
        response.append_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    }
    Ok(())
}

/// Lets scripts of other origins see how their call ended, if they may see anything.
pub(in crate::proxy) fn expose(headers: &mut HeaderMap, context: &Context) {
    if exposes(headers, context) {
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn exposes(headers: &HeaderMap, context: &Context) -> bool {
    let call = context.call.as_ref();
    call.is_some_and(|call| call.dialect != Dialect::Plain)
        && headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
}

/// Makes a part of an answer's body text, if that is what the client reads.
pub(in crate::proxy) fn encode(part: &mut Option<Bytes>, context: &Context) {
    if let Some(call) = &context.call
        && call.is_bridged
        && call.dialect == Dialect::WebText
        && let Some(bytes) = part.as_ref().filter(|bytes| !bytes.is_empty())
    {
        *part = Some(base64::encode(bytes));
    }
}

/// What ends the body in place of trailers.
pub(in crate::proxy) fn end(trailers: &HeaderMap, context: &Context) -> Option<Bytes> {
    let call = context.call.as_ref().filter(|call| call.is_bridged)?;
    let mut fields = BytesMut::new();
    for (name, value) in trailers {
        fields.put_slice(name.as_str().as_bytes());
        fields.put_slice(b": ");
        fields.put_slice(value.as_bytes());
        fields.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(fields.len() + 5);
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(fields.len()).ok()?);
    frame.put_slice(&fields);
    Some(match call.dialect {
        Dialect::WebText => base64::encode(&frame),
        _ => frame.freeze(),
    })
}
