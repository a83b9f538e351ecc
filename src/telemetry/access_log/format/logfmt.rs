//! `name=value` pairs. What is not a plain word stands in quotes, escaped as in JSON, which is how the readers
//! of logfmt read it.

use super::super::field::{Field, Line, Value};
use super::super::privacy::{Lossy, Privacy};
use super::json::write_shown;
use super::time::{write_time, write_time_combined};
use super::{write_number, write_ratio};
use crate::telemetry::json::write_text;

/// The fields of a line.
#[derive(Debug)]
pub(in crate::telemetry::access_log) struct Logfmt {
    /// Each with what stands before its value.
    fields: Box<[(Field, Box<str>)]>,
    /// The same for the headers.
    headers: Box<[Box<str>]>,
}

impl Logfmt {
    pub(super) fn compile(privacy: &Privacy) -> Self {
        let fields = Field::ALL.into_iter().filter(|(field, _)| {
            !field.is_of_templates() && (*field != Field::Query || privacy.has_query)
        });
        let fields = fields.enumerate().map(|(index, (field, name))| {
            let before = if index == 0 { "" } else { " " };
            (field, format!("{before}{name}=").into())
        });
        let headers = privacy.headers.iter();
        Self {
            fields: fields.collect(),
            headers: headers
                .map(|header| format!(" request.headers.{}=", header.name).into())
                .collect(),
        }
    }

    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        for (field, name) in &self.fields {
            write_pair(name, line.value(*field), out);
        }
        for (header, name) in std::iter::zip(&line.privacy.headers, &self.headers) {
            write_pair(name, line.header(header), out);
        }
    }
}

fn write_pair(name: &str, value: Option<Value<'_>>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    let before = out.len();
    out.extend_from_slice(name.as_bytes());
    match value {
        Value::Text(text) => write_word(text, out),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => write_word(text, out),
            Err(_) => write_shown(&Lossy(bytes), out),
        },
        Value::Url(url) => write_shown(&url, out),
        Value::Address(address) => write_shown(&address, out),
        Value::Number(number) => write_number(number, out),
        Value::Ratio(millionths) => write_ratio(millionths, out),
        Value::Time(time) => write_time(time, out),
        Value::TimeCombined(time) => write_time_combined(time, out),
        Value::Trace(trace) => out.extend_from_slice(&trace.digits()),
        Value::Span(span) => out.extend_from_slice(&span.digits()),
        Value::Flags(flags) => {
            let start = out.len();
            for word in flags.words() {
                if out.len() > start {
                    out.push(b',');
                }
                out.extend_from_slice(word.as_bytes());
            }
            if out.len() == start {
                // No flag at all is no pair at all.
                out.truncate(before);
            }
        }
    }
}

/// A text, in quotes if a reader could take it for anything else.
fn write_word(text: &str, out: &mut Vec<u8>) {
    let is_word = text.bytes().fold(!text.is_empty(), |is_word, byte| {
        is_word & byte.is_ascii_graphic() & (byte != b'"') & (byte != b'=') & (byte != b'\\')
    });
    if is_word {
        out.extend_from_slice(text.as_bytes());
    } else {
        write_text(text, out);
    }
}
