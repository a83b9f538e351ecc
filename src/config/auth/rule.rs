//! What a route asks of who comes: by which provider, and with which rights.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::shape::{Dictionary, FromMap, OneOrMany, text_or_map};
use super::super::source::Spanned;

/// Who may come in. A bare string is short for `{ provider: … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct AuthRule(pub AuthRuleFields);

/// Who must vouch for a request, and with which rights.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthRuleFields {
    /// A name under `auth_providers`. Either this or `any_of`.
    pub provider: Option<Spanned<String>>,
    /// Providers one of which must vouch: the first that knows the request's credential decides.
    pub any_of: Option<Spanned<Vec<Spanned<AuthWay>>>>,
    /// Whether requests without any credential may come in too. A bad credential is refused all the
    /// same. Default `false`.
    pub anonymous: bool,
    /// What is asked of whoever was vouched for; else the answer is 403. Default: nothing.
    pub require: Option<Spanned<Requirement>>,
}

/// One of several providers. A bare string is short for `{ provider: … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct AuthWay(pub AuthWayFields);

/// A provider, and what is asked of those it vouches for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthWayFields {
    /// A name under `auth_providers`.
    pub provider: Spanned<String>,
    /// What is asked of those it vouches for, beside the rule's own `require`. Default: nothing.
    pub require: Option<Spanned<Requirement>>,
}

/// What is asked of an identity. All that is written must hold.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requirement {
    /// Scopes (RFC 6749 §3.3) that it must all have, in `scope` or `scp`.
    pub scope: OneOrMany<Spanned<String>>,
    /// Roles of which it must have one; the provider says where roles are.
    pub roles: OneOrMany<Spanned<String>>,
    /// Audiences of which it must name one in `aud`, beyond those that the provider asks for.
    pub audience: OneOrMany<Spanned<String>>,
    /// Consumers of which it must be one.
    pub consumers: OneOrMany<Spanned<String>>,
    /// Groups of which its consumer must be in one.
    pub groups: OneOrMany<Spanned<String>>,
    /// Claims that must be equal to, or hold, one of the values. `{name}` stands for what the path has
    /// there. Nested claims have a way to them: `realm_access.roles`.
    pub claims: Dictionary<OneOrMany<Spanned<String>>>,
    /// Claims that must be there, whatever their value.
    pub present: OneOrMany<Spanned<String>>,
    /// All of these must hold.
    pub all: Vec<Spanned<Requirement>>,
    /// One of these must hold.
    pub any: Vec<Spanned<Requirement>>,
    /// This must not hold.
    pub not: Option<Box<Spanned<Requirement>>>,
}

impl AuthRuleFields {
    /// The providers it names.
    pub fn providers(&self) -> impl Iterator<Item = &Spanned<String>> {
        let several = self.any_of.iter().flat_map(|ways| ways.value.iter());
        let several = several.map(|way| &way.value.0.provider);
        self.provider.iter().chain(several)
    }
}

impl From<AuthRuleFields> for AuthRule {
    fn from(fields: AuthRuleFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for AuthRule {
    type Fields = AuthRuleFields;
}

impl std::ops::Deref for AuthRule {
    type Target = AuthRuleFields;
    fn deref(&self) -> &AuthRuleFields {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AuthRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "a provider's name or a map with `provider` or `any_of`",
            |text| {
                Ok(Self(AuthRuleFields {
                    provider: Some(text.to_owned().into()),
                    ..AuthRuleFields::default()
                }))
            },
        )
    }
}

impl From<AuthWayFields> for AuthWay {
    fn from(fields: AuthWayFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for AuthWay {
    type Fields = AuthWayFields;
}

impl<'de> Deserialize<'de> for AuthWay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "a provider's name or a map with `provider`",
            |text| {
                Ok(Self(AuthWayFields {
                    provider: text.to_owned().into(),
                    require: None,
                }))
            },
        )
    }
}

/// A provider's name, or the long form.
fn text_or<T: JsonSchema>(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let fields = generator.subschema_for::<T>();
    schemars::json_schema!({ "anyOf": [{ "type": "string" }, fields] })
}

impl JsonSchema for AuthRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthRule".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        text_or::<AuthRuleFields>(generator)
    }
}

impl JsonSchema for AuthWay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthWay".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        text_or::<AuthWayFields>(generator)
    }
}
