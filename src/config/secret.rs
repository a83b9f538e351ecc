//! Texts that come from outside the file: secrets and key material.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::mask::Masked;
use super::shape::{FromMap, text_or_map};
use super::source::Spanned;

/// A text written in place (usually as `${NAME}`) or read from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileText {
    /// The file to read, if it is not written in place.
    pub file: Option<Spanned<PathBuf>>,
    /// The text; empty until [`FileText::read`] for one that is in a file.
    text: String,
}

/// A [`FileText`] that never shows itself: not in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub FileText);

/// The long form: `{ file: path }`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InFile {
    file: Spanned<PathBuf>,
}

impl FileText {
    /// A text written in place.
    pub fn literal(text: impl Into<String>) -> Self {
        Self {
            file: None,
            text: text.into(),
        }
    }

    /// A text in a file.
    pub(super) fn in_file(file: Spanned<PathBuf>) -> Self {
        Self {
            file: Some(file),
            text: String::new(),
        }
    }

    /// Reads the file, if it is in one; a relative path starts from `base`.
    ///
    /// # Errors
    /// The reason of the operating system.
    pub fn read(&mut self, base: &Path) -> std::io::Result<()> {
        if let Some(file) = &self.file {
            self.text = std::fs::read_to_string(base.join(&file.value))?;
        }
        Ok(())
    }

    /// The text, as written or read.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Secret {
    /// A secret written in place.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(FileText::literal(text))
    }

    /// The secret, without the line end that editors leave in files.
    pub fn expose(&self) -> &str {
        match self.0.file {
            Some(_) => self.0.text.trim_end_matches(['\r', '\n']),
            None => &self.0.text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for FileText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{{ file: {} }}", file.display()),
            None => self.text.fmt(f),
        }
    }
}

impl From<InFile> for FileText {
    fn from(long: InFile) -> Self {
        Self::in_file(long.file)
    }
}

impl From<InFile> for Secret {
    fn from(long: InFile) -> Self {
        Self(long.into())
    }
}

impl FromMap<'_> for FileText {
    type Fields = InFile;
}

impl FromMap<'_> for Secret {
    type Fields = InFile;
}

impl<'de> Deserialize<'de> for FileText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "a text or `{ file: path }`", |text| {
            Ok(Self::literal(text))
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "`${NAME}` or `{ file: path }`", |text| {
            Ok(Self::literal(text))
        })
    }
}

/// Where it stands may be shown; the text may not, since there are private keys and hashes of passwords among them.
impl Serialize for FileText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.file.clone() {
            Some(file) => InFile { file }.serialize(serializer),
            None => Masked.serialize(serializer),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

fn text_or_file(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "file": { "type": "string" } },
                "required": ["file"],
                "additionalProperties": false
            }
        ]
    })
}

impl JsonSchema for FileText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextOrFile".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_file(generator)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_file(generator)
    }
}
