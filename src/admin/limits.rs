//! Rate limits and their keys: `GET /limits` shows them, `DELETE /limits` has a key begin anew.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::query::{pairs, unknown};
use crate::limits::{LimitReport, Store, TopKey};
use crate::snapshot::Snapshot;

/// Top keys of a limit that are shown unless another number is asked for.
const TOP_KEYS: usize = 10;

/// What `/limits` shows.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LimitsReport {
    /// Keys that can be counted exactly at a time, at least.
    pub room: usize,
    /// Requests so far whose key found no room and was counted by estimate.
    pub estimated: u64,
    /// The limits.
    pub limits: Vec<LimitReport>,
}

/// What is asked.
#[derive(Debug, Default)]
struct Question<'q> {
    limit: Option<Cow<'q, str>>,
    /// The parts of a key.
    key: Vec<Cow<'q, str>>,
    top: usize,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{0}")]
    Wrong(String),
    #[error("no limit is called `{0}`; `GET /limits` lists them")]
    Unknown(String),
    #[error("this is no key of {0}")]
    NoKey(String),
}

/// Shows what the query of `GET /limits` asks for, or resets what that of `DELETE /limits` names.
pub(super) async fn answer(
    snapshot: &Arc<Snapshot>,
    store: &Arc<Store>,
    query: &str,
    is_reset: bool,
) -> Answer {
    let report = match Question::read(query) {
        Ok(question) if is_reset && question.limit.is_none() => {
            let text = "name the limit: `DELETE /limits?limit=NAME&key=KEY`";
            Err(Unanswered::Wrong(text.to_owned()))
        }
        Ok(question) => find(snapshot, store, &question, is_reset).await,
        Err(wrong) => Err(wrong),
    };
    match report {
        Ok(report) => Answer::json(StatusCode::OK, &report),
        Err(unknown @ Unanswered::Unknown(_)) => {
            Answer::text(StatusCode::NOT_FOUND, &unknown.to_string())
        }
        Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, &wrong.to_string()),
    }
}

async fn find(
    snapshot: &Arc<Snapshot>,
    store: &Arc<Store>,
    question: &Question<'_>,
    is_reset: bool,
) -> Result<LimitsReport, Unanswered> {
    let counting = store.clone();
    let counted = tokio::task::spawn_blocking(move || counting.keys_by_class()).await;
    let counted = counted.unwrap_or_default();
    let mut shown = LimitsReport {
        room: store.keys(),
        estimated: store.overflowed(),
        limits: Vec::new(),
    };
    let mut reasons = Vec::new();
    for limits in snapshot.rate_limits() {
        for (number, mut report) in limits.reports(&counted) {
            if question
                .limit
                .as_deref()
                .is_some_and(|it| it != report.limit)
            {
                continue;
            }
            if question.key.is_empty() && !is_reset {
                let top_keys = limits.top_keys(number, question.top, Instant::now());
                report.top_keys = named(top_keys, &report.by, snapshot);
                shown.limits.push(report);
                continue;
            }
            let texts: Vec<&str> = question.key.iter().map(|text| &**text).collect();
            let key = match is_reset {
                true => limits.reset(number, &texts, &**snapshot).await,
                false => limits.spent(number, &texts, &**snapshot).await,
            };
            match key {
                Ok(key) => {
                    report.key = Some(key);
                    shown.limits.push(report);
                }
                Err(reason) => reasons.push(format!("`{}`: {reason}", report.limit)),
            }
        }
    }
    match (shown.limits.is_empty(), &question.limit) {
        (true, _) if !reasons.is_empty() => Err(Unanswered::NoKey(reasons.join("; "))),
        (true, Some(limit)) => Err(Unanswered::Unknown(limit.to_string())),
        _ => Ok(shown),
    }
}

/// Top keys with the names of routes in place of their numbers.
fn named(mut keys: Vec<TopKey>, by: &[String], snapshot: &Snapshot) -> Vec<TopKey> {
    let parts = by.iter().filter(|part| *part != "everyone");
    let Some(place) = parts.into_iter().position(|part| part == "route") else {
        return keys;
    };
    for key in &mut keys {
        if let Some(Some(text)) = key.key.get_mut(place)
            && let Some(name) = snapshot.route_name(text)
        {
            *text = name.to_owned();
        }
    }
    keys
}

impl<'q> Question<'q> {
    fn read(query: &'q str) -> Result<Self, Unanswered> {
        let mut question = Self {
            top: TOP_KEYS,
            ..Self::default()
        };
        for (name, value) in pairs(query).map_err(Unanswered::Wrong)? {
            match name {
                "limit" => question.limit = Some(value),
                "key" => question.key.push(value),
                "top" => {
                    question.top = value.parse().map_err(|_| {
                        Unanswered::Wrong(format!("`top={value}` is no number of keys"))
                    })?;
                }
                _ => {
                    let text = unknown(name, &["limit", "key", "top"]);
                    return Err(Unanswered::Wrong(text));
                }
            }
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_they_are_meant() {
        let question =
            Question::read("limit=%2Forders&key=2001%3Adb8%3A%3A1&key=a,b&key=").unwrap();
        assert_eq!(question.limit.as_deref(), Some("/orders"));
        assert_eq!(question.key, ["2001:db8::1", "a,b", ""]);
        assert_eq!(question.top, TOP_KEYS);
        assert_eq!(Question::read("top=3").unwrap().top, 3);
        assert!(Question::read("").unwrap().key.is_empty());
        for wrong in ["keys=a", "top=many", "key=%ff"] {
            assert!(Question::read(wrong).is_err(), "{wrong}");
        }
    }
}
