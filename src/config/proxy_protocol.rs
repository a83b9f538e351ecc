//! What load balancers of TCP say about a connection before its first byte: the PROXY protocol.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::root::Network;
use super::shape::OneOrMany;
use super::source::Spanned;
use super::units::Period;

/// Who says where a connection really comes from.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The networks of the load balancers. A connection from there must begin with a header of the PROXY
    /// protocol, version 1 or 2; one from anywhere else must not.
    pub from: OneOrMany<Spanned<Network>>,
    /// From the connection to the end of the header. Default `5s`.
    #[serde(default = "timeout")]
    pub timeout: Spanned<Period>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// Who may open a file, as `chmod` has it: `"0660"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

fn timeout() -> Spanned<Period> {
    Period::seconds(5).into()
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mode;
        impl Visitor<'_> for Mode {
            type Value = FileMode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode in quotes, such as `\"0660\"`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FileMode, E> {
                match u32::from_str_radix(text, 8) {
                    Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) => {
                        Ok(FileMode(mode))
                    }
                    _ => Err(E::custom(format!(
                        "`{text}` is no mode of a file: expected `0600` to `0777`"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Mode)
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl JsonSchema for FileMode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FileMode".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^0?[0-7]{3}$" })
    }
}
