//! Nodes to the types of the language, through serde, with every error and not only the first.
//!
//! Serde stops at an error. So the entry that is wrong is reported, taken out of the tree, and the
//! rest is read again, until what is left can be read. What that loses is remembered, so that its
//! absence is not reported as another error.

mod error;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

use self::error::{Error, Fault};
use super::diagnostic::Diagnostics;
use super::node::{Node, Resolved, Scalar, Value};
use super::shape::{ONE_OR_MANY, TOGGLE};
use super::source::{SPANNED, Span};

/// Errors reported in one run; a file with more is not a configuration.
const MOST_ERRORS: usize = 100;

/// Reads `T` from a tree. Entries that can't be read are reported and left out.
pub(super) fn read<T: de::DeserializeOwned + Default>(
    mut root: Node,
    diagnostics: &mut Diagnostics,
) -> T {
    let mut lost: Vec<(Span, String)> = Vec::new();
    for _ in 0..MOST_ERRORS {
        let error = match T::deserialize(Reader::new(&root)) {
            Ok(value) => return value,
            Err(error) => error,
        };
        let span = error.span.unwrap_or(root.span);
        let is_consequence = match &error.fault {
            Fault::MissingField(field) => lost
                .iter()
                .any(|(map, key)| Some(*map) == error.map && key == field),
            _ => false,
        };
        if !is_consequence {
            error.report(span, diagnostics);
        }
        match take_out(&mut root, &error.path) {
            Some((map, key)) => {
                diagnostics.lose(map, &key);
                lost.push((map, key));
            }
            None => return T::default(),
        }
    }
    diagnostics
        .error(root.span, format!("more than {MOST_ERRORS} errors"))
        .help("the rest of the file was not looked at");
    T::default()
}

/// Removes the entry at the end of a path; says which key of which map it was.
fn take_out(node: &mut Node, path: &[usize]) -> Option<(Span, String)> {
    let (index, rest) = path.split_last()?;
    let span = node.span;
    match &mut node.value {
        Value::Scalar(_) => None,
        Value::List(items) if rest.is_empty() => (*index < items.len())
            .then(|| items.remove(*index))
            .map(|_| (span, String::new())),
        Value::Map(entries) if rest.is_empty() => {
            let (key, _) = (*index < entries.len()).then(|| entries.remove(*index))?;
            Some((span, key_text(&key).to_owned()))
        }
        Value::List(items) => take_out(items.get_mut(*index)?, rest),
        Value::Map(entries) => take_out(&mut entries.get_mut(*index)?.1, rest),
    }
}

fn key_text(key: &Node) -> &str {
    match &key.value {
        Value::Scalar(scalar) => &scalar.text,
        _ => "",
    }
}

/// A node on its way to a type.
#[derive(Clone, Copy)]
struct Reader<'n> {
    node: &'n Node,
}

impl<'n> Reader<'n> {
    fn new(node: &'n Node) -> Self {
        Self { node }
    }

    fn scalar(self) -> Option<&'n Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn is_nothing(self) -> bool {
        self.scalar()
            .is_some_and(|scalar| scalar.resolve() == Resolved::Nothing)
    }

    fn is_off(self) -> bool {
        self.scalar().is_some_and(|scalar| {
            scalar.is_plain && scalar.text == "off" || scalar.resolve() == Resolved::Bool(false)
        })
    }

    fn entries<'de, V: Visitor<'de>>(
        self,
        entries: &'n [(Node, Node)],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { entries, next: 0 })
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Nothing => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Unsigned(value) => visitor.visit_u64(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text(text) => visitor.visit_str(text),
            },
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) => self.entries(entries, visitor),
        }
        .map_err(|error: Error| error.at(self.node))
    }

    /// A text may look like a number: versions, account numbers and the like.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scalar() {
            Some(scalar) if !self.is_nothing() => visitor
                .visit_str(&scalar.text)
                .map_err(|error: Error| error.at(self.node)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nothing() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nothing() {
            // `server:` with nothing below it is an empty section.
            return self
                .entries(&[], visitor)
                .map_err(|error| error.at(self.node));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == SPANNED {
            return visitor.visit_map(Placed {
                node: self.node,
                step: 0,
            });
        }
        // A list would be taken for the fields in their order.
        if matches!(self.node.value, Value::List(_)) {
            let error: Error = de::Error::invalid_type(Unexpected::Seq, &"a map of keys");
            return Err(error.at(self.node));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match (name, &self.node.value) {
            (TOGGLE, _) if self.is_off() => visitor.visit_unit(),
            (ONE_OR_MANY, Value::List(items)) => visitor.visit_seq(Items { items, next: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
        .map_err(|error: Error| error.at(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match self.scalar() {
            Some(scalar) => {
                let text: StringDeserializer<Error> = scalar.text.clone().into_deserializer();
                visitor.visit_enum(text)
            }
            None => Err(de::Error::invalid_type(
                match self.node.value {
                    Value::List(_) => Unexpected::Seq,
                    _ => Unexpected::Map,
                },
                &"one word",
            )),
        };
        result.map_err(|error| error.at(self.node))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct ignored_any
    }
}

struct Items<'n> {
    items: &'n [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Reader::new(item))
            .map(Some)
            .map_err(|error| error.at(item).inside(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'n> {
    entries: &'n [(Node, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, _)) = self.entries.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(Reader::new(key))
            .map(Some)
            .map_err(|error| error.at(key).inside(self.next - 1))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (_, value) = &self.entries[self.next - 1];
        seed.deserialize(Reader::new(value))
            .map_err(|error| error.at(value).inside(self.next - 1))
    }
}

/// A node's place and value, as [`super::Spanned`] asks for them.
struct Placed<'n> {
    node: &'n Node,
    step: usize,
}

impl<'de> MapAccess<'de> for Placed<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(field) = super::source::SPANNED_FIELDS.get(self.step) else {
            return Ok(None);
        };
        seed.deserialize(de::value::BorrowedStrDeserializer::new(field))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(self.node.span.start.into_deserializer()),
            2 => seed.deserialize(self.node.span.end.into_deserializer()),
            _ => seed.deserialize(Reader::new(self.node)),
        }
    }
}
