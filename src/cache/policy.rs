//! Which answers a place in the configuration keeps, compiled.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::directives::ResponseDirectives;
use super::heuristic::Heuristic;
use crate::config::{
    self, ByteSize, Diagnostics, Period, RequestDirectives, SetCookie, Span, Spanned, Toggle,
};

/// Statuses that `ttl` is for unless others are named.
const WITH_TTL: [u16; 5] = [200, 203, 300, 301, 308];
/// Statuses that `negative_ttl` is for.
const WITH_NEGATIVE_TTL: [u16; 5] = [404, 405, 410, 414, 501];

/// Which answers are kept, and how.
#[derive(Debug)]
pub struct CachePolicy {
    ttl: Option<Duration>,
    statuses: Box<[u16]>,
    negative_ttl: Option<Duration>,
    /// How lifetimes are guessed.
    pub heuristic: Option<Heuristic>,
    stale_while_revalidate: Option<u32>,
    stale_if_error: Option<u32>,
    /// The largest body that is kept.
    pub max_object_size: u64,
    /// Request headers by which answers are kept apart.
    pub vary: Box<[HeaderName]>,
    /// What is asked for of the query.
    pub query: Query,
    /// The names of the only cookies that backends see.
    pub cookies: Option<Box<[Box<str>]>>,
    /// Claims by which answers are kept apart.
    pub claims: Box<[Box<str>]>,
    /// Whether everybody gets the same answers.
    pub is_shared: bool,
    /// Whether answers are kept without their cookies.
    pub withholds_cookies: bool,
    /// Whether clients may ask for fresh answers.
    pub obeys_requests: bool,
    /// How long others are waited for.
    pub wait: Option<Duration>,
    /// The place where it is written, and what is written there: answers are not kept from one
    /// policy to another.
    pub identity: u64,
}

/// Which parameters of a query stand in the key, and in which order.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    pub(super) only: Option<Box<[Box<str>]>>,
    pub(super) except: Box<[Box<str>]>,
    pub(super) is_sorted: bool,
}

/// Where a policy stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// What tells it from other places.
    pub identity: &'p str,
    /// Whether it is known there who comes.
    pub has_identity: bool,
    /// Bytes that all kept answers may have together.
    pub memory: ByteSize,
}

impl CachePolicy {
    /// Compiles a policy, and reports everything that is wrong with it.
    pub fn compile(
        section: &config::Cache,
        place: Place<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        check_times(section, diagnostics);
        let max_object_size = object_size(&section.max_object_size, place.memory, diagnostics);
        let key = &section.key;
        if let (Some(only), [first, ..]) = (&key.query, &key.query_except[..]) {
            diagnostics
                .error(first.span, "`query` and `query_except` exclude each other")
                .related(only.span, "`query` is here")
                .help("`query` names the only parameters that count, `query_except` those that do not");
        }
        let vary = section
            .vary
            .iter()
            .filter_map(|name| field(name, diagnostics));
        let vary = vary.collect();
        let cookies = key.cookies.as_ref().map(|names| {
            names
                .iter()
                .filter(|name| cookie(name, diagnostics))
                .map(text)
                .collect()
        });
        if let [claim, ..] = &key.claims[..]
            && !place.has_identity
        {
            diagnostics
                .error(
                    claim.span,
                    "nobody proves who they are here, so there are no claims",
                )
                .help("add `auth`, or take `claims` away");
        }
        let seconds = |period: &Option<Spanned<Period>>| {
            let period = period.as_ref()?;
            Some(u32::try_from(period.value.0.as_secs()).unwrap_or(u32::MAX))
        };
        Self {
            ttl: section.ttl.as_ref().map(|ttl| ttl.value.0),
            statuses: match &section.statuses {
                Some(statuses) => statuses.iter().map(|status| status.value).collect(),
                None => WITH_TTL.into(),
            },
            negative_ttl: section.negative_ttl.as_ref().map(|ttl| ttl.value.0),
            heuristic: Heuristic::compile(section, diagnostics),
            stale_while_revalidate: seconds(&section.stale_while_revalidate),
            stale_if_error: seconds(&section.stale_if_error),
            max_object_size,
            vary,
            query: Query {
                only: key
                    .query
                    .as_ref()
                    .map(|names| names.iter().map(text).collect()),
                except: key.query_except.iter().map(text).collect(),
                is_sorted: key.sort_query,
            },
            cookies,
            claims: key.claims.iter().map(text).collect(),
            is_shared: section.shared,
            withholds_cookies: section.set_cookie == SetCookie::Withhold,
            obeys_requests: section.request_directives == RequestDirectives::Obey,
            wait: section.wait.on().map(|wait| wait.0),
            identity: identity(place.identity, section),
        }
    }

