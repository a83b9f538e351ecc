//! The paths of the operators' address, and who may ask for them.
//!
//! `/healthz`, `/startupz` and `/readyz` answer anybody. On a loopback address reading needs no token, but a
//! `Host` that is none of a browser's lured elsewhere (DNS rebinding). What changes something needs
//! the token everywhere, which no page of another origin can send.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::Serialize;

use super::cache;
use super::certificates;
use super::commands::Commands;
use super::endpoints;
use super::limit_store;
use super::limits::{self, LimitsReport, Unanswered};
use super::readiness::{Readiness, Unready};
use super::services;
use super::status::{Reload, ReloadOutcome, Status};
use crate::proxy::Pressure;
use crate::snapshot::Store;
use crate::telemetry::{Exposed, Format};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The longest body that is read.
const LONGEST_BODY: usize = 64 * 1024;

/// What answers on the operators' address.
#[derive(Debug)]
pub struct Api {
    /// Whether traffic should come.
    pub readiness: Readiness,
    /// What is known.
    pub status: Arc<Status>,
    /// Where the token is.
    pub snapshots: Arc<Store>,
    /// What rate limits have counted.
    pub limits: Arc<crate::limits::Store>,
    /// How much presses.
    pub pressure: Arc<Pressure>,
    /// What may be asked.
    pub commands: Commands,
    /// Whether only this machine reaches the address.
    pub is_loopback: bool,
}

/// An answer to be.
pub(super) struct Answer {
    status: StatusCode,
    kind: HeaderValue,
    body: String,
    allow: Option<&'static str>,
}

impl Answer {
    pub(super) fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            body: format!("{text}\n"),
            allow: None,
        }
    }

    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(json) => Self {
                kind: JSON,
                ..Self::text(status, &json)
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn only(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allow}"))
        }
    }
}

impl Api {
    async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Answer {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let path = uri.path();
        match path {
            "/healthz" | "/startupz" | "/readyz" | "/status" | "/metrics" | "/diff" if !is_read => {
                Answer::only("GET, HEAD")
            }
            "/reload" | "/purge" if method != Method::POST => Answer::only("POST"),
            "/limits" if !is_read && method != Method::DELETE => Answer::only("GET, HEAD, DELETE"),
            "/healthz" => Answer::text(StatusCode::OK, "ok"),
            "/startupz" if self.readiness.has_started().await => {
                Answer::text(StatusCode::OK, "started")
            }
            "/startupz" => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            "/readyz" => self.is_ready().await,
            "/status" | "/metrics" | "/diff" | "/reload" | "/purge" => {
                let is_change = matches!(path, "/reload" | "/purge");
                match self.authorize(is_change, headers) {
                    Ok(()) => self.operate(path, headers, body).await,
                    Err(refusal) => refusal,
                }
            }
            "/limits" => match self.authorize(!is_read, headers) {
                Ok(()) => self.limits(is_read, uri.query().unwrap_or_default()).await,
                Err(refusal) => refusal,
            },
            _ => Answer::text(
                StatusCode::NOT_FOUND,
                "here are /healthz, /startupz, /readyz, /status, /metrics, /limits, /diff, /reload and \
                 /purge",
            ),
        }
    }

    async fn is_ready(&self) -> Answer {
        let unready = |why: &str| Answer::text(StatusCode::SERVICE_UNAVAILABLE, why);
        match self.readiness.check().await {
            Err(Unready::Starting) => unready("starting"),
            Err(Unready::Draining) => unready("draining"),
            Ok(()) => match self.snapshots.load().unready(Instant::now()) {
                reasons if reasons.is_empty() => Answer::text(StatusCode::OK, "ready"),
                reasons => unready(&reasons.join("\n")),
            },
        }
    }

    async fn operate(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        match path {
            "/status" => {
                let mut report = self.status.report();
                report.overload = self.pressure.level() as u8;
                let snapshot = self.snapshots.load();
                report.impaired = services::impaired(&snapshot, Instant::now());
                report.limit_store = limit_store::impaired(&snapshot);
                report.certificates = certificates::list(&snapshot);
                Answer::json(StatusCode::OK, &report)
            }
            "/metrics" => self.metrics(headers),
            "/purge" => cache::purge(self.snapshots.load().cache, body),
            "/diff" => reloaded(self.commands.compare().await),
            _ => reloaded(self.commands.reload().await),
        }
    }

