//! Which of the answers to one request is the one for a client that sends these fields (RFC 9111 §4.1).

use std::borrow::Cow;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};
use pingora_cache::VarianceBuilder;
use pingora_cache::key::HashBinary;

/// The fields that an answer varies by, in one order; `None` if by what no field says.
pub(super) fn names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for name in line.as_bytes().split(|byte| *byte == b',') {
            match name.trim_ascii() {
                b"" => {}
                b"*" => return None,
                name => names.push(HeaderName::from_bytes(name).ok()?),
            }
        }
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names)
}

/// What tells an answer from its variants: the values that a request has in the fields that it varies by.
/// `value` is what the backend sees in one.
pub fn variance<'v>(
    response: &HeaderMap,
    value: impl Fn(&HeaderName) -> Option<Cow<'v, [u8]>>,
) -> Option<HashBinary> {
    let names = names(response)?;
    let mut variance = VarianceBuilder::new();
    for name in &names {
        let text = match value(name) {
            // No value holds a line end.
            None => b"\n".to_vec(),
            Some(value) => normalised(name, &value),
        };
        variance.add_owned_name_value(name.as_str().to_owned(), text);
    }
    variance.finalize()
}

/// Without the spaces that mean nothing in a list, nor the case of letters where it means nothing either
/// (RFC 9110 §8.4.1, §8.5.1).
fn normalised(name: &HeaderName, value: &[u8]) -> Vec<u8> {
    let members = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut text = members.collect::<Vec<_>>().join(&b","[..]);
    if [ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        text.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn variance_of(
        vary: &'static str,
        fields: &[(&'static str, &'static str)],
    ) -> Option<HashBinary> {
        let mut response = HeaderMap::new();
        response.insert(VARY, HeaderValue::from_static(vary));
        variance(&response, |name| {
            let (_, value) = fields.iter().find(|(field, _)| *field == name.as_str())?;
            Some(value.as_bytes().into())
        })
    }

    #[test]
    fn answers_are_told_apart_by_the_fields_they_vary_by_and_no_others() {
        let of = |fields: &[_]| variance_of("Accept, X-A", fields);
        let plain = of(&[("accept", "a"), ("x-b", "1")]);
        assert_eq!(plain, of(&[("accept", "a"), ("x-b", "2")]));
        assert_eq!(variance_of("x-a,accept,Accept", &[("accept", "a")]), plain);
        assert_eq!(of(&[("accept", "a,b")]), of(&[("accept", "a , b")]));
        assert_ne!(plain, of(&[("accept", "b")]));
        assert_ne!(plain, of(&[("accept", "a"), ("x-a", "")]));
        assert_ne!(plain, of(&[("x-a", "a")]));
    }

    #[test]
    fn letters_of_languages_and_codings_are_of_any_case_and_no_others() {
        let language = |value| variance_of("Accept-Language", &[("accept-language", value)]);
        assert_eq!(language("en-GB, de;Q=0.5"), language("EN-gb,DE;q=0.5"));
        assert_ne!(language("en, de"), language("de, en"));
        let coding = |value| variance_of("Accept-Encoding", &[("accept-encoding", value)]);
        assert_eq!(coding("GZip"), coding("gzip"));
        let other = |value| variance_of("X-A", &[("x-a", value)]);
        assert_ne!(other("a"), other("A"));
    }

    #[test]
    fn nothing_says_which_answer_it_is_that_varies_by_everything() {
        let mut response = HeaderMap::new();
        response.insert(VARY, HeaderValue::from_static("Accept, *"));
        assert_eq!(names(&response), None);
    }
}
