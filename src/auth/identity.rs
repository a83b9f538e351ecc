//! Who a request comes from, ready to be used by every request with the same credential.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use super::consumer::{Consumer, Members};

/// What a credential says, verified.
#[derive(Debug)]
pub struct Identity {
    provider: Arc<str>,
    subject: Option<Box<str>>,
    claims: Map<String, Value>,
    scopes: Box<[Box<str>]>,
    roles: Box<[Box<str>]>,
    consumer: Option<Arc<Consumer>>,
    /// What backends are told of it, as fields; some have several lines.
    pub forward: Box<[(HeaderName, HeaderValue)]>,
    /// The fields of its credential, if backends are not to see them.
    pub hidden: Arc<[HeaderName]>,
}

/// What a provider makes identities of.
#[derive(Debug)]
pub(super) struct Likeness {
    /// The provider's name.
    pub(super) provider: Arc<str>,
    /// The claim that says who it is about.
    pub(super) subject: Box<str>,
    /// Where its roles are.
    pub(super) roles: Box<[Box<str>]>,
    /// Claims and the fields in which they are forwarded.
    pub(super) forwarded: Box<[(Box<str>, HeaderName)]>,
    /// The consumers by their subjects.
    pub(super) members: Members,
    /// The fields in which credentials are that backends are not to see.
    pub(super) hidden: Arc<[HeaderName]>,
}

/// What can't stand in a header field, and `%` itself so that it can be decoded again.
const UNSAFE: &AsciiSet = &CONTROLS.add(b'%');

impl Likeness {
    /// Identities of somebody who is known by a name and nothing else, in a field if it is forwarded.
    /// Their credentials are in `hidden` fields, as far as backends are not to see them.
    pub(super) fn of_names(
        provider: &str,
        field: Option<HeaderName>,
        members: Members,
        hidden: impl IntoIterator<Item = HeaderName>,
    ) -> Self {
        Self {
            provider: provider.into(),
            subject: SUBJECT.into(),
            roles: Box::default(),
            forwarded: field
                .into_iter()
                .map(|name| (SUBJECT.into(), name))
                .collect(),
            members,
            hidden: hidden.into_iter().collect(),
        }
    }

    /// Who is known by a name.
    pub(super) fn named(&self, name: &str) -> Identity {
        let claims = Map::from_iter([(SUBJECT.to_owned(), Value::from(name))]);
        self.with(claims)
    }

    /// Who has these claims.
    pub(super) fn with(&self, claims: Map<String, Value>) -> Identity {
        let forwarded = self
            .forwarded
            .iter()
            .filter_map(|(claim, name)| Some((name.clone(), field(find(&claims, claim)?)?)));
        let forwarded = forwarded.collect();
        self.with_fields(claims, forwarded)
    }

    /// Who has these claims, forwarded in these fields.
    pub(super) fn with_fields(
        &self,
        claims: Map<String, Value>,
        forwarded: Vec<(HeaderName, HeaderValue)>,
    ) -> Identity {
        let subject = find(&claims, &self.subject).and_then(Value::as_str);
        let consumer = subject.and_then(|subject| self.members.find(subject));
        let fields = consumer
            .into_iter()
            .flat_map(|it| it.fields().iter().cloned());
        Identity {
            provider: self.provider.clone(),
            subject: subject.map(Box::from),
            scopes: words(&claims, ["scope", "scp"].into_iter()),
            roles: words(&claims, self.roles.iter().map(|way| &**way)),
            consumer: consumer.cloned(),
            forward: fields.chain(forwarded).collect(),
            hidden: self.hidden.clone(),
            claims,
        }
    }
}

/// The claim of those that are known by a name.
pub(super) const SUBJECT: &str = "sub";

impl Identity {
    /// Who vouches for it.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What its provider calls it.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The consumer that it is.
    pub fn consumer(&self) -> Option<&Arc<Consumer>> {
        self.consumer.as_ref()
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

    /// Whether it has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| **held == *role)
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

/// The words in some claims, each one text (RFC 8693 §4.2) or a list.
fn words<'w>(claims: &Map<String, Value>, ways: impl Iterator<Item = &'w str>) -> Box<[Box<str>]> {
    let mut words = Vec::new();
    for claim in ways {
        match find(claims, claim) {
            Some(Value::String(text)) => words.extend(text.split(' ').map(Box::from)),
            Some(Value::Array(list)) => {
                words.extend(list.iter().filter_map(Value::as_str).map(Box::from));
            }
            _ => {}
        }
    }
    words.into()
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
        let forwarded = forwarded
            .iter()
            .map(|(claim, name)| (Box::from(*claim), HeaderName::from_static(name)))
            .collect();
        let likeness = Likeness {
            provider: "main".into(),
            subject: "sub".into(),
            roles: Box::new(["roles".into(), "realm.roles".into()]),
            forwarded,
            members: Members::default(),
            hidden: Arc::default(),
        };
        likeness.with(claims)
    }

    #[test]
    fn scopes_are_read_from_both_claims_in_both_forms() {
        let token = identity(json!({"scope": "a b:c", "scp": ["d", 5]}), &[]);
        assert!(token.has_scope("a") && token.has_scope("b:c") && token.has_scope("d"));
        assert!(!token.has_scope("b") && !token.has_scope("5"));
    }

    #[test]
    fn roles_are_read_from_where_the_provider_says_they_are() {
        let token = identity(json!({"roles": ["a"], "realm": {"roles": ["b", 5]}}), &[]);
        assert!(token.has_role("a") && token.has_role("b"));
        assert!(!token.has_role("5") && !token.has_scope("a"));
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
