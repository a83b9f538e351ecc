//! For which requests an answer is looked for.

use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE};
use http::{HeaderMap, HeaderName, Method};

use super::directives::RequestDirectives;
use super::policy::CachePolicy;

/// Fields by which some backends take a request for another one than it is. They stand in no key, so that
/// answers to requests with them are nobody else's.
const OVERRIDES: [HeaderName; 9] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-scheme"),
];

/// A request, as far as it decides whether an answer is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// Its method.
    pub method: &'q Method,
    /// Its header.
    pub headers: &'q HeaderMap,
    /// Whether it has a body.
    pub has_body: bool,
    /// Whether what it says of its way is believed.
    pub is_from_trusted_proxy: bool,
    /// What it asks of caches.
    pub directives: RequestDirectives,
}

/// Cheaper to ask of every field than to look for each of them.
fn is_override(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-") && OVERRIDES.contains(name)
}

impl CachePolicy {
    /// Why no answer is looked for, in a word for the log; `None` if one is.
    pub fn bypass(&self, question: Question<'_>) -> Option<&'static str> {
        let headers = question.headers;
        let has = |names: &[HeaderName]| names.iter().any(|name| headers.contains_key(name));
        if !matches!(*question.method, Method::GET | Method::HEAD) {
            return Some("method");
        }
        if question.has_body {
            return Some("body");
        }
        if has(&[UPGRADE]) {
            return Some("upgrade");
        }
        // They are for the backend to judge (RFC 9111 §4.3.2).
        if has(&[IF_MATCH, IF_UNMODIFIED_SINCE]) {
            return Some("precondition");
        }
        if !question.is_from_trusted_proxy && headers.keys().any(is_override) {
            return Some("override");
        }
        (self.obeys_requests && question.directives.no_store).then_some("request_no_store")
    }
}
