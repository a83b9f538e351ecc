//! The threads of the operators' work give way to those that serve clients.

/// How far they do: of a processor that both want they get a tenth, so that a scrape of many metrics delays no
/// request.
const NICENESS: i32 = 10;

thread_local! {
    /// Set with the first use on a thread.
    static GIVES_WAY: bool = rustix::process::nice(NICENESS).is_ok();
}

/// From now on this thread does.
pub fn give_way() {
    GIVES_WAY.with(|_| ());
}
