//! Interim responses of a backend whose answer is kept, such as early hints (RFC 8297).

use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::super::context::Context;

/// Gives a client an interim response at once. The framework drops one that comes together with the header
/// of an answer that clients are given from the store, and gives one that comes alone: it is kept from that.
pub(in super::super) async fn pass_on(
    session: &mut Session,
    response: &ResponseHeader,
    context: &mut Context,
) {
    // Who waits to send a body is told by the framework that it may.
    let is_for_client = response.status.is_informational()
        && ![StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&response.status);
    let is_wanted = context.lookup().is_some_and(|it| it.refresh.is_none());
    // HTTP/1.0 knows none (RFC 9110 §15.2), and the framework gives none by HTTP/2.
    let knows_them = session.req_header().version == Version::HTTP_11;
    if !is_for_client || !is_wanted || !knows_them || session.as_http1().is_none() {
        return;
    }
    let client = session.as_downstream_mut();
    client.set_ignore_info_resp(false);
    // That a client has gone is found out by its answer; the others want it still.
    let _ = client.write_response_header_ref(response).await;
    client.set_ignore_info_resp(true);
}
