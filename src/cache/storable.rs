//! Whether an answer may be kept, and on which terms (RFC 9111 §3).

use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;

use super::directives::{Extent, ResponseDirectives};
use super::freshness::{Exchange, lifetime};
use super::policy::CachePolicy;
use super::vary;

/// Fields that are about one answer to one client.
const OF_ONE_ANSWER: [HeaderName; 10] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("proxy-status"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("authentication-info"),
];
/// Statuses whose rules for caches are kept here (RFC 9111 §5.2.2.3).
const UNDERSTOOD: [u16; 22] = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 451, 500, 501,
    502, 503, 504,
];

/// What is known of an exchange beside the answer.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// When the answer was asked for.
    pub asked: SystemTime,
    /// When its header came.
    pub came: SystemTime,
    /// Whether the request showed an `Authorization` field, or others get an answer that was made for
    /// somebody known, so that the answer itself must permit it (RFC 9111 §3.5).
    pub needs_permission: bool,
    /// Whether a stale answer is what clients get when the backend fails, however old; but never one that is
    /// a failure itself.
    pub is_fallback: bool,
}

/// On which terms an answer is kept.
#[derive(Debug)]
pub struct Terms {
    made: SystemTime,
    fresh_until: SystemTime,
    stale: (u32, u32),
    /// The fields that are not kept, and belong to the client whose request fetched the answer.
    pub withheld: Vec<(HeaderName, HeaderValue)>,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its status is none to keep.
    Status,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// Nothing permits to keep what was asked for with a credential.
    Authorization,
    /// It varies by what can't be seen.
    Vary,
    /// It sets a cookie.
    SetCookie,
    /// It ends with its connection, so that nobody can tell whether it is whole.
    Unframed,
    /// It is too large.
    TooLarge,
    /// It does not say how long it is fresh, and that is not guessed.
    NoLifetime,
    /// It was never fresh, and its backend can't be asked whether it has changed.
    NeverFresh,
    /// It is a failure that may not be kept.
    Failure,
    /// It is not the service's own.
    Fallback,
    /// The request asked for that.
    RequestNoStore,
    /// What was kept is not what the backend speaks of.
    Changed,
}

impl Refusal {
    /// Those that say nothing of the next answer.
    pub(super) const PASSING: [&'static str; 5] = [
        "status",
        Self::FAILURE,
        "fallback",
        "request_no_store",
        "changed",
    ];
    /// Who waits for an answer need not wait for each other's failures.
    pub(super) const FAILURE: &'static str = "failure";

    /// What the log says.
    pub fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no_store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::Vary => "vary",
            Self::SetCookie => "set_cookie",
            Self::Unframed => "unframed",
            Self::TooLarge => "too_large",
            Self::NoLifetime => "no_lifetime",
            Self::NeverFresh => "never_fresh",
            Self::Failure => Self::FAILURE,
            Self::Fallback => "fallback",
            Self::RequestNoStore => "request_no_store",
            Self::Changed => "changed",
        }
    }
}

