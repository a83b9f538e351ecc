//! Shapes that many keys share: `off` or a value, one or many, a map in the order it was written.

use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::source::Spanned;
use super::text::decimal;

/// A map that keeps the order and the place of its keys.
pub type Dictionary<V> = IndexMap<Spanned<String>, V>;

/// What a level of the configuration says of a policy: nothing (`None`: the level outside it
/// decides), `off`, or a value that replaces the outer one whole.
pub type Policy<T> = Option<Spanned<Toggle<T>>>;

/// `off`, or a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Toggle<T> {
    /// Switched off, whatever the levels outside say.
    Off,
    /// In force.
    On(T),
}

impl<T> Toggle<T> {
    /// The value, unless switched off.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> OneOrMany<T> {
    /// The values, in the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> IntoIterator for &'a OneOrMany<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The newtype names by which these shapes ask our deserializer for what serde cannot express:
/// a look at the node before choosing how to read it, without losing the node's place.
pub(super) const TOGGLE: &str = "$tollgate::Toggle";
/// See [`TOGGLE`].
pub(super) const ONE_OR_MANY: &str = "$tollgate::OneOrMany";

struct ToggleVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ToggleVisitor<T> {
    type Value = Toggle<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`off` or a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Toggle::Off)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, node: D) -> Result<Self::Value, D::Error> {
        T::deserialize(node).map(Toggle::On)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Toggle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(TOGGLE, ToggleVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Toggle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(value) => value.serialize(serializer),
        }
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, node: D) -> Result<Self::Value, D::Error> {
        T::deserialize(node).map(|one| OneOrMany(vec![one]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, OneOrManyVisitor(PhantomData))
    }
}

/// Reads a type that may be written short, as one string, or long, as a map of keys.
pub(super) fn text_or_map<'de, D, T>(
    deserializer: D,
    expecting: &'static str,
    from_text: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromMap<'de>,
{
    struct TextOrMap<T> {
        expecting: &'static str,
        from_text: fn(&str) -> Result<T, String>,
    }
    impl<'de, T: FromMap<'de>> Visitor<'de> for TextOrMap<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expecting)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.from_text)(text).map_err(E::custom)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
            (self.from_text)(&decimal(number)).map_err(E::custom)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::Fields::deserialize(MapAccessDeserializer::new(map)).map(T::from)
        }
    }
    deserializer.deserialize_any(TextOrMap {
        expecting,
        from_text,
    })
}

/// A type whose long form is the map `Fields`.
pub(super) trait FromMap<'de>: Sized + From<Self::Fields> {
    /// The keys of the long form.
    type Fields: Deserialize<'de>;
}

impl<T: JsonSchema> JsonSchema for Toggle<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "enum": ["off", false] }, value] })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