    async fn limits(&self, is_read: bool, query: &str) -> Answer {
        let snapshot = self.snapshots.load();
        let result = match is_read {
            true => limits::show(&snapshot, &self.limits, query).await,
            false => limits::reset(&snapshot, &self.limits, query).await,
        };
        limits_answer(result)
    }

    fn metrics(&self, headers: &HeaderMap) -> Answer {
        let accept = headers.get(header::ACCEPT);
        let format = Format::wanted(accept.and_then(|accept| accept.to_str().ok()));
        let snapshot = self.snapshots.load();
        let text = self.status.metrics.page(format, |page| {
            self.pressure.expose(page);
            let now = Instant::now();
            services::expose(&snapshot, now, page);
            endpoints::expose(&snapshot, now, page);
            limit_store::expose(&snapshot, page);
            certificates::expose(&snapshot, page);
            if let Some(cache) = snapshot.cache {
                cache::expose(cache, page);
            }
        });
        Answer {
            status: StatusCode::OK,
            kind: HeaderValue::from_static(format.content_type()),
            body: text,
            allow: None,
        }
    }

    fn authorize(&self, is_change: bool, headers: &HeaderMap) -> Result<(), Answer> {
        let snapshot = self.snapshots.load();
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match (&snapshot.settings.admin_token, given) {
            (Some(token), Some(given)) if is_equal(token, given) => Ok(()),
            (Some(_), Some(_)) => Err(Answer::text(
                StatusCode::UNAUTHORIZED,
                "this is not the token that `admin.token` asks for",
            )),
            _ if self.is_loopback && !is_change => {
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                if host.is_some_and(is_this_machine) {
                    return Ok(());
                }
                let text = "ask for this by address or as localhost, or send the token";
                Err(Answer::text(StatusCode::FORBIDDEN, text))
            }
            (Some(_), None) => Err(Answer::text(
                StatusCode::UNAUTHORIZED,
                "send the token of `admin.token`: `Authorization: Bearer …`",
            )),
            (None, _) => Err(Answer::text(
                StatusCode::FORBIDDEN,
                "this needs a token: set `admin.token` in the configuration",
            )),
        }
    }
}

/// Compares in a time that depends on nothing but the length.
fn is_equal(token: &str, given: &str) -> bool {
    token.len() == given.len() && openssl::memcmp::eq(token.as_bytes(), given.as_bytes())
}

/// Whether a `Host` field names an address or the local host: a page that was lured here by DNS
/// names its own.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn reloaded(result: Option<Reload>) -> Answer {
    match result {
        Some(reload) if reload.outcome == ReloadOutcome::Refused => {
            Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &reload)
        }
        Some(reload) => Answer::json(StatusCode::OK, &reload),
        None => Answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not now: other changes wait, or the process ends",
        ),
    }
}

fn limits_answer(result: Result<LimitsReport, Unanswered>) -> Answer {
    match result {
        Ok(report) => Answer::json(StatusCode::OK, &report),
        Err(unknown @ Unanswered::Unknown(_)) => {
            Answer::text(StatusCode::NOT_FOUND, &unknown.to_string())
        }
        Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, &wrong.to_string()),
    }
}

/// What was sent, as far as it is no longer than a purge can be.
async fn read_body(session: &mut ServerSession) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() <= LONGEST_BODY
        && let Ok(Some(part)) = session.read_request_body().await
    {
        body.extend_from_slice(&part);
    }
    body
}

#[async_trait]
impl ServeHttp for Api {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let body = match session.req_header().uri.path() {
            "/purge" => read_body(session).await,
            _ => Vec::new(),
        };
        let request = session.req_header();
        let is_head = request.method == Method::HEAD;
        let (method, uri) = (request.method.clone(), request.uri.clone());
        let answer = self.answer(&method, &uri, &request.headers, &body).await;
        let length = answer.body.len();
        let body = if is_head { String::new() } else { answer.body };
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, answer.kind);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = answer.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_without_a_token() {
        for host in [
            "127.0.0.1:9900",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9900",
            "10.0.0.1",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9900",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
