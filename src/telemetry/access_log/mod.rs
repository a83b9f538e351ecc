//! The access log: which requests have a line, how it is written, and its way out.
//!
//! Requests are measured by the rules of the snapshot they came under ([`LineRules`]). Their lines go into
//! buffers, one for each worker, and one thread writes the buffers out ([`AccessLog`]). A full disk or a stuck
//! pipe fills the buffers; from then on lines are dropped and counted, and no worker ever waits.

mod buffers;
mod destination;
mod field;
mod format;
mod health;
mod output;
mod privacy;
mod rules;
mod sampler;
mod writer;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use self::buffers::Buffers;
pub use self::destination::{Destination, OpenError};
pub use self::rules::LineRules;
pub use self::sampler::Weight;
use self::writer::{Command, LAST_LINES, Writer};
use super::record::Record;

/// How much longer than its own patience the writer is waited for at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The way out of lines, which lives on when the configuration changes. Dropping it writes out what is left.
#[derive(Debug, Default)]
pub struct AccessLog {
    buffers: Arc<Buffers>,
    /// Started with the first output.
    writer: OnceLock<Thread>,
    control: Mutex<Control>,
}

#[derive(Debug, Default)]
struct Control {
    destination: Option<Destination>,
    commands: Option<Sender<Command>>,
    /// Closed when the writer has ended.
    ended: Option<Receiver<()>>,
}

impl AccessLog {
    /// Has lines written to a destination from now on, or to none. Where it is the same as before, nothing
    /// happens.
    ///
    /// # Errors
    /// When it can't be opened; lines go on to where they went before.
    pub fn follow(&self, destination: Option<&Destination>) -> Result<(), OpenError> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if control.destination.as_ref() == destination {
            return Ok(());
        }
        let output = match destination {
            Some(destination) => Some((destination.clone(), destination.open()?)),
            None => None,
        };
        control.destination = destination.cloned();
        if control.commands.is_none() {
            self.start(&mut control);
        }
        self.tell(&control, Command::Follow(output));
        Ok(())
    }

    /// Opens the file that lines go to again, since somebody has renamed it.
    pub fn reopen(&self) {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(&control, Command::Reopen);
    }

    fn start(&self, control: &mut Control) {
        let (commands, told) = channel();
        let (alive, ended) = channel();
        let writer = Writer::new(self.buffers.clone(), told);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                writer.run();
                drop::<Sender<()>>(alive);
            });
        match thread {
            Ok(thread) => {
                let _ = self.writer.set(thread.thread().clone());
            }
            Err(error) => log::error!("the access log has no writer: {error}"),
        }
        control.commands = Some(commands);
        control.ended = Some(ended);
    }

    fn tell(&self, control: &Control, command: Command) {
        if let Some(commands) = &control.commands {
            // A writer that is gone has said why.
            let _ = commands.send(command);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Writes the line of a request, or counts it as dropped. Never waits for the output.
    pub fn write(&self, rules: &LineRules, weight: Weight, record: &Record<'_>) {
        if self.buffers.add(|out| rules.write(record, weight, out)) {
            self.wake();
        }
    }

    /// Lines dropped so far, because the output could not keep up, failed, or does not take any as long.
    pub fn dropped(&self) -> u64 {
        self.buffers.lost()
    }

    /// Writes out what is left, if the output takes it in time. Lines that are written from now on may be lost.
    pub fn close(&self) {
        self.buffers.close();
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = control.ended.take();
        drop(control);
        self.wake();
        if let Some(ended) = ended
            && ended.recv_timeout(LAST_LINES + FAREWELL)
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            log::warn!("the process ends while the access log's last lines are being written");
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    use http::{HeaderMap, Method, Version};

    use super::*;
    use crate::config::{self, Diagnostics, LogOutput};
    use crate::telemetry::Flags;

    fn rules(path: impl Into<PathBuf>) -> LineRules {
        let section = config::AccessLog {
            output: LogOutput::File(path.into()).into(),
            ..config::AccessLog::default()
        };
        LineRules::compile(&section, &mut Diagnostics::default()).unwrap()
    }

    fn write(log: &AccessLog, rules: &LineRules, id: &str) {
        let record = Record {
            time: UNIX_EPOCH,
            id,
            trace: None,
            client: None,
            method: &Method::GET,
            host: None,
            path: "/",
            query: None,
            version: Version::HTTP_11,
            route: None,
            service: None,
            endpoint: None,
            consumer: None,
            client_certificate: None,
            limit: None,
            cache: None,
            status: 200,
            grpc_status: None,
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
        };
        log.write(rules, Weight::ONE, &record);
    }

    #[test]
    fn every_line_of_every_thread_arrives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let rules = rules(&path);
        let log = AccessLog::default();
        log.follow(Some(rules.destination())).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (log, rules) = (&log, &rules);
                scope.spawn(move || {
                    for line in 0..1000 {
                        write(log, rules, &format!("{thread}-{line}"));
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
    fn a_pipe_that_nobody_reads_drops_lines_and_keeps_nobody_from_ending() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let rules = rules(&path);
        let log = AccessLog::default();
        let error = log.follow(Some(rules.destination())).unwrap_err();
        assert!(error.to_string().contains("No such device"), "{error}");
        let reader = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        log.follow(Some(rules.destination())).unwrap();
        let line_bytes = 200;
        for _ in 0..(3 * buffers::SHARD_BYTES / line_bytes) {
            write(&log, &rules, "0123456789");
        }
        let dropped = log.dropped();
        assert!(dropped > 0);
        log.close();
        // What waited is lost with the process.
        assert!(log.dropped() > dropped);
        drop(reader);
    }

    #[test]
    fn another_output_gets_what_is_written_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let log = AccessLog::default();
        let before = rules(&first);
        log.follow(Some(before.destination())).unwrap();
        write(&log, &before, "one");
        let error = log.follow(Some(rules("/nowhere/at/all.log").destination()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all.log"), "{error}");
        write(&log, &before, "two");
        let seen = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        while !seen(&first).contains("two") {
            std::thread::yield_now();
        }
        let after = rules(&second);
        log.follow(Some(after.destination())).unwrap();
        let mut more = 0;
        while !seen(&second).contains("three") {
            write(&log, &after, "three");
            more += 1;
        }
        log.close();
        let lines = |path: &PathBuf| seen(path).lines().count();
        let dropped = usize::try_from(log.dropped()).unwrap();
        assert_eq!(lines(&first) + lines(&second) + dropped, 2 + more);
    }
}
