//! The ways in which a line is written. Each escapes what comes from clients, so that nobody can forge a line
//! or a field of one, and none allocates.

mod json;
mod logfmt;
mod template;
mod time;

#[cfg(test)]
mod tests;

use self::json::Json;
use self::logfmt::Logfmt;
use self::template::Template;
pub(super) use self::time::write_time;
use super::field::Line;
use super::privacy::Privacy;
use crate::config::{AccessLogFormat, Diagnostics, Span};

/// Apache's and NGINX's `combined`. The user is the consumer; nobody has asked what the client calls itself
/// (RFC 1413) for decades.
const COMBINED: &str = "{client} - {consumer} [{time_combined}] \"{method} {path} {protocol}\" {status} \
                        {response_bytes} \"{request.headers.referer}\" \"{request.headers.user-agent}\"";

/// A format, ready to write.
#[derive(Debug)]
pub(super) enum Format {
    Json(Json),
    Logfmt(Logfmt),
    Template(Template),
}

impl Format {
    pub(super) fn compile(
        written: &AccessLogFormat,
        privacy: &Privacy,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        Some(match written {
            AccessLogFormat::Json => Self::Json(Json::compile(privacy)),
            AccessLogFormat::Logfmt => Self::Logfmt(Logfmt::compile(privacy)),
            AccessLogFormat::Combined => {
                let path = if privacy.has_query {
                    "{target}"
                } else {
                    "{path}"
                };
                let text = COMBINED.replace("{path}", path);
                Self::Template(Template::compile(
                    &text,
                    Span::default(),
                    privacy,
                    diagnostics,
                )?)
            }
            AccessLogFormat::Template(text) => {
                Self::Template(Template::compile(text, text.span, privacy, diagnostics)?)
            }
        })
    }

    /// Appends a line, its end included.
    pub(super) fn write(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json(json) => json.write(line, out),
            Self::Logfmt(logfmt) => logfmt.write(line, out),
            Self::Template(template) => template.write(line, out),
        }
        out.push(b'\n');
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Millionths as a decimal fraction, `0.01`.
fn write_ratio(millionths: u32, out: &mut Vec<u8>) {
    write_number((millionths / 1_000_000).into(), out);
    let mut fraction = millionths % 1_000_000;
    if fraction > 0 {
        out.push(b'.');
    }
    let mut place = 100_000;
    while fraction > 0 {
        out.push(b'0' + (fraction / place) as u8);
        fraction %= place;
        place /= 10;
    }
}
