//! Another service that decides: what it is told of a request, and what its answer means.
//!
//! Who asks it is not here: an exchange takes a connection.

mod compile;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::credentials::{Credentials, Verdict};
use super::identity::{Identity, Likeness, SUBJECT};
use super::refusal::Refusal;

/// The claim that holds the roles.
const ROLES: &str = "roles";
/// What makes a refusal one that a client can do something about.
const OF_REFUSALS: [HeaderName; 5] = [
    header::WWW_AUTHENTICATE,
    header::LOCATION,
    header::SET_COOKIE,
    header::RETRY_AFTER,
    header::CACHE_CONTROL,
];

/// Another service that decides who comes in.
#[derive(Debug)]
pub struct Decider {
    /// Its number among those of the configuration.
    pub number: usize,
    /// What it is asked for.
    pub target: PathAndQuery,
    /// How long its answer may take.
    pub timeout: Duration,
    /// The client's headers that it sees.
    pub seen: Box<[HeaderName]>,
    /// Whether requests come in as nobody that it does not decide about.
    pub is_open_on_failure: bool,
    for_backends: Box<[HeaderName]>,
    for_clients: Box<[HeaderName]>,
    subject: Option<HeaderName>,
    roles: Option<HeaderName>,
    likeness: Likeness,
    is_failing: AtomicBool,
}

/// What its answer means.
#[derive(Debug)]
pub enum Decision {
    /// The request may come in.
    Passed {
        /// Whom it comes from.
        identity: Arc<Identity>,
        /// What the client is told beside the answer.
        told: Vec<(HeaderName, HeaderValue)>,
    },
    /// It may not, and the client gets this answer, with these fields.
    Refused(Vec<(HeaderName, HeaderValue)>),
    /// It is none, for this reason.
    None(&'static str),
}

impl Decider {
    /// The headers of its answer that backends see.
    pub(super) fn forwarded_headers(&self) -> &[HeaderName] {
        &self.for_backends
    }

    /// It is asked, unless it and a backend could take different credentials for the request's.
    pub(super) fn authenticate(self: &Arc<Self>, credentials: Credentials<'_>) -> Verdict {
        let mut lines = credentials
            .headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .skip(1);
        match lines.next() {
            Some(_) => Verdict::Refused(Refusal::SeveralCredentials),
            None => Verdict::Elsewhere(self.clone()),
        }
    }

    /// What its answer means. Only 200 to 299 lets anybody in.
    pub fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Decision {
        if status.is_success() {
            return match self.identity(headers) {
                Ok(identity) => Decision::Passed {
                    identity: Arc::new(identity),
                    told: fields(&self.for_clients, headers),
                },
                Err(reason) => Decision::None(reason),
            };
        }
        // Without a place to go to, or as a word about a copy that somebody has, it says nothing here.
        let is_redirect = matches!(status.as_u16(), 301..=303 | 307 | 308)
            && headers.contains_key(header::LOCATION);
        if !status.is_client_error() && !is_redirect {
            return Decision::None("its answer is no decision");
        }
        let mut told = fields(&OF_REFUSALS, headers);
        if !headers.contains_key(header::CACHE_CONTROL) {
            // What is decided about one request is not to be said to another.
            told.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        }
        let more = self
            .for_clients
            .iter()
            .filter(|name| !OF_REFUSALS.contains(name));
        told.extend(more.flat_map(|name| lines(name, headers)));
        Decision::Refused(told)
    }

    /// Notes whether it decides. `true` if that is news.
    pub fn observe(&self, is_failing: bool) -> bool {
        // Mostly it is not, and a load is cheaper than an exchange.
        self.is_failing.load(Ordering::Relaxed) != is_failing
            && self.is_failing.swap(is_failing, Ordering::Relaxed) != is_failing
    }

    fn identity(&self, headers: &HeaderMap) -> Result<Identity, &'static str> {
        let mut claims: Map<String, Value> = self
            .for_backends
            .iter()
            .filter_map(|name| Some((name.as_str().to_owned(), claim(name, headers)?)))
            .collect();
        if let Some(subject) = &self.subject {
            let mut values = headers.get_all(subject).iter();
            let value = values.next().map(|it| std::str::from_utf8(it.as_bytes()));
            match (value, values.next()) {
                (None, _) | (Some(Ok("")), None) => {}
                (Some(Ok(value)), None) => {
                    claims.insert(SUBJECT.to_owned(), value.into());
                }
                _ => return Err("its answer is about somebody without one name"),
            }
        }
        if let Some(roles) = &self.roles {
            let lines = headers.get_all(roles).iter().map(HeaderValue::as_bytes);
            let words = lines.flat_map(|line| line.split(|byte| *byte == b','));
            let words = words.filter_map(|word| std::str::from_utf8(word.trim_ascii()).ok());
            let words = words.filter(|word| !word.is_empty());
            claims.insert(ROLES.to_owned(), words.collect());
        }
        let forward = fields(&self.for_backends, headers);
        Ok(self.likeness.with_fields(claims, forward))
    }
}

/// All lines of some fields.
fn fields(names: &[HeaderName], headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let fields = names.iter().flat_map(|name| lines(name, headers));
    fields.collect()
}

fn lines<'h>(
    name: &'h HeaderName,
    headers: &'h HeaderMap,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + 'h {
    let values = headers.get_all(name).iter();
    values.map(|value| (name.clone(), value.clone()))
}

/// A field as a claim: its text, or a list of them if it has several lines.
fn claim(name: &HeaderName, headers: &HeaderMap) -> Option<Value> {
    let values = headers.get_all(name).iter();
    let mut texts = values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let first = texts.next()?;
    let rest: Vec<&str> = texts.collect();
    Some(match rest.is_empty() {
        true => first.into(),
        false => std::iter::once(first).chain(rest).collect(),
    })
}

#[cfg(test)]
mod tests;
