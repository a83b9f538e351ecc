//! What a request must have beyond its path, and what is read out of the path.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode;

use super::pattern::MOST_PARAMETERS;

/// What routing sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The host as sent, with or without a port.
    pub host: Option<&'a str>,
    /// The canonical path.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// What a request must have beyond its host and path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// Empty for any. `GET` admits `HEAD` too, as every server that has the one has the other.
    pub methods: Box<[Method]>,
    /// Fields that must be there with exactly this value.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// Parameters whose first occurrence must have exactly this value.
    pub query: Box<[(Box<str>, Box<str>)]>,
}

/// The places of path parameters in the canonical path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parameters {
    ranges: [(u32, u32); MOST_PARAMETERS],
    count: u8,
}

impl Parameters {
    /// The value of the parameter at `index`, percent-encoded as in the path.
    pub fn get<'p>(&self, index: usize, path: &'p str) -> Option<&'p str> {
        let (start, end) = *self.ranges[..usize::from(self.count)].get(index)?;
        path.get(start as usize..end as usize)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn push(&mut self, start: usize, end: usize) {
        // Patterns have at most so many; paths are far shorter than 4 GiB.
        if let Some(slot) = self.ranges.get_mut(usize::from(self.count)) {
            *slot = (start as u32, end as u32);
            self.count += 1;
        }
    }

    pub(super) fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

impl Conditions {
    /// Whether any method will do, or this one is listed.
    pub(super) fn admit_method(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    pub(super) fn admit_headers(&self, headers: &HeaderMap) -> bool {
        self.headers
            .iter()
            .all(|(name, value)| headers.get_all(name).iter().any(|sent| sent == value))
    }

    pub(super) fn admit_query(&self, query: Option<&str>) -> bool {
        self.query.iter().all(|(name, value)| {
            query_value(query, name).is_some_and(|sent| sent == value.as_bytes())
        })
    }
}

/// The decoded value of the first parameter of a name.
pub(super) fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, [u8]>> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name.as_bytes()).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode(spaced.as_bytes()).collect());
    }
    percent_decode(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_of_a_name_counts_decoded() {
        let query = Some("a=1&b%20c=x+y%2B&a=2&flag");
        assert_eq!(query_value(query, "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(query_value(query, "b c").as_deref(), Some(&b"x y+"[..]));
        assert_eq!(query_value(query, "flag").as_deref(), Some(&b""[..]));
        assert_eq!(query_value(query, "d"), None);
        assert_eq!(query_value(None, "a"), None);
    }

    #[test]
    fn get_admits_head() {
        let conditions = Conditions {
            methods: [Method::GET].into(),
            ..Conditions::default()
        };
        assert!(conditions.admit_method(&Method::HEAD));
        assert!(!conditions.admit_method(&Method::POST));
        assert!(Conditions::default().admit_method(&Method::POST));
    }
}
