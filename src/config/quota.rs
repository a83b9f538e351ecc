//! How much a limit allows, in which time, and what a request costs, as written.

use std::fmt;

use super::diagnostic::nearest;
use super::units::{ByteSize, Period};

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitAmount {
    /// Requests, or units of what they cost.
    Units(u64),
    /// Bytes of answers.
    Bytes(ByteSize),
}

/// The time that a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitWindow {
    /// So long, from whenever on.
    Length(Period),
    /// A day of the calendar.
    Day,
    /// A month of the calendar.
    Month,
}

/// What a request costs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitCost {
    /// So many units.
    Fixed(u64),
    /// The bytes of the answer's body.
    ResponseBytes,
    /// The number in this header of the answer (lower-case name).
    ResponseHeader(String),
}

impl LimitAmount {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(units) = text.parse() {
            return Ok(Self::Units(units));
        }
        match text.starts_with(|first: char| first.is_ascii_digit()) {
            true => ByteSize::parse(text).map(Self::Bytes),
            false => Err(format!(
                "`{text}` is not a limit: expected a whole number such as 100, or a size such as `10MiB`"
            )),
        }
    }
}

impl LimitWindow {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "day" => return Ok(Self::Day),
            "month" => return Ok(Self::Month),
            _ => {}
        }
        if text.contains(|any: char| any.is_ascii_digit()) {
            return Period::parse(text).map(Self::Length);
        }
        let hint = nearest(text, ["day", "month"]).map_or_else(
            || "expected a duration such as `1m`, or `day` or `month`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        Err(format!("`{text}` is not a window: {hint}"))
    }
}

impl fmt::Display for LimitAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Units(units) => units.fmt(f),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

impl fmt::Display for LimitWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(period) => period.fmt(f),
            Self::Day => f.write_str("day"),
            Self::Month => f.write_str("month"),
        }
    }
}

impl Default for LimitCost {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

impl From<u64> for LimitAmount {
    fn from(units: u64) -> Self {
        Self::Units(units)
    }
}
