//! Measures whether the gateway has more to do than it can: how late its workers are, and how much
//! memory and how many descriptors are left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::runtime::Handle;

use crate::proxy::{Level, Pressure};
use crate::snapshot::{OverloadRule, Store};

/// A worker is asked so often whether it is late…
const SAMPLE: Duration = Duration::from_millis(10);
/// …and is, if it was each of so many times: a pause of the whole machine is no overload (the minimum
/// over an interval, as in CoDel, RFC 8289).
const SAMPLES: usize = 10;
const TICK: Duration = Duration::from_millis(100);
/// Counting many descriptors takes milliseconds, so it is done only each so many ticks.
const COUNT_DESCRIPTORS: u64 = 3;
/// Lateness so many times above the first bound is the second.
const LATER: u32 = 5;
/// New connections are refused from this share of the descriptors on, in percent.
const LAST_DESCRIPTORS: u64 = 95;

/// How late the workers are.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// The least of the last interval, in microseconds.
    least: AtomicU32,
}

/// Measures again and again.
pub(super) struct Measurement {
    pub(super) lateness: Arc<Lateness>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) snapshots: Arc<Store>,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    late: Duration,
    /// Shares in percent; `None` where there is no bound.
    memory: Option<u64>,
    descriptors: Option<u64>,
}

impl Lateness {
    /// Begins to ask the workers.
    pub(super) fn ask(self: &Arc<Self>, workers: &Handle) {
        let this = self.clone();
        workers.spawn(async move {
            loop {
                let mut least = u32::MAX;
                for _ in 0..SAMPLES {
                    let begun = Instant::now();
                    tokio::time::sleep(SAMPLE).await;
                    let late = begun.elapsed().saturating_sub(SAMPLE);
                    least = least.min(u32::try_from(late.as_micros()).unwrap_or(u32::MAX));
                }
                this.least.store(least, Ordering::Relaxed);
            }
        });
    }

    fn least(&self) -> Duration {
        Duration::from_micros(self.least.load(Ordering::Relaxed).into())
    }
}

#[async_trait]
impl BackgroundService for Measurement {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let memory = memory_bound();
        let mut before = Level::None;
        let mut counted = None;
        for tick in 0_u64.. {
            tokio::time::sleep(TICK).await;
            let Some(rule) = self.snapshots.load().settings.overload else {
                self.pressure.set(Level::None);
                continue;
            };
            if tick % COUNT_DESCRIPTORS == 0 {
                counted = descriptors();
            }
            let measured = Measured {
                late: self.lateness.least(),
                memory: memory.and_then(|bound| Some(resident()? * 100 / bound)),
                descriptors: counted,
            };
            let level = level(&rule, measured);
            self.pressure.set(level);
            if level != before {
                let Measured {
                    late,
                    memory,
                    descriptors,
                } = measured;
                log::warn!(
                    "overload: level={} was={} late={late:?} memory={} descriptors={}",
                    level as u8,
                    before as u8,
                    percent(memory),
                    percent(descriptors)
                );
                before = level;
            }
        }
    }
}

fn level(rule: &OverloadRule, measured: Measured) -> Level {
    let by_lateness = match measured.late {
        late if late > rule.lag * LATER => Level::Much,
        late if late > rule.lag => Level::Some,
        _ => Level::None,
    };
    // The second bound is halfway from the first to the end.
    let by_share = |share: Option<u64>, first: u8| {
        let first = u64::from(first);
        match share {
            Some(share) if share >= (100 + first) / 2 => Level::Much,
            Some(share) if share >= first => Level::Some,
            _ => Level::None,
        }
    };
    let last = match measured.descriptors {
        Some(LAST_DESCRIPTORS..) => Level::Most,
        _ => Level::None,
    };
    [
        by_lateness,
        by_share(measured.memory, rule.memory),
        by_share(measured.descriptors, rule.descriptors),
        last,
    ]
    .into_iter()
    .max()
    .unwrap_or_default()
}

fn percent(share: Option<u64>) -> String {
    share.map_or_else(|| "unbounded".to_owned(), |share| format!("{share}%"))
}

/// The memory that the process may have, in bytes: that of its control group (cgroup v2), if any.
fn memory_bound() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = format!("/sys/fs/cgroup{path}/memory.max");
    let bound = std::fs::read_to_string(file).ok()?;
    bound.trim().parse().ok().filter(|bound| *bound > 0)
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Descriptors in use, in percent of those that the process may have.
fn descriptors() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(open * 100 / limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: OverloadRule = OverloadRule {
        lag: Duration::from_millis(20),
        memory: 85,
        descriptors: 80,
    };
    const CALM: Measured = Measured {
        late: Duration::from_millis(1),
        memory: Some(50),
        descriptors: None,
    };

    #[test]
    fn each_measure_presses_by_itself() {
        assert_eq!(level(&RULE, CALM), Level::None);
        for (millis, expected) in [(20, Level::None), (21, Level::Some), (101, Level::Much)] {
            let late = Duration::from_millis(millis);
            assert_eq!(level(&RULE, Measured { late, ..CALM }), expected);
        }
        for (share, expected) in [(84, Level::None), (85, Level::Some), (92, Level::Much)] {
            let memory = Some(share);
            assert_eq!(level(&RULE, Measured { memory, ..CALM }), expected);
        }
        for (share, expected) in [
            (79, Level::None),
            (80, Level::Some),
            (90, Level::Much),
            (95, Level::Most),
        ] {
            let descriptors = Some(share);
            assert_eq!(
                level(
                    &RULE,
                    Measured {
                        descriptors,
                        ..CALM
                    }
                ),
                expected
            );
        }
    }

    #[test]
    fn the_process_knows_what_it_uses() {
        assert!(resident().unwrap() > 1 << 20);
        assert!((1..100).contains(&descriptors().unwrap().max(1)));
    }
}
