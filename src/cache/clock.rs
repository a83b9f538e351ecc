//! Dates as they stand in header fields.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::AsHeaderName;

/// The date in a field (RFC 9110 §5.6.7), if there is one and it stands there once.
pub(super) fn date(headers: &HeaderMap, name: impl AsHeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}
