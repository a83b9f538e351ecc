//! What an attempt that came to nothing means: the answer to the client, or what the log says where nobody is
//! left to be answered.

use pingora::{Error, ErrorSource, ErrorType};

use crate::proxy::context::Context;
use crate::proxy::reply::Reply;
use crate::telemetry::Flag;

/// The answer to a request that failed, or `None` when there is nobody to answer.
pub(in crate::proxy) fn reply_to(error: &Error, context: &Context) -> Option<Reply> {
    use ErrorType::{
        BindError, ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused,
        ConnectTimedout, ConnectionClosed, H2Error, HandshakeError, InvalidCert, InvalidHTTPHeader,
        ReadError, ReadTimedout, SocketError, TLSHandshakeFailure, TLSHandshakeTimedout,
        WriteError, WriteTimedout,
    };
    if context
        .connection
        .as_ref()
        .is_some_and(|connection| connection.is_late())
    {
        return Some(Reply::upstream_timeout(
            "the backend did not answer in time",
        ));
    }
    if is_client_late(context) {
        return Some(Reply::request_timeout(
            "the request body did not come in time",
        ));
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout) => Some(Reply::request_timeout(
            "the request body did not come in time",
        )),
        (
            ErrorSource::Downstream,
            WriteError | ReadError | ConnectionClosed | WriteTimedout | H2Error,
        ) => None,
        (ErrorSource::Downstream, _) => Some(Reply::bad_request("the request can't be understood")),
        (_, ConnectTimedout | TLSHandshakeTimedout) => Some(Reply::connect_timeout(
            "the backend could not be connected to in time",
        )),
        (
            _,
            ConnectRefused | ConnectNoRoute | ConnectError | BindError | SocketError
            | ConnectProxyFailure,
        ) => Some(Reply::connect_failed(
            "the backend could not be connected to",
        )),
        (_, TLSHandshakeFailure | InvalidCert) => Some(Reply::tls_failed(
            "no trusted TLS connection to the backend could be made",
        )),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Reply::upstream_timeout(
            "the backend did not answer in time",
        )),
        (_, HandshakeError) => Some(Reply::upstream_protocol(
            "the backend does not speak HTTP/2",
        )),
        (ErrorSource::Upstream, ConnectionClosed | ReadError | WriteError | H2Error) => Some(
            Reply::upstream_reset("the backend ended the connection before it had answered"),
        ),
        (ErrorSource::Upstream, InvalidHTTPHeader) => {
            Some(Reply::upstream_protocol("the backend's answer is not HTTP"))
        }
        (ErrorSource::Upstream, _) => Some(Reply::upstream_protocol(
            "the backend's answer can't be understood",
        )),
        _ => Some(Reply::internal("the gateway could not handle the request")),
    }
}

/// Whether the client did not send its body in time.
pub(in crate::proxy) fn is_client_late(context: &Context) -> bool {
    let connection = context.connection.as_ref();
    connection.is_some_and(|connection| connection.is_client_late())
}

/// What the log says of a failure that nobody is there to be answered for.
pub(in crate::proxy) fn flag_of(error: &Error, context: &Context) -> Flag {
    if context
        .connection
        .as_ref()
        .is_some_and(|connection| connection.is_late())
    {
        return Flag::UpstreamTimeout;
    }
    if is_client_late(context) {
        return Flag::ClientTimeout;
    }
    let connection = context.connection.as_ref();
    if connection.is_some_and(|connection| connection.is_expired()) {
        return Flag::Expired;
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::WriteTimedout | ErrorType::ReadTimedout) => {
            Flag::ClientTimeout
        }
        (ErrorSource::Downstream, _) => Flag::ClientGone,
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            Flag::UpstreamTimeout
        }
        (ErrorSource::Upstream, _) => Flag::UpstreamReset,
        _ => Flag::Internal,
    }
}
