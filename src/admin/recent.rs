//! Requests that went badly: `GET /errors` shows the last of them, `GET /slow` the slowest.

use std::time::Instant;

use http::StatusCode;

use super::answer::Answer;
use super::query::Query;
use crate::telemetry::{RecentKind, RecentRequest, RecentRequests};

/// Requests that are shown unless another number is asked for.
const SHOWN: usize = 20;

/// The last requests that failed, or were turned away.
pub(super) fn errors(recent: &RecentRequests, query: &str) -> Answer {
    answer(last(recent, query))
}

/// The slowest requests of the last minutes.
pub(super) fn slow(recent: &RecentRequests, query: &str) -> Answer {
    answer(slowest(recent, query))
}

fn last(recent: &RecentRequests, query: &str) -> Result<Vec<RecentRequest>, String> {
    let query = Query::read(query, &["count", "kind"])?;
    let kind = match query.get("kind") {
        None | Some("failure") => RecentKind::Failure,
        Some("refusal") => RecentKind::Refusal,
        Some(other) => return Err(format!("`kind={other}` is none: `failure` or `refusal`")),
    };
    Ok(recent.last(kind, query.count("count", SHOWN)?))
}

fn slowest(recent: &RecentRequests, query: &str) -> Result<Vec<RecentRequest>, String> {
    let query = Query::read(query, &["count"])?;
    Ok(recent.slowest(query.count("count", SHOWN)?, Instant::now()))
}

fn answer(result: Result<Vec<RecentRequest>, String>) -> Answer {
    match result {
        Ok(requests) => Answer::json(StatusCode::OK, &requests),
        Err(wrong) => Answer::text(StatusCode::BAD_REQUEST, &wrong),
    }
}