    /// How long answers are fresh, if that is not the backend's to say.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// How long an answer with this status is fresh, if that is not the backend's to say.
    pub(super) fn lifetime(&self, status: StatusCode) -> Option<Duration> {
        let status = status.as_u16();
        if self.statuses.contains(&status) && self.ttl.is_some() {
            return self.ttl;
        }
        self.negative_ttl
            .filter(|_| WITH_NEGATIVE_TTL.contains(&status))
    }

    /// Whether lifetimes are the operator's to say.
    pub(super) fn has_lifetimes(&self) -> bool {
        self.ttl.is_some() || self.negative_ttl.is_some()
    }

    /// For how many seconds an answer may be given that is stale: while a fresh one is fetched, and when
    /// that fails; the latter for ever where clients get it as a fallback and nothing else is written. A backend's
    /// word that it may never be holds in any case (RFC 9111 §4.2.4).
    pub(super) fn stale(&self, directives: &ResponseDirectives, is_fallback: bool) -> (u32, u32) {
        if directives.never_stale || directives.no_cache == super::directives::Extent::Everything {
            return (0, 0);
        }
        let said = (directives.stale_while_revalidate, directives.stale_if_error);
        let as_fallback = is_fallback.then_some(u32::MAX);
        let if_error = self.stale_if_error.or(as_fallback).or(said.1);
        (
            self.stale_while_revalidate.or(said.0).unwrap_or(0),
            if_error.unwrap_or(0),
        )
    }
}

fn text(name: &Spanned<String>) -> Box<str> {
    name.as_str().into()
}

/// What is different after an edit of the section, and nowhere else the same.
fn identity(place: &str, section: &config::Cache) -> u64 {
    let text = format!("{place}\n{section:?}");
    let digest = openssl::sha::sha256(text.as_bytes());
    let (front, _) = digest.split_at(8);
    front
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn check_times(section: &config::Cache, diagnostics: &mut Diagnostics) {
    for (name, period) in [
        ("ttl", &section.ttl),
        ("negative_ttl", &section.negative_ttl),
    ] {
        if let Some(period) = period
            && period.value.0.is_zero()
        {
            diagnostics
                .error(
                    period.span,
                    format!("`{name}` of {} keeps nothing", period.value),
                )
                .help("write `cache: off` to keep nothing, or leave it out to do as backends say");
        }
    }
    if let Some(statuses) = &section.statuses {
        if section.ttl.is_none() {
            diagnostics
                .error(
                    statuses.span,
                    "`statuses` are those that `ttl` is for, and there is none",
                )
                .help("add `ttl: 30s`, or leave `statuses` out to do as backends say");
        }
        for status in &statuses.value {
            let is_final = (200..600).contains(&status.value);
            if !is_final || [206, 304, 416].contains(&status.value) {
                diagnostics
                    .error(
                        status.span,
                        format!("an answer with {status} is none to keep"),
                    )
                    .help("statuses from 200 to 599 but 206, 304 and 416");
            }
        }
    }
    if let Toggle::On(wait) = &section.wait.value
        && wait.0.is_zero()
    {
        diagnostics
            .error(section.wait.span, "`wait` is zero")
            .help("`wait: off` lets every request fetch for itself");
    }
}

/// Bytes of the largest body that is kept: what is written, or the default if there is room for it.
fn object_size(size: &Spanned<ByteSize>, memory: ByteSize, diagnostics: &mut Diagnostics) -> u64 {
    let most = memory.0 / 4;
    if size.span == Span::default() {
        return size.value.0.min(most);
    }
    if size.value.0 == 0 {
        diagnostics
            .error(
                size.span,
                "`max_object_size` is zero, so nothing would be kept",
            )
            .help("write `cache: off`");
    } else if size.value.0 > most {
        diagnostics
            .error(
                size.span,
                format!(
                    "an answer of {} would take more than a quarter of the {memory} for all",
                    size.value
                ),
            )
            .help("a smaller `max_object_size`, or a larger `server.cache.memory`");
    }
    size.value.0
}

fn field(name: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<HeaderName> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|_| name.as_str() != "*");
    if parsed.is_none() {
        diagnostics
            .error(name.span, format!("`{name}` is not a header name"))
            .help("names are letters, digits and `-`, such as `Accept`");
    }
    parsed
}

fn cookie(name: &Spanned<String>, diagnostics: &mut Diagnostics) -> bool {
    let is_sound = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !is_sound {
        diagnostics
            .error(name.span, format!("`{name}` is not the name of a cookie"))
            .help("names are letters, digits and some of `!#$%&'*+-.^_`|~`");
    }
    is_sound
}
