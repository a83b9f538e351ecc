//! Whether a client has the answer already that is kept (RFC 9111 §4.3.2).

use http::header::{DATE, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::conditional_filter::not_modified_filter;

use super::clock::date;

/// Whether a 304 is all that this request needs. Of an answer that does not say when it was changed, the
/// time when it was made says it.
pub fn is_unchanged(request: &RequestHeader, kept: &ResponseHeader) -> bool {
    not_modified_filter(request, kept) || is_made_before(request, kept)
}

fn is_made_before(request: &RequestHeader, kept: &ResponseHeader) -> bool {
    let is_asked = matches!(request.method, Method::GET | Method::HEAD)
        && !request.headers.contains_key(IF_NONE_MATCH);
    if !is_asked || kept.status != StatusCode::OK || kept.headers.contains_key(LAST_MODIFIED) {
        return false;
    }
    let since = date(&request.headers, IF_MODIFIED_SINCE);
    let made = date(&kept.headers, DATE);
    since.zip(made).is_some_and(|(since, made)| made <= since)
}
