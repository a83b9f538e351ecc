//! What the operators' address answers with.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use serde::Serialize;

use super::traffic::Subscription;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// An answer to be.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    /// Header fields beside those that all answers have.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

/// What comes behind the header.
#[derive(Debug)]
pub(super) enum Body {
    /// This.
    Whole(Bytes),
    /// What happens from now on.
    Events(Subscription),
}

impl Answer {
    /// A sentence.
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self::of(status, TEXT, format!("{text}\n"))
    }

    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut json) => {
                json.push(b'\n');
                Self::of(status, JSON, json)
            }
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub(super) fn of(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, kind)],
            body: Body::Whole(body.into()),
        }
    }

    /// Server-sent events, as they come.
    pub(super) fn events(subscription: Subscription) -> Self {
        Self {
            status: StatusCode::OK,
            headers: vec![(header::CONTENT_TYPE, EVENTS)],
            body: Body::Events(subscription),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Its header and its body.
    ///
    /// # Errors
    /// Never: all that is in it is valid.
    pub(super) fn into_parts(self) -> pingora::Result<(ResponseHeader, Body)> {
        let mut response = ResponseHeader::build(self.status, Some(self.headers.len() + 3))?;
        match &self.body {
            Body::Whole(body) => response.insert_header(header::CONTENT_LENGTH, body.len())?,
            Body::Events(_) => response.insert_header(header::TRANSFER_ENCODING, "chunked")?,
        }
        response.insert_header(header::CACHE_CONTROL, "no-store")?;
        response.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        for (name, value) in self.headers {
            response.insert_header(name, value)?;
        }
        Ok((response, self.body))
    }
}
