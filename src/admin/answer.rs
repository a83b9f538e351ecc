//! What the operators' address answers with.

use http::header::{self, HeaderName};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer to be.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    /// Header fields beside those that all answers have.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Answer {
    /// A sentence.
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self::of(status, TEXT, format!("{text}\n").into_bytes())
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

    pub(super) fn of(status: StatusCode, kind: HeaderValue, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, kind)],
            body,
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
    pub(super) fn into_parts(self) -> pingora::Result<(ResponseHeader, Vec<u8>)> {
        let mut response = ResponseHeader::build(self.status, Some(self.headers.len() + 3))?;
        response.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        response.insert_header(header::CACHE_CONTROL, "no-store")?;
        response.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        for (name, value) in self.headers {
            response.insert_header(name, value)?;
        }
        Ok((response, self.body))
    }
}
