//! The threads of the operators' work give way to those that serve clients.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::{getpid, getpriority_process, setpriority_process};

/// How far they do, beyond what the process does as a whole: of a processor that both want they get a tenth, so that a scrape of many metrics delays no
/// request.
const NICENESS: i32 = 10;
/// The shortest rests. The kernel makes them longer, by about 50 µs.
const REST: Duration = Duration::from_micros(20);

thread_local! {
    /// Set with the first use on a thread.
    static GIVES_WAY: bool = lower().is_ok();
}

fn lower() -> rustix::io::Result<()> {
    // Not from what this thread has: it may have been started by one that gives way.
    let of_process = getpriority_process(Some(getpid()))?;
    // Without a number, this is Linux's way to say this thread.
    setpriority_process(None, of_process + NICENESS)
}

/// From now on this thread does.
pub fn give_way() {
    GIVES_WAY.with(|_| ());
}

/// Lets others have the processor for a moment. Whoever serves clients wakes up often, but a scheduler may have
/// them wait for milliseconds until a thread that only ever works has had its share, be that small.
pub(super) fn rest() {
    sleep(REST);
}
