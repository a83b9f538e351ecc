//! Structured fields (RFC 9651) in which nothing comes twice. The standard has the last of several count,
//! but not everybody goes by it, and two parties must not read one request differently.

use http::HeaderMap;
use http::header::AsHeaderName;
use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, Dictionary, FieldType, KeyRef, ListEntry, Parser};

use super::super::refusal::Refusal;

/// Longest field that is read, all lines together.
const LONGEST_FIELD: usize = 8192;
/// Most members of a dictionary, and most parameters of a member.
const MOST_KEYS: usize = 32;

/// The dictionary in a field; `None` if the request has no such field.
pub(super) fn dictionary(
    headers: &HeaderMap,
    name: impl AsHeaderName,
) -> Result<Option<Dictionary>, Refusal> {
    let mut joined: Vec<u8> = Vec::new();
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    for line in lines {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line.as_bytes());
        if joined.len() > LONGEST_FIELD {
            return Err(Refusal::TooLong);
        }
    }
    let is_distinct = Parser::new(&joined).parse_dictionary_with_visitor(Distinct::default());
    is_distinct.map_err(|_| Refusal::MalformedCredential)?;
    match Parser::new(&joined).parse::<Dictionary>() {
        Ok(dictionary) => Ok(Some(dictionary)),
        Err(_) => Err(Refusal::MalformedCredential),
    }
}

/// A member as it is written by itself: without its key, and in the one way of writing it.
pub(super) fn serialize(member: ListEntry) -> Option<String> {
    vec![member].serialize()
}

/// Keeps the keys of one scope, and refuses one that comes again.
#[derive(Debug, Default)]
struct Distinct<'de>(Vec<&'de KeyRef>);

#[derive(Debug, thiserror::Error)]
#[error("a key comes twice, or there are too many")]
struct Repeated;

impl<'de> Distinct<'de> {
    fn add(&mut self, key: &'de KeyRef) -> Result<(), Repeated> {
        if self.0.len() == MOST_KEYS || self.0.contains(&key) {
            return Err(Repeated);
        }
        self.0.push(key);
        Ok(())
    }
}

impl<'de> DictionaryVisitor<'de> for Distinct<'de> {
    type Out = ();
    type Error = Repeated;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Repeated> {
        self.add(key)?;
        Ok(Distinct::default())
    }

    fn finish(self) -> Result<(), Repeated> {
        Ok(())
    }
}

impl<'de> EntryVisitor<'de> for Distinct<'de> {
    type Error = Repeated;

    fn item(self) -> Result<impl ItemVisitor<'de>, Repeated> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Repeated> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for Distinct<'de> {
    type Error = Repeated;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Repeated> {
        Ok(Distinct::default())
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Repeated> {
        Ok(self)
    }
}

impl<'de> ItemVisitor<'de> for Distinct<'de> {
    type Out = ();
    type Error = Repeated;

    fn bare_item(
        self,
        _value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Repeated> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for Distinct<'de> {
    type Out = ();
    type Error = Repeated;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        _value: BareItemFromInput<'de>,
    ) -> Result<(), Repeated> {
        self.add(key)
    }

    fn finish(self) -> Result<(), Repeated> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Dictionary>, Refusal> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-field", HeaderValue::from_str(line).unwrap());
        }
        dictionary(&headers, "x-field")
    }

    #[test]
    fn lines_are_one_dictionary() {
        assert_eq!(read(&[]), Ok(None));
        let one = read(&["a=1, b=(\"x\" \"y\";z);c=2"]).unwrap().unwrap();
        let two = read(&["a=1", "b=(  \"x\"  \"y\";z);c=2"]).unwrap().unwrap();
        assert_eq!(one, two);
        assert_eq!(
            serialize(one["b"].clone()).as_deref(),
            Some("(\"x\" \"y\";z);c=2")
        );
    }

    #[test]
    fn what_comes_twice_is_refused_at_every_depth() {
        for lines in [
            &["a=1, a=2"][..],
            &["a=1", "a=1"],
            &["a=1;x;x"],
            &["a=(\"b\");x=1;x=2"],
            &["a=(\"b\";x;x)"],
        ] {
            assert_eq!(read(lines), Err(Refusal::MalformedCredential), "{lines:?}");
        }
        // In scopes of their own.
        assert!(read(&["a=(\"b\";a \"b\";a);a, b;a"]).is_ok());
    }

    #[test]
    fn what_is_no_dictionary_or_too_long_is_refused() {
        for line in ["a=", "a=(", "a=\"", "A=1", "a=1,", "a=1 b=2", "a=:x", "ü=1"] {
            assert_eq!(read(&[line]), Err(Refusal::MalformedCredential), "{line}");
        }
        let long = format!("a=\"{}\"", "x".repeat(LONGEST_FIELD));
        assert_eq!(read(&[&long]), Err(Refusal::TooLong));
        let many: Vec<String> = (0..=MOST_KEYS).map(|it| format!("a{it}")).collect();
        assert_eq!(read(&[&many.join(", ")]), Err(Refusal::MalformedCredential));
        assert!(read(&[&many[1..].join(", ")]).is_ok());
    }
}