impl Terms {
    /// Decides about an answer.
    ///
    /// # Errors
    /// If it may not be kept.
    pub fn of(
        response: &ResponseHeader,
        policy: &CachePolicy,
        circumstances: Circumstances,
    ) -> Result<Self, Refusal> {
        let headers = &response.headers;
        let directives = ResponseDirectives::of(headers);
        check_status(response.status, &directives)?;
        if directives.private == Extent::Everything {
            return Err(Refusal::Private);
        }
        let is_permitted =
            directives.public || directives.must_revalidate || directives.s_maxage.is_some();
        if circumstances.needs_permission && !is_permitted && !policy.has_lifetimes() {
            return Err(Refusal::Authorization);
        }
        if vary::names(headers).is_none() {
            return Err(Refusal::Vary);
        }
        let mut fields = OF_ONE_ANSWER.to_vec();
        fields.extend_from_slice(directives.private.fields());
        fields.extend_from_slice(directives.no_cache.fields());
        if policy.withholds_cookies {
            fields.push(SET_COOKIE);
        }
        if headers.contains_key(SET_COOKIE) && !fields.contains(&SET_COOKIE) {
            return Err(Refusal::SetCookie);
        }
        check_body(response, policy)?;
        let exchange = Exchange {
            asked: circumstances.asked,
            came: circumstances.came,
        };
        let made = exchange.made(headers);
        let fresh_until = fresh_until(response, policy, &directives, (exchange.came, made))?;
        let stale = policy.stale(
            &directives,
            circumstances.is_fallback && !response.status.is_server_error(),
        );
        if fresh_until <= exchange.came {
            let rest = Duration::from_secs(stale.0.max(stale.1).into());
            // What a backend can be asked about is kept for that (RFC 9111 §5.2.2.4).
            let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
            if fresh_until + rest <= exchange.came && !has_validator {
                return Err(Refusal::NeverFresh);
            }
        }
        let withheld = fields.iter().flat_map(|name| {
            headers
                .get_all(name)
                .iter()
                .map(|value| (name.clone(), value.clone()))
        });
        Ok(Self {
            made,
            fresh_until,
            stale,
            withheld: withheld.collect(),
        })
    }

    /// What is kept of an answer's header.
    pub fn meta(&self, mut header: ResponseHeader, came: SystemTime) -> CacheMeta {
        for (name, _) in &self.withheld {
            header.remove_header(name);
        }
        header.remove_header(&AGE);
        header.remove_header(&TRANSFER_ENCODING);
        if !header.headers.contains_key(DATE) {
            // A date is a field's value, and the name is none that could be wrong.
            let _ = header.insert_header(DATE, httpdate::fmt_http_date(came));
        }
        // The framework takes an answer for fresh at the very end of its time.
        let fresh_until = self.fresh_until - Duration::from_nanos(1);
        let mut meta = CacheMeta::new(fresh_until, came, self.stale.0, self.stale.1, header);
        meta.set_epoch_override(self.made);
        meta
    }
}

fn check_status(status: StatusCode, directives: &ResponseDirectives) -> Result<(), Refusal> {
    let is_understood = UNDERSTOOD.contains(&status.as_u16());
    let is_none_to_keep = [206, 304, 416].contains(&status.as_u16()) || status.is_informational();
    if is_none_to_keep || (directives.must_understand && !is_understood) {
        return Err(Refusal::Status);
    }
    if directives.no_store && !directives.must_understand {
        return Err(Refusal::NoStore);
    }
    Ok(())
}

/// Only what is seen to be whole at its end is kept as a whole (RFC 9111 §3.3).
fn check_body(response: &ResponseHeader, policy: &CachePolicy) -> Result<(), Refusal> {
    let headers = &response.headers;
    let has_none = response.status == StatusCode::NO_CONTENT;
    let length = headers.get(CONTENT_LENGTH);
    let is_framed = length.is_some()
        || headers.contains_key(TRANSFER_ENCODING)
        || response.version == Version::HTTP_2
        || has_none;
    if !is_framed {
        return Err(Refusal::Unframed);
    }
    let length = length.and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
    match length {
        Some(length) if length > policy.max_object_size => Err(Refusal::TooLarge),
        _ => Ok(()),
    }
}

fn fresh_until(
    response: &ResponseHeader,
    policy: &CachePolicy,
    directives: &ResponseDirectives,
    (came, made): (SystemTime, SystemTime),
) -> Result<SystemTime, Refusal> {
    if directives.no_cache == Extent::Everything {
        return Ok(made);
    }
    if let Some(ttl) = policy.lifetime(response.status) {
        return Ok(came + ttl);
    }
    let guess = || policy.heuristic?.lifetime(response, directives, came);
    let lifetime = lifetime(directives, &response.headers, came).or_else(guess);
    Ok(made + lifetime.ok_or(Refusal::NoLifetime)?)
}
