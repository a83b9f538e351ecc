//! Where a request's token is. Anything ambiguous is refused: two parties must not read one request
//! differently.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;

use super::refusal::Refusal;
use crate::config::TokenPlace;

/// A place that is looked at.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Bearer,
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
}

impl Place {
    pub(super) fn new(place: &TokenPlace) -> Option<Self> {
        Some(match place {
            TokenPlace::Bearer => Self::Bearer,
            TokenPlace::Header(name) => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            TokenPlace::Cookie(name) => Self::Cookie(name.as_str().into()),
            TokenPlace::Query(name) => Self::Query(name.as_str().into()),
        })
    }

    /// The header that holds the token and nothing else, if there is one.
    pub(super) fn header(&self) -> Option<HeaderName> {
        match self {
            Self::Bearer => Some(header::AUTHORIZATION),
            Self::Header(name) => Some(name.clone()),
            Self::Cookie(_) | Self::Query(_) => None,
        }
    }

    fn find<'r>(
        &self,
        headers: &'r HeaderMap,
        query: Option<&'r str>,
    ) -> Result<Option<&'r str>, Refusal> {
        match self {
            Self::Bearer => of_scheme("bearer", headers),
            Self::Header(name) => match only(headers.get_all(name).iter())? {
                Some(value) => token(text(value)?.trim()),
                None => Ok(None),
            },
            Self::Cookie(name) => cookie(headers, name),
            Self::Query(name) => {
                let values = query
                    .into_iter()
                    .flat_map(|query| query.split('&'))
                    .filter_map(|pair| {
                        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                        let is_named = percent_decode_str(key).eq(name.bytes());
                        is_named.then_some(value)
                    });
                match only(values)? {
                    Some(value) => token(value),
                    None => Ok(None),
                }
            }
        }
    }
}

/// The one token of a request.
pub(super) fn find_token<'r>(
    places: &[Place],
    headers: &'r HeaderMap,
    query: Option<&'r str>,
) -> Result<&'r str, Refusal> {
    let mut found = None;
    for place in places {
        if let Some(token) = place.find(headers, query)? {
            if found.is_some() {
                return Err(Refusal::SeveralCredentials);
            }
            found = Some(token);
        }
    }
    found.ok_or(Refusal::Missing)
}

/// The token of a scheme in `Authorization`: `Bearer …` (RFC 6750 §2.1), `Basic …` (RFC 7617 §2). Another
/// scheme is no token.
pub(super) fn of_scheme<'r>(
    scheme: &str,
    headers: &'r HeaderMap,
) -> Result<Option<&'r str>, Refusal> {
    let Some(value) = only(headers.get_all(header::AUTHORIZATION).iter())? else {
        return Ok(None);
    };
    let value = text(value)?.trim();
    let (named, credential) = value.split_once(' ').unwrap_or((value, ""));
    if named.eq_ignore_ascii_case(scheme) {
        return token(credential.trim_start());
    }
    // A list of credentials, or a token without its scheme, is nobody's guess.
    if named.contains(',') || credential.is_empty() {
        return Err(Refusal::MalformedCredential);
    }
    Ok(None)
}

fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<&'r str>, Refusal> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        let Ok(line) = line.to_str() else { continue };
        for pair in line.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else {
                continue;
            };
            if key == name {
                if found.is_some() {
                    return Err(Refusal::SeveralCredentials);
                }
                found = Some(value);
            }
        }
    }
    found.map_or(Ok(None), token)
}

/// A value as text. [`token`] is strict about what it holds.
fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::MalformedCredential)
}

/// The bytes of a token: `token68` of RFC 9110 §11.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(character, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        byte += 1;
    }
    table
};

/// Whether a text can be a token.
pub(super) fn is_token(text: &str) -> bool {
    // Without a way out in the middle, the loop is several times as fast.
    let is_sound = text
        .bytes()
        .fold(true, |is_sound, byte| is_sound & TOKEN[usize::from(byte)]);
    is_sound && !text.is_empty()
}

fn token(text: &str) -> Result<Option<&str>, Refusal> {
    match is_token(text) {
        true => Ok(Some(text)),
        false => Err(Refusal::MalformedCredential),
    }
}

/// The only one, if there is one.
pub(super) fn only<T>(mut values: impl Iterator<Item = T>) -> Result<Option<T>, Refusal> {
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::SeveralCredentials);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find<'r>(headers: &'r HeaderMap, query: Option<&'r str>) -> Result<&'r str, Refusal> {
        let places = [
            Place::Bearer,
            Place::Header(HeaderName::from_static("x-token")),
            Place::Cookie("session".into()),
            Place::Query("access_token".into()),
        ];
        find_token(&places, headers, query)
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                *name,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_token_is_found_in_each_place() {
        for fields in [
            [("authorization", "Bearer a.b.c")],
            [("authorization", "bEARER   a.b.c ")],
            [("x-token", "a.b.c")],
            [("cookie", "x=1; session=a.b.c; y=2")],
        ] {
            assert_eq!(find(&headers(&fields), None), Ok("a.b.c"), "{fields:?}");
        }
        assert_eq!(
            find(&headers(&[]), Some("q=1&access%5Ftoken=a.b.c")),
            Ok("a.b.c")
        );
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(Fields<'_>, Option<&str>, Refusal); 14] = [
            (&[], None, Refusal::Missing),
            (&[("authorization", "Basic dTpw")], None, Refusal::Missing),
            (
                &[("authorization", "Bearer")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "Bearer ")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "a.b.c")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "Bearer a, Bearer b")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "Bearer a b")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "Bearer a\u{e9}")],
                None,
                Refusal::MalformedCredential,
            ),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
                None,
                Refusal::SeveralCredentials,
            ),
            (
                &[("authorization", "Bearer a"), ("x-token", "a")],
                None,
                Refusal::SeveralCredentials,
            ),
            (
                &[("x-token", "a")],
                Some("access_token=a"),
                Refusal::SeveralCredentials,
            ),
            (
                &[],
                Some("access_token=a&access_token=b"),
                Refusal::SeveralCredentials,
            ),
            (&[], Some("access_token="), Refusal::MalformedCredential),
            (
                &[("cookie", "session=a"), ("cookie", "session=b")],
                None,
                Refusal::SeveralCredentials,
            ),
        ];
        for (fields, query, refusal) in cases {
            assert_eq!(
                find(&headers(fields), query),
                Err(refusal),
                "{fields:?} {query:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_credential_panics(value in "[ -~\u{80}-\u{ff}]{0,40}", query in ".{0,40}") {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                let mut headers = HeaderMap::new();
                headers.insert("authorization", value.clone());
                headers.insert("cookie", value.clone());
                headers.insert("x-token", value);
                let _ = find(&headers, Some(&query));
            }
        }
    }
}
