//! One JSON object a line (RFC 8259).

use std::fmt::Display;

use serde::Serializer;

use super::super::field::{Field, Line, Value};
use super::super::privacy::{Lossy, Privacy};
use super::time::{write_time, write_time_combined};
use super::{write_number, write_ratio};
use crate::telemetry::flags::Flags;
use crate::telemetry::json::write_text;

/// The fields of the object.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Json {
    /// Each with what stands before its value.
    fields: Box<[(Field, Box<str>)]>,
}

impl Json {
    pub(super) fn compile(privacy: &Privacy) -> Self {
        let fields = Field::ALL.into_iter().filter(|(field, _)| {
            !field.is_of_templates() && (*field != Field::Query || privacy.has_query)
        });
        let fields = fields.enumerate().map(|(index, (field, name))| {
            let before = if index == 0 { '{' } else { ',' };
            (field, format!("{before}\"{name}\":").into())
        });
        Self {
            fields: fields.collect(),
        }
    }

    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        for (field, name) in &self.fields {
            match line.value(*field) {
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
        if !line.privacy.headers.is_empty() {
            write_headers(line, out);
        }
        out.push(b'}');
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
