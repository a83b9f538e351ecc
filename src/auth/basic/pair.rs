//! The name and the password in a request (RFC 7617 §2). One way of writing them is accepted, so that two
//! parties never read one request differently.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::super::place::of_scheme;
use super::super::refusal::Refusal;

/// Longest credential, in the letters of its encoding.
const LONGEST_CREDENTIAL: usize = 1024;

/// Longest name and password, with the colon between them, in bytes.
pub(super) const LONGEST_PAIR: usize = LONGEST_CREDENTIAL / 4 * 3;

/// A name and a password, with the colon between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair<'t> {
    text: &'t str,
    colon: usize,
}

impl<'t> Pair<'t> {
    /// The one pair of a request, in `room`.
    pub(super) fn find(
        headers: &HeaderMap,
        room: &'t mut [u8; LONGEST_PAIR],
    ) -> Result<Self, Refusal> {
        let credential = of_scheme("basic", headers)?.ok_or(Refusal::Missing)?;
        if credential.len() > LONGEST_CREDENTIAL {
            return Err(Refusal::TooLong);
        }
        let length = STANDARD.decode_slice(credential, room);
        let bytes = length.ok().and_then(|length| room.get(..length));
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(Self::read)
            .ok_or(Refusal::MalformedCredential)
    }

    /// The name up to the first colon, and the password behind it.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let colon = text.find(':')?;
        (!text.contains(char::is_control)).then_some(Self { text, colon })
    }

    pub(super) fn name(&self) -> &'t str {
        &self.text[..self.colon]
    }

    pub(super) fn password(&self) -> &'t str {
        &self.text[self.colon + 1..]
    }

    /// Both, as they were sent.
    pub(super) fn text(&self) -> &'t str {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use proptest::prelude::*;

    use super::*;

    fn find(values: &[&str]) -> Result<(String, String), Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(header::AUTHORIZATION, value);
        }
        let mut room = [0; LONGEST_PAIR];
        let pair = Pair::find(&headers, &mut room)?;
        Ok((pair.name().to_owned(), pair.password().to_owned()))
    }

    fn encoded(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn a_pair_is_read_up_to_its_first_colon() {
        let pair = |name: &str, password: &str| Ok((name.to_owned(), password.to_owned()));
        // The example of RFC 7617 §2, and that of §2.1.
        assert_eq!(
            find(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]),
            pair("Aladdin", "open sesame")
        );
        assert_eq!(find(&["bAsIc  dGVzdDoxMjPCow=="]), pair("test", "123£"));
        assert_eq!(find(&[&encoded("a:b:c")]), pair("a", "b:c"));
        assert_eq!(find(&[&encoded("a:")]), pair("a", ""));
        assert_eq!(find(&[&encoded(":")]), pair("", ""));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let good = encoded("a:b");
        assert_eq!(find(&[]), Err(Refusal::Missing));
        assert_eq!(find(&["Bearer abc"]), Err(Refusal::Missing));
        assert_eq!(find(&[&good, &good]), Err(Refusal::SeveralCredentials));
        for malformed in [
            "Basic",
            "Basic ",
            "YTpi",
            "Basic YTpi YTpi",
            "Basic YTpi, Basic YTpi",
            // Without padding, with too much of it, with bits that mean nothing, of the other alphabet.
            "Basic YTo",
            "Basic YTpi====",
            "Basic YTo5Pf==",
            "Basic Pz8_Ojo-",
            "Basic \u{e9}",
            &encoded("no colon"),
            &encoded("a\0:b"),
            &encoded("a:b\r\n"),
            &encoded("a:b\u{7f}"),
            &encoded("a:b\u{85}"),
            &format!("Basic {}", STANDARD.encode(b"a:\xe9")),
        ] {
            assert_eq!(
                find(&[malformed]),
                Err(Refusal::MalformedCredential),
                "{malformed}"
            );
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let of = |length: usize| find(&[&encoded(&format!("a:{}", "b".repeat(length - 2)))]);
        assert_eq!(of(LONGEST_PAIR).unwrap().1.len(), LONGEST_PAIR - 2);
        assert_eq!(of(LONGEST_PAIR + 1), Err(Refusal::TooLong));
    }

    proptest! {
        #[test]
        fn what_was_sent_is_what_is_read(name in "[^:\\pC]{0,20}", password in "\\PC{0,40}") {
            let found = find(&[&encoded(&format!("{name}:{password}"))]);
            prop_assert_eq!(found, Ok((name, password)));
        }

        /// One text, one pair: no two credentials are read as the same one.
        #[test]
        fn nothing_but_the_encoding_of_a_pair_is_read_as_it(value in "[A-Za-z0-9+/=_-]{0,24}") {
            if let Ok((name, password)) = find(&[&format!("Basic {value}")]) {
                prop_assert_eq!(encoded(&format!("{name}:{password}")), format!("Basic {value}"));
            }
        }

        #[test]
        fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
                let _ = Pair::find(&headers, &mut [0; LONGEST_PAIR]);
            }
        }
    }
}
