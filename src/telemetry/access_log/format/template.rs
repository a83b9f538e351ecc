//! A text with fields in it, and the format `combined`, which is one.
//!
//! A reader finds the end of a field by the character that follows it in the template: a separator, which no
//! letter, digit or backslash is. That character never stands in the field's value, and neither do quotes,
//! backslashes, or anything that is not visible ASCII: all of it is written `\xHH`, byte by byte.

use std::fmt::{self, Write};

use http::HeaderName;

use super::super::field::{Field, Line, Value};
use super::super::privacy::{Header, Privacy};
use super::time::{write_time, write_time_combined};
use super::{write_number, write_ratio};
use crate::config::{Diagnostics, Piece, Span, nearest, pieces};

/// What stands before the name of a header.
const HEADERS: &str = "request.headers.";
/// What is written where there is nothing.
const NOTHING: u8 = b'-';

/// The parts of a line.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Field(Field, End),
    Header(Header, End),
}

/// The byte that ends a field; that of the line if there is none.
#[derive(Debug, Clone, Copy)]
struct End(u8);

impl Template {
    pub(super) fn compile(
        text: &str,
        span: Span,
        privacy: &Privacy,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let pieces = pieces(text, span, diagnostics)?;
        if text.contains(|c: char| c.is_control() && c != '\t') {
            diagnostics
                .error(span, "a line break or control character in a template")
                .help("one request is one line; `\\t` in double quotes is a tab");
            return None;
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Name(_))) {
            diagnostics
                .error(
                    span,
                    "a template without a field: all lines would be the same",
                )
                .help(format!("fields are: {}", list()));
            return None;
        }
        let mut is_sound = true;
        let mut parts = Vec::new();
        let mut end = End(b'\n');
        for piece in pieces.iter().rev() {
            let part = match piece {
                Piece::Text(text) => Some(Part::Text(text.as_str().into())),
                Piece::Name(name) => part(name, end, privacy)
                    .map_err(|help| {
                        let message = format!("unknown field `{{{name}}}`");
                        diagnostics.error(span, message).help(help);
                    })
                    .ok(),
            };
            if let Piece::Text(text) = piece {
                end = End::at(text);
            }
            is_sound &= part.is_some();
            parts.extend(part);
        }
        parts.reverse();
        is_sound.then(|| Self {
            parts: parts.into(),
        })
    }

    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field, end) => write_value(line.value(*field), *end, out),
                Part::Header(header, end) => write_value(line.header(header), *end, out),
            }
        }
    }
}

/// What a name stands for, or what would be right.
fn part(name: &str, end: End, privacy: &Privacy) -> Result<Part, String> {
    if let Some((field, _)) = Field::ALL.iter().find(|(_, known)| *known == name) {
        return Ok(Part::Field(*field, end));
    }
    if let Some(header) = name.strip_prefix(HEADERS) {
        let header = header.parse::<HeaderName>();
        return match header {
            Ok(header) => Ok(Part::Header(privacy.of(&header), end)),
            Err(_) => Err(
                "names are letters, digits and `-`, such as `{request.headers.user-agent}`"
                    .to_owned(),
            ),
        };
    }
    Err(match nearest(name, Field::ALL.map(|(_, known)| known)) {
        Some(near) => format!("did you mean `{{{near}}}`? fields are: {}", list()),
        None => format!("fields are: {}", list()),
    })
}

fn list() -> String {
    let names = Field::ALL.map(|(_, name)| format!("`{name}`"));
    format!("{}, `{HEADERS}NAME`", names.join(", "))
}

fn write_value(value: Option<Value<'_>>, end: End, out: &mut Vec<u8>) {
    let start = out.len();
    match value {
        None => {}
        Some(Value::Text(text)) => end.escape(text.as_bytes(), out),
        Some(Value::Bytes(bytes)) => end.escape(bytes, out),
        Some(Value::Url(url)) => end.escape_shown(&url, out),
        Some(Value::Address(address)) => end.escape_shown(&address, out),
        Some(Value::Number(number)) => write_number(number, out),
        Some(Value::Ratio(millionths)) => write_ratio(millionths, out),
        Some(Value::Time(time)) => write_time(time, out),
        Some(Value::TimeCombined(time)) => write_time_combined(time, out),
        Some(Value::Trace(trace)) => out.extend_from_slice(&trace.digits()),
        Some(Value::Span(span)) => out.extend_from_slice(&span.digits()),
        Some(Value::Flags(flags)) => {
            for word in flags.words() {
                if out.len() > start {
                    out.push(b',');
                }
                out.extend_from_slice(word.as_bytes());
            }
        }
    }
    if out.len() == start {
        out.push(NOTHING);
    }
}

impl End {
    /// The end of a field before this text.
    fn at(text: &str) -> Self {
        let first = text.bytes().next();
        let separator = first.filter(|byte| !byte.is_ascii_alphanumeric() && *byte != b'\\');
        Self(separator.unwrap_or(b'\n'))
    }

    fn is_plain(self, byte: u8) -> bool {
        (0x20..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\') & (byte != self.0)
    }

    fn escape(self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| !self.is_plain(*byte)) {
            out.extend_from_slice(&rest[..at]);
            let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            let byte = rest[at];
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }

    fn escape_shown(self, shown: &impl fmt::Display, out: &mut Vec<u8>) {
        struct Escaping<'o>(End, &'o mut Vec<u8>);
        impl Write for Escaping<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.escape(text.as_bytes(), self.1);
                Ok(())
            }
        }
        // Writing to a Vec can't fail.
        let _ = write!(Escaping(self, out), "{shown}");
    }
}
