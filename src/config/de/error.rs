//! What is wrong with a node, in an operator's words.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::super::diagnostic::{Diagnostic, Diagnostics, nearest};
use super::super::node::{Node, Value};
use super::super::source::Span;

#[derive(Debug)]
pub(super) enum Fault {
    UnknownField(String, &'static [&'static str]),
    UnknownVariant(String, &'static [&'static str]),
    MissingField(String),
    Unfit { found: String, expected: String },
    Other(String),
}

/// What is wrong, and the way from the root to the entry that is wrong, innermost step first.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) fault: Fault,
    pub(super) span: Option<Span>,
    /// The map that a field is missing in.
    pub(super) map: Option<Span>,
    pub(super) path: Vec<usize>,
}

impl Error {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            span: None,
            map: None,
            path: Vec::new(),
        }
    }

    pub(super) fn at(mut self, node: &Node) -> Self {
        if let (Value::Scalar(scalar), None) = (&node.value, self.span)
            && scalar.is_interpolated
        {
            self.fault.withhold(&scalar.text);
        }
        if matches!(self.fault, Fault::MissingField(_)) {
            self.map.get_or_insert(node.span);
        }
        self.span.get_or_insert(node.span);
        self
    }

    pub(super) fn inside(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }

    pub(super) fn report(&self, span: Span, diagnostics: &mut Diagnostics) {
        match &self.fault {
            Fault::UnknownField(name, known) => {
                let finding = diagnostics.error(span, format!("unknown key `{name}`"));
                suggest(finding, name, known, "keys");
            }
            Fault::UnknownVariant(name, known) => {
                let finding = diagnostics.error(span, format!("unknown value `{name}`"));
                suggest(finding, name, known, "values");
            }
            Fault::MissingField(name) => {
                diagnostics
                    .error(span, format!("`{name}` is missing"))
                    .help(format!("add `{name}: …` here"));
            }
            Fault::Unfit { found, expected } => {
                diagnostics.error(span, format!("expected {expected}, found {found}"));
            }
            Fault::Other(message) => {
                diagnostics.error(span, message.clone());
            }
        }
    }
}

impl Fault {
    /// Takes a text that may be secret out of what will be shown.
    fn withhold(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self {
            Self::UnknownVariant(shown, _)
            | Self::Unfit { found: shown, .. }
            | Self::Other(shown) => {
                *shown = shown.replace(text, "${…}");
            }
            Self::UnknownField(..) | Self::MissingField(_) => {}
        }
    }
}

fn suggest(finding: &mut Diagnostic, word: &str, known: &[&str], noun: &str) {
    if let Some(near) = nearest(word, known.iter().copied()) {
        finding.label(format!("did you mean `{near}`?"));
    }
    let list = known
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ");
    finding.help(format!("valid {noun}: {list}"));
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self::new(Fault::Other(message.to_string()))
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Fault::Unfit {
            found: describe_found(found),
            expected: describe_expected(&expected.to_string()),
        })
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownField(field.to_owned(), expected))
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownVariant(variant.to_owned(), expected))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(Fault::MissingField(field.to_owned()))
    }
}

fn describe_found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) if text.chars().count() > 40 => "a text".into(),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        Unexpected::Unit => "nothing".into(),
        other => other.to_string(),
    }
}

/// Serde's words for what was expected, in an operator's.
fn describe_expected(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "usize" => "a whole number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" => "a text".into(),
        "a sequence" => "a list".into(),
        other if other.starts_with("struct ") => "a map of keys".into(),
        other => other.into(),
    }
}
