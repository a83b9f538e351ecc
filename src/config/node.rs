//! What a YAML text is made of: values that know their place.

use super::source::Span;

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A scalar's text and how it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Not quoted, so that it may be a number, a boolean or nothing.
    pub(super) is_plain: bool,
    /// Part of it comes from the environment and may be secret.
    pub(super) is_interpolated: bool,
}

/// What a plain scalar is by the core schema (YAML 1.2.2 §10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Resolved<'a> {
    Nothing,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub(super) fn resolve(&self) -> Resolved<'_> {
        let text = self.text.as_str();
        if !self.is_plain {
            return Resolved::Text(text);
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Resolved::Nothing,
            "true" | "True" | "TRUE" => return Resolved::Bool(true),
            "false" | "False" | "FALSE" => return Resolved::Bool(false),
            ".inf" | ".Inf" | ".INF" | "+.inf" => return Resolved::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
            _ => {}
        }
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if let Some(hex) = text.strip_prefix("0x")
            && let Ok(number) = u64::from_str_radix(hex, 16)
        {
            return Resolved::Unsigned(number);
        }
        if let Some(octal) = text.strip_prefix("0o")
            && let Ok(number) = u64::from_str_radix(octal, 8)
        {
            return Resolved::Unsigned(number);
        }
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            if let Ok(number) = text.strip_prefix('+').unwrap_or(text).parse() {
                return Resolved::Unsigned(number);
            }
            if let Ok(number) = text.parse() {
                return Resolved::Signed(number);
            }
        }
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.bytes().any(|byte| byte.is_ascii_digit())
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
        match text.parse() {
            Ok(number) if is_number => Resolved::Float(number),
            _ => Resolved::Text(text),
        }
    }
}

impl Node {
    pub(super) fn nothing(span: Span) -> Self {
        Self::scalar(span, String::new())
    }

    pub(super) fn scalar(span: Span, text: String) -> Self {
        Self {
            span,
            value: Value::Scalar(Scalar {
                text,
                is_plain: true,
                is_interpolated: false,
            }),
        }
    }

    pub(super) fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| key.count() + value.count())
                .sum(),
        }
    }
}
