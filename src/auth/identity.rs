//! Who a request comes from, ready to be used by every request with the same credential.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

/// What a credential says, verified.
#[derive(Debug)]
pub struct Identity {
    claims: Map<String, Value>,
    scopes: Box<[Box<str>]>,
    /// Claims to be forwarded, as fields.
    pub forward: Box<[(HeaderName, HeaderValue)]>,
}

/// What can't stand in a header field, and `%` itself so that it can be decoded again.
const UNSAFE: &AsciiSet = &CONTROLS.add(b'%');

impl Identity {
    pub(super) fn new(claims: Map<String, Value>, forwarded: &[(Box<str>, HeaderName)]) -> Self {
        let forward = forwarded
            .iter()
            .filter_map(|(claim, name)| Some((name.clone(), field(find(&claims, claim)?)?)))
            .collect();
        Self {
            scopes: scopes(&claims),
            forward,
            claims,
        }
    }

    /// A claim by its name, or by the way to it: `realm_access.roles`. A claim of the literal name
    /// goes before a way.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        find(&self.claims, name)
    }

    /// A claim as bytes to count by: texts as they are, other values as JSON.
    pub fn claim_bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match self.claim(name)? {
            Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
            other => Some(Cow::Owned(other.to_string().into_bytes())),
        }
    }

    /// Whether it carries a scope (RFC 6749 §3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| **held == *scope)
    }
}

fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut steps = name.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

/// From `scope` (RFC 8693 §4.2) or `scp`, as one text or a list.
fn scopes(claims: &Map<String, Value>) -> Box<[Box<str>]> {
    let mut scopes = Vec::new();
    for claim in ["scope", "scp"] {
        match claims.get(claim) {
            Some(Value::String(text)) => scopes.extend(text.split(' ').map(Box::from)),
            Some(Value::Array(list)) => {
                scopes.extend(list.iter().filter_map(Value::as_str).map(Box::from));
            }
            _ => {}
        }
    }
    scopes.into()
}

/// A claim as a field's value: texts, numbers and booleans as they are, lists of them joined by
/// commas if no member holds one, everything else as JSON. What a field can't hold is
/// percent-encoded.
fn field(value: &Value) -> Option<HeaderValue> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Array(list) => {
            let members: Option<Vec<&str>> = list
                .iter()
                .map(|member| member.as_str().filter(|text| !text.contains(',')))
                .collect();
            match members {
                Some(members) => Cow::Owned(members.join(",")),
                None => Cow::Owned(value.to_string()),
            }
        }
        other => Cow::Owned(other.to_string()),
    };
    let encoded: String = utf8_percent_encode(&text, UNSAFE).collect();
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(claims: Value, forwarded: &[(&str, &'static str)]) -> Identity {
        let Value::Object(claims) = claims else {
            unreachable!("claims are an object")
        };
        let forwarded: Vec<_> = forwarded
            .iter()
            .map(|(claim, name)| (Box::from(*claim), HeaderName::from_static(name)))
            .collect();
        Identity::new(claims, &forwarded)
    }

    #[test]
    fn scopes_are_read_from_both_claims_in_both_forms() {
        let token = identity(json!({"scope": "a b:c", "scp": ["d", 5]}), &[]);
        assert!(token.has_scope("a") && token.has_scope("b:c") && token.has_scope("d"));
        assert!(!token.has_scope("b") && !token.has_scope("5"));
    }

    #[test]
    fn nested_claims_have_a_way_and_literal_names_go_first() {
        let token = identity(json!({"a": {"b": 1}, "c.d": 2, "c": {"d": 3}}), &[]);
        assert_eq!(token.claim("a.b"), Some(&json!(1)));
        assert_eq!(token.claim("c.d"), Some(&json!(2)));
        assert_eq!(token.claim("a.x"), None);
    }

    #[test]
    fn claims_become_fields_that_hold_them() {
        let claims =
            json!({"s": "Ärger\r\nX: 1 100%", "n": 5, "l": ["a", "b"], "m": ["a,b"], "z": null});
        let token = identity(
            claims,
            &[
                ("s", "x-s"),
                ("n", "x-n"),
                ("l", "x-l"),
                ("m", "x-m"),
                ("z", "x-z"),
            ],
        );
        let fields: Vec<_> = token
            .forward
            .iter()
            .map(|(_, value)| value.to_str().unwrap())
            .collect();
        assert_eq!(
            fields,
            ["%C3%84rger%0D%0AX: 1 100%25", "5", "a,b", "[\"a,b\"]"]
        );
    }
}
