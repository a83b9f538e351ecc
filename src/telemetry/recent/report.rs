//! A request that was kept, as operators see it.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kept::Kept;

/// A request that failed, was turned away, or was slow. The names are those of the access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecentRequest {
    /// When it came (RFC 3339).
    pub time: String,
    /// Its id, which its client was told, too.
    pub id: String,
    /// Its trace, if requests are traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The client's address, as much of it as the access log tells.
    pub client: Option<String>,
    /// The method.
    pub method: String,
    /// The host that it asked for.
    pub host: Option<String>,
    /// The path, without the query.
    pub path: String,
    /// The route that took it.
    pub route: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The backend of the last attempt.
    pub endpoint: Option<String>,
    /// The status that its client was told; 0 if it was told nothing.
    pub status: u16,
    /// Why it went the way it did: the words of the access log.
    pub flags: Vec<String>,
    /// Attempts at backends.
    pub attempts: u32,
    /// From its arrival to its end, in microseconds; until the answer where the connection was handed over to
    /// another protocol.
    pub total_us: u64,
    /// From its arrival until the first backend was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_us: Option<u64>,
    /// Until the connection to the backend was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_us: Option<u64>,
    /// Until the header of the answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
}

impl RecentRequest {
    pub(super) fn of(kept: &Kept) -> Self {
        let texts = kept.texts();
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let trace = kept.trace.map(|trace| trace.digits());
        Self {
            time: Timestamp::try_from(kept.time).map_or_else(
                |_| "?".to_owned(),
                |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            ),
            id: texts.id.to_owned(),
            trace_id: trace.map(|digits| String::from_utf8_lossy(&digits).into_owned()),
            client: kept.client.map(|client| client.to_string()),
            method: texts.method.to_owned(),
            host: known(texts.host),
            path: texts.path.to_owned(),
            route: known(texts.route),
            service: known(texts.service),
            endpoint: known(texts.endpoint),
            status: kept.status,
            flags: kept.flags.words().map(str::to_owned).collect(),
            attempts: kept.attempts,
            total_us: micros(kept.moment.took),
            pipeline_us: kept.pipeline.map(micros),
            connected_us: kept.connected.map(micros),
            first_byte_us: kept.first_byte.map(micros),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
