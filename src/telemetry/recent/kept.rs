//! One request that is kept, in memory that is used again.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::telemetry::flags::Flags;
use crate::telemetry::record::Record;
use crate::telemetry::tracing::TraceId;

/// Bytes that are kept of each text: clients choose how long some are.
const LONGEST_TEXT: usize = 256;
/// What is kept as a text, in this order.
const TEXTS: usize = 7;

/// When a request was over, counted from a fixed moment, and how long it took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) ended: Duration,
    pub(super) took: Duration,
}

/// A request that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) moment: Moment,
    pub(super) time: SystemTime,
    pub(super) trace: Option<TraceId>,
    pub(super) client: Option<IpAddr>,
    pub(super) status: u16,
    pub(super) flags: Flags,
    pub(super) attempts: u32,
    pub(super) pipeline: Option<Duration>,
    pub(super) connected: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    /// All texts, one behind the other.
    text: String,
    /// Where each of them ends.
    ends: [u16; TEXTS],
}

/// The texts of a request; empty where there is none.
#[derive(Debug)]
pub(super) struct Texts<'k> {
    pub(super) id: &'k str,
    pub(super) method: &'k str,
    pub(super) host: &'k str,
    pub(super) path: &'k str,
    pub(super) route: &'k str,
    pub(super) service: &'k str,
    pub(super) endpoint: &'k str,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            moment: Moment::default(),
            time: UNIX_EPOCH,
            trace: None,
            client: None,
            status: 0,
            flags: Flags::default(),
            attempts: 0,
            pipeline: None,
            connected: None,
            first_byte: None,
            text: String::new(),
            ends: [0; TEXTS],
        }
    }
}

impl Kept {
    /// Forgets what it was, and keeps this.
    pub(super) fn write(&mut self, record: &Record<'_>, client: Option<IpAddr>, moment: Moment) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let mut ends = [0; TEXTS];
        let texts: [&[u8]; TEXTS] = [
            record.id.as_bytes(),
            record.method.as_str().as_bytes(),
            record.host.unwrap_or_default(),
            record.path.as_bytes(),
            record.route.unwrap_or_default().as_bytes(),
            record.service.unwrap_or_default().as_bytes(),
            record.endpoint.unwrap_or_default().as_bytes(),
        ];
        for (end, bytes) in std::iter::zip(&mut ends, texts) {
            push(bytes, &mut text);
            *end = text.len() as u16;
        }
        *self = Self {
            moment,
            time: record.time,
            trace: record.trace.map(|(trace, _)| trace),
            client,
            status: record.status,
            flags: record.flags,
            attempts: record.attempts,
            pipeline: record.pipeline,
            connected: record.connected,
            first_byte: record.first_byte,
            text,
            ends,
        };
    }

    pub(super) fn texts(&self) -> Texts<'_> {
        let text = |number: usize| {
            let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
            let range = usize::from(start)..usize::from(self.ends[number]);
            self.text.get(range).unwrap_or_default()
        };
        Texts {
            id: text(0),
            method: text(1),
            host: text(2),
            path: text(3),
            route: text(4),
            service: text(5),
            endpoint: text(6),
        }
    }

    /// Bytes of memory beside its own.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.text.capacity()
    }
}

/// Adds the beginning of what is probably a text.
fn push(bytes: &[u8], text: &mut String) {
    let most = text.len() + LONGEST_TEXT;
    for chunk in bytes[..bytes.len().min(LONGEST_TEXT)].utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        // What stands for a byte that is no text is longer than that.
        if text.len() > most {
            return;
        }
    }
}
