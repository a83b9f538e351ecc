//! Countries, and the database that knows which addresses are in them.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::source::Spanned;

/// The database that knows which country an address is in.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoIp {
    /// A file in the MaxMind DB format whose records have a `country.iso_code`, such as
    /// GeoLite2-Country. It is read into memory, and again when it has changed.
    pub database: Spanned<String>,
}

/// A country, by its two letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of two capital letters.
    pub fn from_code(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }

    /// Its number among all pairs of letters, below 676.
    pub fn index(self) -> usize {
        let [first, second] = self.0.map(|letter| usize::from(letter - b'A'));
        first * 26 + second
    }

    /// Reads what an operator wrote.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::from_code(text).ok_or_else(|| {
            let upper = text.to_uppercase();
            match Self::from_code(&upper) {
                Some(_) => format!("`{text}` is not a country: did you mean `{upper}`?"),
                None => format!(
                    "`{text}` is not a country: expected the two letters of ISO 3166-1, such as `DE`"
                ),
            }
        })
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
