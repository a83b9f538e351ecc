//! Names and passwords as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::secret::FileText;
use super::super::shape::Toggle;
use super::super::source::Spanned;
use super::super::units::Period;

/// Names and passwords that clients send with each request (RFC 7617), and who has which.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// A text, or a file, of lines `name:hash`, as `htpasswd -B -C 12` and `tollgate hash-key --password`
    /// write them: bcrypt or Argon2. Empty lines and lines that begin with `#` say nothing.
    pub users: Spanned<FileText>,
    /// What browsers show when they ask for the password. Default `tollgate`.
    #[serde(default = "realm")]
    pub realm: Spanned<String>,
    /// The header in which the name is forwarded. Default: none. What clients send in it is removed.
    pub forward_name: Option<Spanned<String>>,
    /// How long a verified password is remembered, so that it is not hashed again; at most `1d`. `off`
    /// hashes each time. Default `5m`.
    #[serde(default = "five_minutes")]
    pub cache: Spanned<Toggle<Period>>,
    /// Whether name and password are taken out of what backends see. Default `false`.
    #[serde(default)]
    pub hide_credentials: bool,
}

fn realm() -> Spanned<String> {
    "tollgate".to_owned().into()
}

fn five_minutes() -> Spanned<Toggle<Period>> {
    Toggle::On(Period::seconds(300)).into()
}
