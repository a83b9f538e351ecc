//! What of a request always leads to the same place: for consistent hashing and sticky splits.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header;
use pingora::http::RequestHeader;

use super::context::Context;
use crate::upstream::HashKey;

/// The bytes of `key` in this request; `None` if it has none.
pub(super) fn of<'r>(
    key: &HashKey,
    request: &'r RequestHeader,
    context: &'r Context,
) -> Option<Cow<'r, [u8]>> {
    Some(match key {
        HashKey::ClientIp => match context.client().to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec().into(),
            IpAddr::V6(address) => address.octets().to_vec().into(),
        },
        HashKey::Path => context.path(&request.uri).as_bytes().into(),
        HashKey::Header(name) => request.headers.get(name)?.as_bytes().into(),
        HashKey::Cookie(name) => request
            .headers
            .get_all(header::COOKIE)
            .iter()
            .find_map(|line| cookie(line.as_bytes(), name.as_bytes()))?
            .into(),
    })
}

/// The value of the first cookie of this name.
fn cookie<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name)?;
        rest.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let line = b"xsid=1; sid2=2;sid=3; sid=4";
        assert_eq!(cookie(line, b"sid"), Some(&b"3"[..]));
        assert_eq!(cookie(line, b"si"), None);
        assert_eq!(cookie(b"sid", b"sid"), None);
        assert_eq!(cookie(b"sid=", b"sid"), Some(&b""[..]));
    }
}
