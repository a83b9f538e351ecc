//! One JSON object a line (RFC 8259).

use std::fmt::Display;

use serde::Serializer;

use super::super::field::{Field, Line, Value, each_field};
use super::super::privacy::{Lossy, Privacy};
use super::time::{write_time, write_time_combined};
use super::{write_number, write_ratio};
use crate::telemetry::flags::Flags;
use crate::telemetry::json::write_text;

/// Writes objects.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Json {
    has_query: bool,
}

impl Json {
    pub(super) fn compile(privacy: &Privacy) -> Self {
        Self {
            has_query: privacy.has_query,
        }
    }

    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        // Written out field by field, so that for each no more is left to do than it takes.
        macro_rules! write_each {
            ($($field:ident $name:literal,)*) => {
                $(self.write_field(Field::$field, concat!(",\"", $name, "\":"), line, out);)*
            };
        }
        // Every line has a time, which comes first.
        let begin = out.len();
        each_field!(write_each);
        out[begin] = b'{';
        if !line.privacy.headers.is_empty() {
            write_headers(line, out);
        }
        out.push(b'}');
    }

    #[inline(always)]
    fn write_field(&self, field: Field, name: &str, line: &Line<'_>, out: &mut Vec<u8>) {
        if field.is_of_templates() || field == Field::Query && !self.has_query {
            return;
        }
        match line.value(field) {
            Some(value) => {
                out.extend_from_slice(name.as_bytes());
                write_value(value, out);
            }
            None if field.is_always_there() => {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"null");
            }
            None => {}
        }
    }
}

fn write_headers(line: &Line<'_>, out: &mut Vec<u8>) {
    let mut before: &[u8] = b",\"headers\":{";
    for header in &line.privacy.headers {
        if let Some(value) = line.header(header) {
            out.extend_from_slice(before);
            write_text(header.name.as_str(), out);
            out.push(b':');
            write_value(value, out);
            before = b",";
        }
    }
    if before != b"," {
        out.extend_from_slice(before);
    }
    out.push(b'}');
}

#[inline(always)]
fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => write_text(text, out),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => write_text(text, out),
            Err(_) => write_shown(&Lossy(bytes), out),
        },
        Value::Url(url) => write_shown(&url, out),
        Value::Address(address) => write_shown(&address, out),
        Value::Number(number) => write_number(number, out),
        Value::Ratio(millionths) => write_ratio(millionths, out),
        Value::Time(time) => quoted(out, |out| write_time(time, out)),
        Value::TimeCombined(time) => quoted(out, |out| write_time_combined(time, out)),
        Value::Trace(trace) => quoted(out, |out| out.extend_from_slice(&trace.digits())),
        Value::Span(span) => quoted(out, |out| out.extend_from_slice(&span.digits())),
        Value::Flags(flags) => write_flags(flags, out),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn write_flags(flags: Flags, out: &mut Vec<u8>) {
    out.push(b'[');
    if flags != Flags::default() {
        for (index, word) in flags.words().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            quoted(out, |out| out.extend_from_slice(word.as_bytes()));
        }
    }
    out.push(b']');
}

/// What shows itself piece by piece as a JSON string.
pub(super) fn write_shown(shown: &impl Display, out: &mut Vec<u8>) {
    // Writing to a Vec can't fail.
    let _ = serde_json::Serializer::new(out).collect_str(shown);
}
