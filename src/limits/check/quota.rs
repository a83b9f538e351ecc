//! What is wrong with how much a limit allows, in which time, and with what requests cost.

use super::micros;
use crate::config::{
    self, ByteSize, Diagnostics, LimitAlgorithm, LimitAmount, LimitCost, LimitMode, LimitWindow,
    Period, Span, Spanned,
};
use crate::limits::algorithm::{LARGEST_LIMIT, LARGEST_QUOTA};
use crate::limits::cost::checked_cost;

/// Shortest and longest windows, in microseconds.
const SHORTEST_WINDOW: u64 = 100_000;
const LONGEST_WINDOW: u64 = 86_400_000_000;
/// Largest limit of bytes: a debt of three times as much can be counted beside it in a period of the
/// calendar.
const LARGEST_BYTES: ByteSize = ByteSize(1 << 44);
/// Whether amount, window and cost of a limit are in range and go together; what does not is reported.
pub(super) fn check_quota(limit: &config::RateLimit, diagnostics: &mut Diagnostics) -> bool {
    let mut is_sound = check_amount("limit", &limit.limit, limit, diagnostics);
    is_sound &= match limit.window.value {
        LimitWindow::Length(period) => check_length(limit, period, diagnostics),
        LimitWindow::Day | LimitWindow::Month => check_calendar(limit, diagnostics),
    };
    is_sound & check_cost(limit, diagnostics)
}

/// A limit or a burst: of what is counted, and in range.
fn check_amount(
    what: &str,
    amount: &Spanned<LimitAmount>,
    limit: &config::RateLimit,
    diagnostics: &mut Diagnostics,
) -> bool {
    let is_of_bytes = limit.cost.value == LimitCost::ResponseBytes;
    match amount.value {
        LimitAmount::Units(number) if is_of_bytes => {
            diagnostics
                .error(amount.span, format!("a {what} of bytes needs a unit"))
                .help(format!("write `{number}B`, or a size such as `10MiB`"));
            false
        }
        LimitAmount::Bytes(_) if !is_of_bytes => {
            diagnostics
                .error(
                    amount.span,
                    format!("a {what} of `{amount}` needs `cost: response_bytes`"),
                )
                .help("add that, or write how many requests may come");
            false
        }
        LimitAmount::Bytes(size) if !(1..=LARGEST_BYTES.0).contains(&size.0) => {
            diagnostics
                .error(amount.span, format!("a {what} of {amount} is out of range"))
                .help(format!("{what}s of bytes are 1B to {LARGEST_BYTES}"));
            false
        }
        LimitAmount::Units(number) if !(1..=largest(limit)).contains(&number) => {
            let help = match limit.window.value {
                LimitWindow::Length(_) if what == "limit" => {
                    format!("limits are 1 to {LARGEST_LIMIT}; for more, shorten the window")
                }
                _ => format!("{what}s are 1 to {}", largest(limit)),
            };
            diagnostics
                .error(amount.span, format!("a {what} of {amount} is out of range"))
                .help(help);
            false
        }
        _ => true,
    }
}

fn largest(limit: &config::RateLimit) -> u64 {
    match limit.window.value {
        LimitWindow::Length(_) => LARGEST_LIMIT,
        LimitWindow::Day | LimitWindow::Month => LARGEST_QUOTA,
    }
}

/// What goes with a window that starts by itself.
fn check_length(limit: &config::RateLimit, window: Period, diagnostics: &mut Diagnostics) -> bool {
    let mut is_sound = true;
    if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&micros(window)) {
        diagnostics
            .error(
                limit.window.span,
                format!("a window of {} is out of range", limit.window),
            )
            .help("windows are 100ms to 1d, or `day` or `month`");
        is_sound = false;
    }
    if let Some(zone) = &limit.time_zone {
        diagnostics
            .error(
                zone.span,
                "`time_zone` needs `window: day` or `window: month`",
            )
            .help("write one of these, or remove `time_zone`");
        is_sound = false;
    }
    if let Some(burst) = &limit.burst {
        if limit.algorithm.value != LimitAlgorithm::TokenBucket {
            diagnostics
                .error(burst.span, "`burst` needs `algorithm: token_bucket`")
                .help("add that line, or remove `burst`");
            is_sound = false;
        } else {
            is_sound &= check_amount("burst", burst, limit, diagnostics);
            is_sound &= check_proportion(burst, &limit.limit, diagnostics);
        }
    }
    is_sound
}

/// Bytes are counted in units that the larger of both is a million of.
fn check_proportion(
    burst: &Spanned<LimitAmount>,
    limit: &Spanned<LimitAmount>,
    diagnostics: &mut Diagnostics,
) -> bool {
    const MOST: u64 = 1000;
    let (LimitAmount::Bytes(size), LimitAmount::Bytes(rate)) = (burst.value, limit.value) else {
        return true;
    };
    let is_sound = size.0 / MOST <= rate.0;
    if !is_sound {
        diagnostics
            .error(
                burst.span,
                format!("a burst of {burst} is more than {MOST} times the limit"),
            )
            .help("write a larger limit for a longer window, or a smaller burst");
    }
    is_sound
}

/// What goes with a window of the calendar.
fn check_calendar(limit: &config::RateLimit, diagnostics: &mut Diagnostics) -> bool {
    let algorithm = &limit.algorithm;
    // What is not written has no place.
    let algorithm = (algorithm.span != Span::default()).then_some(("algorithm", algorithm.span));
    let burst = limit.burst.as_ref().map(|burst| ("burst", burst.span));
    let queue = limit.queue.as_ref().map(|queue| ("queue", queue.span));
    let mut is_sound = true;
    for (key, span) in algorithm.into_iter().chain(burst).chain(queue) {
        diagnostics
            .error(
                span,
                format!("`{key}` has no meaning with `window: {}`", limit.window),
            )
            .help("remove it, or write how long the window is");
        is_sound = false;
    }
    is_sound
}

fn check_cost(limit: &config::RateLimit, diagnostics: &mut Diagnostics) -> bool {
    let LimitCost::Fixed(cost) = limit.cost.value else {
        return check_later(limit, diagnostics);
    };
    let cost = Spanned::new(cost, limit.cost.span);
    let Some(cost) = checked_cost(&cost, diagnostics) else {
        return false;
    };
    let most = match &limit.burst {
        Some(burst) => burst.value,
        None => limit.limit.value,
    };
    // One that is out of range is reported as that.
    let is_possible = match most {
        LimitAmount::Units(most) => most == 0 || cost.value <= most,
        LimitAmount::Bytes(_) => true,
    };
    if !is_possible {
        diagnostics
            .error(
                cost.span,
                format!("a request that costs {cost} never passes a limit of {most}"),
            )
            .help("write a larger limit, or a smaller cost");
    }
    is_possible
}

/// What goes with a cost that answers say.
fn check_later(limit: &config::RateLimit, diagnostics: &mut Diagnostics) -> bool {
    let mut is_sound = true;
    if let Some(queue) = &limit.queue {
        diagnostics
            .error(
                queue.span,
                "`queue` needs a `cost` that is known in advance",
            )
            .help("remove it, or write what a request costs");
        is_sound = false;
    }
    let mode = limit.mode.as_ref();
    if let Some(mode) = mode.filter(|mode| mode.value == LimitMode::Fast) {
        diagnostics
            .error(
                mode.span,
                "`mode: fast` takes ahead what requests cost, but here their answers say that",
            )
            .help("remove it: the store is asked about each request");
        is_sound = false;
    }
    is_sound
}
