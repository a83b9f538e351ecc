//! Where a value was written: files, byte ranges in them, and values that remember their range.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// The text of one configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as the operator gave it.
    pub path: PathBuf,
    /// The whole text, as read.
    pub text: Arc<str>,
}

impl Source {
    /// A source made of a text that was read from `path`.
    pub fn new(path: impl AsRef<Path>, text: impl Into<Arc<str>>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            text: text.into(),
        }
    }

    /// Line and column, both counted from 1, of a byte offset. The column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// `file:line:column` of the start of a span, as editors and terminals link it.
    pub fn locate(&self, span: Span) -> String {
        let (line, column) = self.position(span.start);
        format!("{}:{line}:{column}", self.path.display())
    }
}

/// Finds places in a [`Source`] without reading all that stands before each.
#[derive(Debug)]
pub struct LineIndex<'s> {
    source: &'s Source,
    /// Where lines begin.
    lines: Vec<usize>,
}

impl<'s> LineIndex<'s> {
    /// Reads the text once.
    pub fn of(source: &'s Source) -> Self {
        let ends = source.text.match_indices('\n').map(|(end, _)| end + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { source, lines }
    }

    /// The same as [`Source::locate`].
    pub fn locate(&self, span: Span) -> String {
        let number = self.lines.partition_point(|begin| *begin <= span.start);
        let begin = self.lines[number - 1];
        let before = self.source.text.get(begin..span.start).unwrap_or_default();
        let column = before.chars().count() + 1;
        format!("{}:{number}:{column}", self.source.path.display())
    }
}

/// A byte range of a [`Source`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The range `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// This range, or the other one for a value that has none of its own (a short form, a default).
    pub const fn or(self, other: Self) -> Self {
        if self.end == 0 { other } else { self }
    }
}

/// A value and where it was written. Equality, order and hash are the value's alone, so that
/// moving a section in the file does not count as changing it.
#[derive(Clone, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands in the file; empty for defaults.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value written at `span`.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Applies a function to the value and keeps the place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(f(self.value), self.span)
    }
}

impl<T> From<T> for Spanned<T> {
    /// A value that was not written but defaulted.
    fn from(value: T) -> Self {
        Self::new(value, Span::default())
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: Hash> Hash for Spanned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl Borrow<str> for Spanned<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// The struct name by which [`Spanned`] asks our deserializer for a value with its range.
pub(super) const SPANNED: &str = "$tollgate::Spanned";
/// The fields of that struct, in the order in which the deserializer yields them.
pub(super) const SPANNED_FIELDS: &[&str] = &["start", "end", "value"];

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpannedVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
            type Value = Spanned<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place in the file")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spanned<T>, A::Error> {
                let (Some((_, start)), Some((_, end))) = (
                    map.next_entry::<&str, usize>()?,
                    map.next_entry::<&str, usize>()?,
                ) else {
                    return Err(de::Error::custom("a value without a place in the file"));
                };
                let Some((_, value)) = map.next_entry::<&str, T>()? else {
                    return Err(de::Error::missing_field("value"));
                };
                Ok(Spanned::new(value, Span::new(start, end)))
            }
        }
        deserializer.deserialize_struct(
            SPANNED,
            SPANNED_FIELDS,
            SpannedVisitor(std::marker::PhantomData),
        )
    }
}

/// Written without its place, which is nothing that an operator wrote.
impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_alike_in_both_ways() {
        let source = Source::new("t.yaml", "a: ü\n\n  bö: 1\nc");
        let index = LineIndex::of(&source);
        for start in (0..=source.text.len()).filter(|it| source.text.is_char_boundary(*it)) {
            let span = Span::new(start, start);
            assert_eq!(index.locate(span), source.locate(span));
        }
    }
}
