//! What stands around a line that is a message of its own.

use std::fmt;
use std::time::SystemTime;

use syslog_fmt::Severity;
use syslog_fmt::v5424::{Config, Formatter, Timestamp, write_msg, write_nil_value};

use super::super::destination::Syslog;
use super::super::format::write_time;
use crate::config::Facility;

/// The fields of a message to the journal before its text (systemd.journal-fields(7)).
const JOURNAL_FIELDS: &[u8] = b"PRIORITY=6\nSYSLOG_IDENTIFIER=tollgate\nMESSAGE=";

/// A way to make a line a message.
pub(in crate::telemetry::access_log) enum Framing {
    /// RFC 5424.
    Syslog(Formatter),
    /// The journal's native protocol, in which a value without a line break needs no length.
    Journal,
}

impl Framing {
    pub(in crate::telemetry::access_log) fn syslog(section: &Syslog) -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_str().ok();
        let process = std::process::id().to_string();
        let config = Config {
            facility: facility(section.facility),
            hostname: host.filter(|name| !name.is_empty()),
            app_name: Some(&section.app_name),
            proc_id: Some(&process),
        };
        Self::Syslog(config.into_formatter())
    }

    pub(in crate::telemetry::access_log) fn journal() -> Self {
        Self::Journal
    }

    /// Appends the message that a line, without its end, makes.
    pub(super) fn frame(&self, line: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Journal => {
                out.extend_from_slice(JOURNAL_FIELDS);
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            Self::Syslog(formatter) => {
                // Writing to a Vec can't fail.
                let _ = write_message(formatter, line, out);
            }
        }
    }
}

fn write_message(formatter: &Formatter, line: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut time = Vec::with_capacity(32);
    write_time(SystemTime::now(), &mut time);
    let time = std::str::from_utf8(&time).map_or(Timestamp::None, Timestamp::PreformattedStr);
    formatter.write_header(out, Severity::Info, time, Some("access"))?;
    write_nil_value(out)?;
    write_msg(out, line)
}

fn facility(written: Facility) -> syslog_fmt::Facility {
    use syslog_fmt::Facility as Known;
    match written {
        Facility::User => Known::User,
        Facility::Daemon => Known::Daemon,
        Facility::Auth => Known::Auth,
        Facility::Authpriv => Known::Authpriv,
        Facility::Local0 => Known::Local0,
        Facility::Local1 => Known::Local1,
        Facility::Local2 => Known::Local2,
        Facility::Local3 => Known::Local3,
        Facility::Local4 => Known::Local4,
        Facility::Local5 => Known::Local5,
        Facility::Local6 => Known::Local6,
        Facility::Local7 => Known::Local7,
    }
}

impl fmt::Debug for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syslog(_) => "Syslog",
            Self::Journal => "Journal",
        })
    }
}
