//! Times as text. What is the same for a second is made once a second and thread.

use std::cell::RefCell;
use std::fmt::Write;
use std::thread::LocalKey;
use std::time::{SystemTime, UNIX_EPOCH};

/// A second, and its text.
type Second = RefCell<(u64, String)>;

thread_local! {
    static RFC_3339: Second = const { RefCell::new((u64::MAX, String::new())) };
    static COMBINED: Second = const { RefCell::new((u64::MAX, String::new())) };
}

/// RFC 3339 in UTC with milliseconds.
pub(in crate::telemetry::access_log) fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    write_second(&RFC_3339, time, "%Y-%m-%dT%H:%M:%S", out);
    let millis = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .subsec_millis();
    out.extend_from_slice(&[
        b'.',
        b'0' + (millis / 100) as u8,
        b'0' + (millis / 10 % 10) as u8,
        b'0' + (millis % 10) as u8,
        b'Z',
    ]);
}

/// As in the format `combined`, in UTC.
pub(super) fn write_time_combined(time: SystemTime, out: &mut Vec<u8>) {
    write_second(&COMBINED, time, "%d/%b/%Y:%H:%M:%S +0000", out);
}

fn write_second(
    kept: &'static LocalKey<Second>,
    time: SystemTime,
    format: &str,
    out: &mut Vec<u8>,
) {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    kept.with_borrow_mut(|(second, text)| {
        if *second != since_epoch.as_secs() {
            *second = since_epoch.as_secs();
            let seconds = i64::try_from(*second).unwrap_or(i64::MAX);
            let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
            text.clear();
            // Neither these formats nor writing to a text can fail.
            let _ = write!(text, "{}", timestamp.strftime(format));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
