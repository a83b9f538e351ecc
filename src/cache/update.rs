//! What a 304 says of an answer that is kept (RFC 9111 §3.2 and §4.3.4).

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, TRANSFER_ENCODING, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

use super::vary;

/// What a 304 has no say in: how long the body is that is kept, and its own way here. What is said of the
/// kind of the body is updated, for it is kept as it came (RFC 9111 §3.2).
const NOT_UPDATED: [HeaderName; 5] = [
    CONTENT_LENGTH,
    CONTENT_RANGE,
    TRANSFER_ENCODING,
    CONNECTION,
    AGE,
];

/// What becomes of an answer that is kept.
#[derive(Debug)]
pub enum Update {
    /// It is this one from now on.
    Header(Box<ResponseHeader>),
    /// The backend speaks of another one.
    OfAnother,
}

/// The header of an answer that was kept, after the backend said that it has not changed.
pub fn merge(kept: &ResponseHeader, update: &HeaderMap) -> Update {
    if is_of_another(&kept.headers, update) {
        return Update::OfAnother;
    }
    let mut header = kept.clone();
    for name in update.keys() {
        if NOT_UPDATED.contains(name) {
            continue;
        }
        header.remove_header(name);
        for value in update.get_all(name) {
            // Both came in a header.
            let _ = header.append_header(name.clone(), value.clone());
        }
    }
    // How old it is now, the 304 alone says.
    header.remove_header(&AGE);
    if let Some(age) = update.get(AGE) {
        let _ = header.insert_header(AGE, age.clone());
    }
    Update::Header(header.into())
}

fn is_of_another(kept: &HeaderMap, update: &HeaderMap) -> bool {
    let strong = |tag: &HeaderValue| !tag.as_bytes().starts_with(b"W/");
    let tags = (kept.get(ETAG), update.get(ETAG));
    let is_other_tag = matches!(tags, (Some(kept), Some(new)) if strong(new) && kept != new);
    let is_other_choice = update.contains_key(VARY) && vary::names(kept) != vary::names(update);
    is_other_tag || is_other_choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    fn merged(
        kept: &[(&'static str, &'static str)],
        update: &[(&'static str, &'static str)],
    ) -> Option<HeaderMap> {
        match merge(&header(kept), &header(update).headers) {
            Update::Header(header) => Some(header.headers.clone()),
            Update::OfAnother => None,
        }
    }

    #[test]
    fn each_field_of_a_304_replaces_the_kept_one_but_the_length() {
        let kept = [
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("age", "9"),
        ];
        let update = [
            ("x-a", "3"),
            ("x-c", "1"),
            ("x-c", "2"),
            ("content-length", "0"),
            ("content-type", "text/html"),
        ];
        let merged = merged(&kept, &update).unwrap();
        let all = |name| {
            merged
                .get_all(name)
                .iter()
                .map(|it| it.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("x-a"), ["3"]);
        assert_eq!(all("x-b"), ["1"]);
        assert_eq!(all("x-c"), ["1", "2"]);
        assert_eq!(all("content-length"), ["5"]);
        assert_eq!(all("content-type"), ["text/html"]);
        assert!(all("age").is_empty());
    }

    #[test]
    fn a_304_about_another_answer_updates_nothing() {
        assert!(merged(&[("etag", "\"1\"")], &[("etag", "\"2\"")]).is_none());
        assert!(merged(&[("vary", "Accept")], &[("vary", "Accept, X-A")]).is_none());
        assert!(
            merged(
                &[("etag", "\"1\""), ("vary", "accept")],
                &[("etag", "\"1\""), ("vary", "Accept")]
            )
            .is_some()
        );
        assert!(merged(&[("etag", "W/\"1\"")], &[("etag", "W/\"2\"")]).is_some());
    }
}
