//! Something that is sent elsewhere now and then, beside requests, and the whole of the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use pingora::http::RequestHeader;

use super::exchange::{Answer, Backends, Question};
use super::fetch::{addresses, peer};

/// No answer that is read is larger.
const LARGEST: usize = 1024 * 1024;
/// Keeps connections to those who are sent something apart from all others.
const APART: u64 = u64::MAX ^ u32::MAX as u64;

impl Backends {
    /// Sends a request to where its URL says. `authorities` are trusted instead of the system's: PEM
    /// certificates.
    ///
    /// # Errors
    /// Why there is no answer within the time, as a part of a sentence.
    pub async fn deliver(
        &self,
        request: Request<Bytes>,
        authorities: Option<&str>,
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        let (parts, body) = request.into_parts();
        let until = Instant::now() + within;
        // A connection under other authorities is none of theirs.
        let trust = APART | u64::from(crc32fast::hash(authorities.unwrap_or_default().as_bytes()));
        let mut problem = "its name has no address".to_owned();
        for address in addresses(&parts.uri).await? {
            let mut peer = peer(&parts.uri, address, authorities, within)?;
            peer.group_key = trust;
            let question = Question {
                header: header(&parts, body.len())?,
                body: vec![body.clone()],
                first_byte: None,
                until: Some(until),
            };
            match self.ask(Box::new(peer), question, None).await {
                Ok(answer) => {
                    let read = tokio::time::timeout_at(until.into(), self.read_whole(answer));
                    return read.await.map_err(|_| "its answer takes too long")?;
                }
                Err(failed) => problem = failed.error().to_string(),
            }
        }
        Err(problem)
    }

    async fn read_whole(&self, mut answer: Answer) -> Result<Response<Bytes>, String> {
        let mut body = Vec::new();
        while let Some(part) = {
            let part = answer.session.read_response_body().await;
            part.map_err(|error| error.to_string())?
        } {
            body.extend_from_slice(&part);
            if body.len() > LARGEST {
                return Err(format!("its answer has more than {LARGEST} bytes"));
            }
        }
        let mut response = Response::new(body.into());
        *response.status_mut() = answer.header.status;
        *response.headers_mut() = answer.header.headers.clone();
        self.keep(answer).await;
        Ok(response)
    }
}

fn header(parts: &http::request::Parts, length: usize) -> Result<RequestHeader, String> {
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut header = RequestHeader::build(parts.method.clone(), path.as_bytes(), None)
        .map_err(|error| error.to_string())?;
    let mut fields: HeaderMap = parts.headers.clone();
    let host = parts.uri.authority().map_or("", |it| it.as_str());
    let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
    fields.insert(header::HOST, host);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    for (name, value) in &fields {
        header
            .append_header(name, value)
            .map_err(|error| error.to_string())?;
    }
    Ok(header)
}
