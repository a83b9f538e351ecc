//! Countries, and the database that knows which addresses are in them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::Spanned;

/// The database that knows which country an address is in.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
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

#[cfg(test)]
mod tests {
    use super::super::{Source, parse};
    use super::*;

    #[test]
    fn every_pair_of_letters_has_a_number_of_its_own() {
        let letters = b'A'..=b'Z';
        let pairs = letters
            .clone()
            .flat_map(|a| letters.clone().map(move |b| [a, b]));
        let numbers = pairs.map(|pair| Country::from_code(std::str::from_utf8(&pair).unwrap()));
        assert!(numbers.map(|it| it.unwrap().index()).eq(0..676));
        for none in ["", "D", "DEU", "de", "D1", "É"] {
            assert_eq!(Country::from_code(none), None, "{none}");
        }
    }

    #[test]
    fn norway_is_no_boolean() {
        let source = Source::new("t.yaml", "access: { deny_countries: [NO, on] }\n");
        let loaded = parse(source, &|_| None);
        let access = loaded.config.access.unwrap();
        let denied = &access.on().unwrap().deny_countries;
        assert_eq!(denied[0].to_string(), "NO");
        assert_eq!(denied.len(), 1);
        let finding = &loaded.diagnostics.as_slice()[0].message;
        assert_eq!(finding, "`on` is not a country: did you mean `ON`?");
    }
}
