//! How the authority is talked to: by the gateway's own connections to backends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::upstream::Backends;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to an authority.
pub(super) struct Client {
    pub(super) backends: Arc<Backends>,
    /// Who vouches for it, in PEM.
    pub(super) authorities: Option<Arc<str>>,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (backends, authorities) = (self.backends.clone(), self.authorities.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let uri = parts.uri.clone();
            let request = Request::from_parts(parts, body.to_bytes());
            let answer = backends.send(&request, authorities.as_deref(), PATIENCE);
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            let answer = answer.map_err(|problem| Error::Other(format!("{uri}: {problem}").into()));
            let (parts, body) = answer?.into_parts();
            let body = Box::new(body);
            Ok(BytesResponse { parts, body })
        })
    }
}
