//! What the system knows of the process, by the names that are usual for it.

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::Exposed;
use super::exposition::Exposition;

/// The process itself, as Linux tells of it.
#[derive(Debug)]
pub struct Process;

/// What of `/proc/self/stat` is told (proc(5)); times are in ticks.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu: u64,
    threads: u64,
    started: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program may hold anything; what follows it begins with the third field.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self {
            cpu: field(14)? + field(15)?,
            threads: field(20)?,
            started: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl Exposed for Process {
    fn expose(&self, page: &mut Exposition) {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        if let Some(stat) = read("/proc/self/stat").and_then(|text| Stat::parse(&text)) {
            stat.expose(page);
            let booted = read("/proc/stat").and_then(|text| booted(&text));
            if let Some(booted) = booted {
                let started = booted * 1_000_000 + micros(stat.started);
                page.gauge(
                    "process_start_time_seconds",
                    "When the process started, in seconds since 1970.",
                )
                .sample_micros(&[], started);
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            page.gauge("process_open_fds", "File descriptors in use.")
                .sample(&[], open.count() as u64);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.gauge("process_max_fds", "File descriptors that it may use.")
                .sample(&[], most);
        }
    }
}

impl Stat {
    fn expose(&self, page: &mut Exposition) {
        page.counter(
            "process_cpu_seconds_total",
            "Processor time that the process has used.",
        )
        .sample_micros(&[], micros(self.cpu));
        page.gauge("process_threads", "Threads.")
            .sample(&[], self.threads);
        page.gauge("process_virtual_memory_bytes", "Size of its address space.")
            .sample(&[], self.virtual_bytes);
        page.gauge("process_resident_memory_bytes", "Memory in use.")
            .sample(&[], self.resident_pages * page_size() as u64);
    }
}

fn micros(ticks: u64) -> u64 {
    ticks * 1_000_000 / clock_ticks_per_second()
}

/// When the machine was booted, by `/proc/stat`.
fn booted(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Format;

    #[test]
    fn the_name_of_the_program_may_look_like_fields() {
        let text = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 100 23 0 0 20 0 9 0 4567 8192 3 0\n";
        let expected = Stat {
            cpu: 123,
            threads: 9,
            started: 4567,
            virtual_bytes: 8192,
            resident_pages: 3,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) R 1"), None);
        assert_eq!(booted("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_is_told_of() {
        let mut page = Exposition::new(Format::Text, 0);
        Process.expose(&mut page);
        let text = page.finish();
        assert_eq!(text.matches("# TYPE process_").count(), 7, "{text}");
        for name in [
            "process_threads",
            "process_open_fds",
            "process_resident_memory_bytes",
        ] {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(line.unwrap().parse::<u64>().unwrap() > 0, "{name}: {text}");
        }
    }
}
