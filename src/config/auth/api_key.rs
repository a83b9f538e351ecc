//! API keys as written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::super::mask::names;
use super::super::secret::FileText;
use super::super::shape::{Dictionary, OneOrMany};
use super::super::source::Spanned;
use super::TokenPlace;

/// How API keys are found, and which there are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Where keys are looked for, in this order. Default `header:X-Api-Key`. A request with keys in two
    /// of the places is refused.
    #[serde(default = "from")]
    pub from: OneOrMany<Spanned<TokenPlace>>,
    /// Whose keys there are.
    pub keys: Spanned<ApiKeys>,
    /// The header in which the name of a key is forwarded. Default: none. What clients send in it is
    /// removed.
    pub forward_name: Option<Spanned<String>>,
    /// Whether keys are taken out of what backends see; only keys in headers can be. Default `false`.
    #[serde(default)]
    pub hide_credentials: bool,
}

/// Digests of keys, as `tollgate hash-key` prints them, by the name of who has the key; several while
/// one is replaced by another.
pub type ApiKeyDigests = Dictionary<OneOrMany<Spanned<String>>>;

/// The digests of API keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ApiKeys {
    /// In place.
    #[serde(serialize_with = "names")]
    Here(ApiKeyDigests),
    /// In a YAML file that holds such a map: `{ file: path }`.
    InFile(FileText),
}

fn from() -> OneOrMany<Spanned<TokenPlace>> {
    OneOrMany(vec![TokenPlace::Header("x-api-key".to_owned()).into()])
}

impl<'de> Deserialize<'de> for ApiKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut written = ApiKeyDigests::deserialize(deserializer)?;
        if written.len() == 1
            && let Some(path) = written.get_mut("file")
            && let [path] = &mut path.0[..]
        {
            let path = std::mem::take(&mut path.value);
            let span = written
                .keys()
                .next()
                .map_or_else(Default::default, |it| it.span);
            return Ok(Self::InFile(FileText::in_file(Spanned::new(
                path.into(),
                span,
            ))));
        }
        Ok(Self::Here(written))
    }
}

impl JsonSchema for ApiKeys {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ApiKeys".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let digests = generator.subschema_for::<OneOrMany<String>>();
        json_schema!({ "type": "object", "additionalProperties": digests })
    }
}
