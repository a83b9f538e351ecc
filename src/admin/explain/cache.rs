//! Whether an answer would be looked for among those that are kept, and under which key.

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;
use crate::cache::{CachePolicy, Heuristic, Question, RequestDirectives, location};
use crate::snapshot::{CacheDisk, Route};

/// Whether an answer is looked for among those that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Why none is looked for; not there if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<String>,
    /// The host and target that it is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What else tells answers apart.
    pub apart_by: Vec<String>,
    /// How long it is fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<String>,
    /// The folder that keeps it beside the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// Says it of a request for a path, if the route keeps answers.
pub(super) fn find(
    route: &Route,
    asked: &Asked,
    path: &str,
    disk: Option<&CacheDisk>,
) -> Option<Kept> {
    let policy = route.policies.cache.as_ref()?;
    route.forward()?;
    let headers = &asked.headers;
    let bypass = policy.bypass(Question {
        method: &asked.method,
        headers,
        has_body: false,
        is_from_trusted_proxy: false,
        directives: RequestDirectives::of(headers),
    });
    if let Some(why) = bypass {
        return Some(Kept {
            bypass: Some(why.to_string()),
            location: None,
            apart_by: Vec::new(),
            fresh: None,
            disk: None,
        });
    }
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let query = policy.query.select(asked.url.query());
    Some(Kept {
        bypass: None,
        location: Some(location(host, path, query.as_deref())),
        apart_by: parts(policy, headers),
        fresh: Some(fresh(policy)),
        disk: disk.map(|disk| disk.path.display().to_string()),
    })
}

fn fresh(policy: &CachePolicy) -> String {
    match (policy.ttl(), policy.heuristic) {
        (Some(ttl), _) => format!("for {ttl:?}, unless the backend forbids to keep it"),
        (None, Some(Heuristic { share, most })) => format!(
            "as long as the backend says; if it says nothing, {share} of the time since Last-Modified, {most} at most"
        ),
        (None, None) => "as long as the backend says".to_owned(),
    }
}

fn parts(policy: &CachePolicy, headers: &HeaderMap) -> Vec<String> {
    let mut parts: Vec<String> = policy.vary.iter().map(|name| name.to_string()).collect();
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    match (&policy.cookies, policy.select_cookies(lines)) {
        (Some(names), _) if names.is_empty() => {}
        (Some(names), _) => parts.push(format!("the cookies {}", names.join(" "))),
        (None, Some(_)) => parts.push("all cookies".to_owned()),
        (None, None) => {}
    }
    let claims = policy.claims.iter();
    parts.extend(claims.map(|claim| format!("the claim {claim}")));
    if !policy.is_shared {
        parts.push("who asks".to_owned());
    }
    parts.push("the backend's Vary".to_owned());
    parts
}
