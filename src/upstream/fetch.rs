//! A document from elsewhere, read as a whole: what is fetched now and then, beside requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use pingora::http::RequestHeader;
use pingora::tls::x509::X509;
use pingora::upstreams::peer::HttpPeer;

use super::exchange::{Answer, Backends, Question};

/// Nothing that is fetched is larger.
const LARGEST: usize = 256 * 1024;
/// Keeps what is fetched off connections that others have left, who may trust other authorities.
const APART: u64 = u64::MAX;

/// What was fetched.
#[derive(Debug)]
pub struct Document {
    /// All of it.
    pub text: String,
    /// How long it stays fresh (RFC 9111 §4.2.1), if that is said.
    pub fresh_for: Option<Duration>,
}

impl Backends {
    /// Fetches a document; connecting may take about so long. `authorities` are trusted instead of the
    /// system's: PEM certificates. Redirects are not followed: what is behind them was not vouched for.
    ///
    /// # Errors
    /// Why there is none, as a part of a sentence.
    pub async fn fetch(
        &self,
        uri: &Uri,
        authorities: Option<&str>,
        within: Duration,
    ) -> Result<Document, String> {
        let request = question(uri)?;
        let answer = self.send(&request, authorities, within).await?;
        document(answer)
    }

    /// Sends a request and reads the whole answer, whatever it says; connecting may take about so long.
    /// `authorities` are trusted instead of the system's: PEM certificates.
    ///
    /// # Errors
    /// Why there is no answer, as a part of a sentence.
    pub async fn send(
        &self,
        request: &Request<Bytes>,
        authorities: Option<&str>,
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        let uri = request.uri();
        let mut problem = "its name has no address".to_owned();
        for address in addresses(uri).await? {
            let peer = peer(uri, address, authorities, within)?;
            match self.ask(Box::new(peer), asked(request)?, None).await {
                Ok(answer) => return read(answer).await,
                Err(failed) => problem = failed.error().to_string(),
            }
        }
        Err(problem)
    }
}

pub(super) async fn addresses(uri: &Uri) -> Result<Vec<SocketAddr>, String> {
    let port = uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 });
    match tokio::net::lookup_host((host(uri), port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(format!("its name can't be looked up: {error}")),
    }
}

/// The name or address, without brackets.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_tls(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

pub(super) fn peer(
    uri: &Uri,
    address: SocketAddr,
    authorities: Option<&str>,
    within: Duration,
) -> Result<HttpPeer, String> {
    let mut peer = HttpPeer::new(address, is_tls(uri), host(uri).to_owned());
    peer.group_key = APART;
    // A second address has a chance, too.
    peer.options.total_connection_timeout = Some(within / 2);
    peer.options.connection_timeout = Some(within / 2);
    if let Some(pem) = authorities {
        let certificates = X509::stack_from_pem(pem.as_bytes()).map_err(|it| it.to_string())?;
        peer.options.ca = Some(Arc::new(certificates.into()));
    }
    Ok(peer)
}

fn question(uri: &Uri) -> Result<Request<Bytes>, String> {
    let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, agent);
    request
        .body(Bytes::new())
        .map_err(|error| error.to_string())
}

fn asked(request: &Request<Bytes>) -> Result<Question, String> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let method = request.method().clone();
    let mut header =
        RequestHeader::build(method, path.as_bytes(), None).map_err(|error| error.to_string())?;
    let host = uri.authority().map_or("", |it| it.as_str());
    let length = request.body().len().to_string();
    let has_body = !request.body().is_empty();
    let fields = [(header::HOST, host), (header::CONNECTION, "close")].into_iter();
    let fields = fields.chain(has_body.then_some((header::CONTENT_LENGTH, &*length)));
    for (name, value) in fields {
        header
            .insert_header(name, value)
            .map_err(|error| error.to_string())?;
    }
    for (name, value) in request.headers() {
        header
            .append_header(name.clone(), value.clone())
            .map_err(|error| error.to_string())?;
    }
    Ok(Question {
        header,
        body: has_body
            .then(|| request.body().clone())
            .into_iter()
            .collect(),
        first_byte: None,
        until: None,
    })
}

async fn read(mut answer: Answer) -> Result<Response<Bytes>, String> {
    let mut body = Vec::new();
    loop {
        let part = answer.session.read_response_body().await;
        let Some(part) = part.map_err(|error| error.to_string())? else {
            break;
        };
        body.extend_from_slice(&part);
        if body.len() > LARGEST {
            return Err(format!("its answer has more than {LARGEST} bytes"));
        }
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = answer.header.status;
    *response.headers_mut() = answer.header.headers.clone();
    Ok(response)
}

fn document(answer: Response<Bytes>) -> Result<Document, String> {
    let status = answer.status();
    if !status.is_success() || status == StatusCode::NO_CONTENT {
        return Err(match status.is_redirection() {
            true => format!("it answered {status}, and redirects are not followed"),
            false => format!("it answered {status}"),
        });
    }
    let fresh_for = fresh_for(answer.headers());
    match String::from_utf8(answer.into_body().into()) {
        Ok(text) => Ok(Document { text, fresh_for }),
        Err(_) => Err("its answer is not text".into()),
    }
}

/// How long a response stays fresh, as far as it says so.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
    let mut fresh_for = None;
    for line in headers.get_all(header::CACHE_CONTROL) {
        for directive in line.to_str().unwrap_or_default().split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            let age = directive.strip_prefix("max-age=");
            let age = age.map(|age| age.trim_matches('"'));
            fresh_for = age.and_then(|age| age.parse().ok()).or(fresh_for);
        }
    }
    let age = headers.get(header::AGE).and_then(seconds).unwrap_or(0);
    fresh_for.map(|seconds: u64| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_answer_says() {
        for (fields, expected) in [
            (&[][..], None),
            (&[("cache-control", "public, max-age=300")], Some(300)),
            (&[("cache-control", "max-age=\"60\"")], Some(60)),
            (&[("cache-control", "Max-Age=300, no-store")], Some(0)),
            (&[("cache-control", "s-maxage=5")], None),
            (&[("cache-control", "max-age=many")], None),
            (
                &[("cache-control", "max-age=300"), ("age", "100")],
                Some(200),
            ),
            (&[("cache-control", "max-age=300"), ("age", "400")], Some(0)),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(fresh_for(&headers), expected, "{fields:?}");
        }
    }
}
