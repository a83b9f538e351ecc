//! What was noted of requests, as in the `flags` of the access log.

use super::exposition::Exposition;
use super::lines::Lines;
use crate::telemetry::flags::{Flag, Flags};

pub(super) type FlagCounts = Lines<{ Flag::ALL.len() }>;

pub(super) fn count(counts: &FlagCounts, flags: Flags) {
    if flags == Flags::default() {
        return;
    }
    let mine = counts.mine();
    for (index, (flag, _)) in Flag::ALL.iter().enumerate() {
        if flags.contains(*flag) {
            mine.add(index, 1);
        }
    }
}

pub(super) fn read(counts: &FlagCounts) -> impl Iterator<Item = (Flag, u64)> {
    let flags = Flag::ALL.into_iter().map(|(flag, _)| flag);
    std::iter::zip(flags, counts.sums())
}

pub(super) fn expose(counts: &FlagCounts, page: &mut Exposition) {
    let mut family = page.counter(
        "tollgate_request_flags_total",
        "Requests by why they went the way they did, as in the access log.",
    );
    for ((_, word), count) in std::iter::zip(Flag::ALL, counts.sums()) {
        family.sample(&[("flag", word)], count);
    }
}
