//! Header fields of which one line at most may come.

use http::{HeaderMap, HeaderName};

/// The value of a field, without white space around it. `Err` if it comes more than once.
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, ()> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(()),
        (line, None) => Ok(line.map(|line| line.as_bytes().trim_ascii())),
    }
}
