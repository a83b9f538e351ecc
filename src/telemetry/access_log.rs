//! The access log's way out: workers write lines into buffers, one thread writes the buffers out.
//!
//! Each worker thread has a buffer of its own, so workers never wait for each other; the writer
//! takes a buffer by swapping it for an empty one. A full disk or a stuck pipe fills the buffers;
//! from then on lines are dropped and counted, and no worker ever blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use super::record::{LoggedHeaders, Record};
use super::thread::number_of_this_thread;
use crate::config;

/// Buffers; at least as many as worker threads on common machines. More threads share.
const SHARDS: usize = 64;
/// A buffer that holds this much is written out at once.
const WAKE_BYTES: usize = 64 * 1024;
/// A buffer never holds more than this; 64 threads can hold 256 MiB at the very worst.
const SHARD_BYTES: usize = 4 * 1024 * 1024;
/// Longest time a line waits in a buffer.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the access log {path} can't be opened: {source}", path = path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// The access log. Dropping it writes out what is left.
#[derive(Debug)]
pub struct AccessLog {
    buffers: Arc<Buffers>,
    headers: LoggedHeaders,
    writer: Option<Thread>,
    ended: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Buffers {
    shards: Box<[Shard]>,
    dropped: AtomicU64,
    is_closing: AtomicBool,
}

/// Aligned so that two workers' buffers never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    lines: Mutex<Vec<u8>>,
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

impl AccessLog {
    /// Opens the log's output and starts its writer.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(config: &config::AccessLog) -> Result<Self, OpenError> {
        let sink = match config.output.as_str() {
            "stdout" => Sink::Stdout,
            "stderr" => Sink::Stderr,
            path => Sink::File(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|source| OpenError {
                        path: Path::new(path).to_owned(),
                        source,
                    })?,
            ),
        };
        Ok(Self::start(sink, logged_headers(config)))
    }

    fn start(sink: Sink, headers: LoggedHeaders) -> Self {
        let buffers = Arc::new(Buffers {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            dropped: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
        });
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn({
                let buffers = buffers.clone();
                move || buffers.write_out(sink)
            })
            .inspect_err(|error| log::error!("the access log has no writer: {error}"))
            .ok();
        Self {
            buffers,
            headers,
            writer: writer.as_ref().map(|writer| writer.thread().clone()),
            ended: Mutex::new(writer),
        }
    }

    /// Writes a record, or counts it as dropped. Never blocks on the output.
    pub fn write(&self, record: &Record<'_>) {
        let shard = &self.buffers.shards[number_of_this_thread() % SHARDS];
        let mut lines = shard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= SHARD_BYTES {
            drop(lines);
            self.buffers.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = lines.len();
        record.write_json(&self.headers, &mut lines);
        let is_due = before < WAKE_BYTES && lines.len() >= WAKE_BYTES;
        drop(lines);
        if is_due && let Some(writer) = &self.writer {
            writer.unpark();
        }
    }

    /// Lines dropped so far because the output could not keep up.
    pub fn dropped(&self) -> u64 {
        self.buffers.dropped.load(Ordering::Relaxed)
    }

    /// Writes out what is left. Lines that are written from now on may be lost.
    pub fn close(&self) {
        self.buffers.is_closing.store(true, Ordering::Release);
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = ended {
            writer.thread().unpark();
            // A writer that panicked has nothing left to write.
            let _ = writer.join();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Buffers {
    fn write_out(&self, mut sink: Sink) {
        let mut batch = Vec::new();
        let mut dropped_before = 0;
        let mut is_failing = false;
        loop {
            let is_closing = self.is_closing.load(Ordering::Acquire);
            for shard in &self.shards {
                let mut lines = shard.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.is_empty() {
                    continue;
                }
                std::mem::swap(&mut *lines, &mut batch);
                drop(lines);
                match sink.write_all(&batch) {
                    Ok(()) => is_failing = false,
                    Err(error) => {
                        let lost = batch.iter().filter(|byte| **byte == b'\n').count();
                        self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
                        if !is_failing {
                            log::error!("the access log can't be written: {error}");
                        }
                        is_failing = true;
                    }
                }
                batch.clear();
                // One burst must not hold its memory for ever.
                batch.shrink_to(4 * WAKE_BYTES);
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped != dropped_before {
                log::warn!(
                    "access log lines dropped: count={}",
                    dropped - dropped_before
                );
                dropped_before = dropped;
            }
            if is_closing {
                return;
            }
            std::thread::park_timeout(FLUSH_INTERVAL);
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().lock().write(bytes),
            Self::Stderr => io::stderr().lock().write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged_headers(config: &config::AccessLog) -> LoggedHeaders {
    let is_redacted = |name: &str| {
        config
            .redact
            .iter()
            .any(|redacted| redacted.eq_ignore_ascii_case(name))
    };
    LoggedHeaders {
        names: config
            .headers
            .iter()
            // Names that are none were reported when the configuration was compiled.
            .filter_map(|name| Some((name.parse().ok()?, is_redacted(name))))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{HeaderMap, Method, Version};

    use super::super::record::Flags;
    use super::*;

    fn write(log: &AccessLog, id: &str) {
        log.write(&Record {
            time: UNIX_EPOCH,
            id,
            trace: None,
            client: None,
            method: &Method::GET,
            host: None,
            path: "/",
            version: Version::HTTP_11,
            route: None,
            service: None,
            endpoint: None,
            consumer: None,
            limit: None,
            cache: None,
            status: 200,
            request_bytes: 0,
            response_bytes: 0,
            total: Duration::ZERO,
            queued: None,
            pipeline: None,
            connected: None,
            first_byte: None,
            attempts: 0,
            flags: Flags::default(),
            headers: &HeaderMap::new(),
        });
    }

    #[test]
    fn every_line_of_every_thread_arrives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let config = config::AccessLog {
            output: path.to_str().unwrap().to_owned().into(),
            ..config::AccessLog::default()
        };
        let log = AccessLog::open(&config).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let log = &log;
                scope.spawn(move || {
                    for line in 0..1000 {
                        write(log, &format!("{thread}-{line}"));
                    }
                });
            }
        });
        drop(log);
        let text = std::fs::read_to_string(path).unwrap();
        let mut ids: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 8000);
    }

    #[test]
    fn a_stuck_output_drops_lines_counts_them_and_blocks_nobody() {
        // A pipe that nobody reads takes 64 KiB, then its writer blocks.
        let (reader, writer) = std::io::pipe().unwrap();
        let sink = Sink::File(File::from(std::os::fd::OwnedFd::from(writer)));
        let log = AccessLog::start(sink, LoggedHeaders::default());
        let line_bytes = 200;
        for _ in 0..(3 * SHARD_BYTES / line_bytes) {
            write(&log, "0123456789");
        }
        assert!(log.dropped() > 0);
        drop(reader);
    }

    #[test]
    fn a_path_that_cant_be_opened_is_an_error() {
        let config = config::AccessLog {
            output: "/nowhere/at/all/access.log".to_owned().into(),
            ..config::AccessLog::default()
        };
        let error = AccessLog::open(&config).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all/access.log"));
    }
}
