//! What is wrong with a limit as it is written.

use super::algorithm::{LARGEST_LIMIT, Rule};
use super::limiter::Scope;
use crate::config::{
    self, Diagnostics, LimitAlgorithm, LimitKey, LimitStore, Period, Span, Spanned,
};

/// Shortest and longest windows, in microseconds.
const SHORTEST_WINDOW: u64 = 100_000;
const LONGEST_WINDOW: u64 = 86_400_000_000;
/// The most that clients are put off at random.
const LONGEST_JITTER: Period = Period::seconds(3600);
/// Shortest and longest waits in a queue.
const SHORTEST_WAIT: Period = Period::millis(1);
const LONGEST_WAIT: Period = Period::seconds(60);
/// Most requests that wait for one limit.
const MOST_WAITING: u64 = 10_000;

/// Whether the numbers of a limit are in range; what is not is reported.
pub(super) fn check_numbers(
    limit: &config::RateLimit,
    window: u64,
    diagnostics: &mut Diagnostics,
) -> bool {
    let mut is_sound = true;
    if !(1..=LARGEST_LIMIT).contains(&limit.limit.value) {
        diagnostics
            .error(
                limit.limit.span,
                format!("a limit of {} is out of range", limit.limit),
            )
            .help(format!(
                "limits are 1 to {LARGEST_LIMIT}; for more, shorten the window"
            ));
        is_sound = false;
    }
    if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        diagnostics
            .error(
                limit.window.span,
                format!("a window of {} is out of range", limit.window),
            )
            .help("windows are 100ms to 1d");
        is_sound = false;
    }
    if let Some(burst) = &limit.burst {
        if limit.algorithm.value != LimitAlgorithm::TokenBucket {
            diagnostics
                .error(burst.span, "`burst` needs `algorithm: token_bucket`")
                .help("add that line, or remove `burst`");
            is_sound = false;
        } else if !(1..=LARGEST_LIMIT).contains(&burst.value) {
            diagnostics
                .error(burst.span, format!("a burst of {burst} is out of range"))
                .help(format!("bursts are 1 to {LARGEST_LIMIT}"));
            is_sound = false;
        }
    }
    if limit.retry_jitter.value > LONGEST_JITTER {
        let jitter = &limit.retry_jitter;
        diagnostics
            .error(
                jitter.span,
                format!("a `retry_jitter` of {jitter} is out of range"),
            )
            .help(format!("0s to {LONGEST_JITTER}"));
        is_sound = false;
    }
    if let Some(queue) = &limit.queue {
        is_sound &= check_queue(queue, diagnostics);
    }
    is_sound & check_prefix(&limit.ipv6_prefix, diagnostics)
}

fn check_queue(queue: &config::LimitQueue, diagnostics: &mut Diagnostics) -> bool {
    let wait = &queue.max_wait;
    let is_wait_sound = (SHORTEST_WAIT..=LONGEST_WAIT).contains(&wait.value);
    if !is_wait_sound {
        diagnostics
            .error(wait.span, format!("a `max_wait` of {wait} is out of range"))
            .help(format!("{SHORTEST_WAIT} to {LONGEST_WAIT}"));
    }
    let most = &queue.max_waiting;
    let is_most_sound = (1..=MOST_WAITING).contains(&most.value);
    if !is_most_sound {
        diagnostics
            .error(
                most.span,
                format!("a `max_waiting` of {most} is out of range"),
            )
            .help(format!("1 to {MOST_WAITING}; without `queue`, none waits"));
    }
    is_wait_sound && is_most_sound
}

/// Whether networks of IPv6 clients have a length that they can have; if not, that is reported.
pub(super) fn check_prefix(prefix: &Spanned<u8>, diagnostics: &mut Diagnostics) -> bool {
    let is_sound = (1..=128).contains(&prefix.value);
    if !is_sound {
        diagnostics
            .error(prefix.span, format!("{prefix} is not a prefix length"))
            .help("prefix lengths are 1 to 128; 64 is a customer's network");
    }
    is_sound
}

/// Whether a bucket is filled in a time that anybody would wait for; if not, it is reported.
pub(super) fn check_bucket(
    limit: &config::RateLimit,
    rule: &Rule,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some(burst) = limit.burst.as_ref().filter(|_| rule.is_filled_too_slowly()) else {
        return true;
    };
    diagnostics
        .error(
            burst.span,
            format!("at this rate, a burst of {burst} takes more than a year to come back"),
        )
        .help("write a smaller burst");
    false
}

/// Whether what the limit at a place counts by makes sense where it stands; what does not is reported.
pub(super) fn check_keys(
    keys: &[Spanned<LimitKey>],
    place: Span,
    scope: Scope<'_>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let mut is_sound = true;
    if keys.is_empty() {
        diagnostics
            .error(place, "`by` is an empty list")
            .help("write `by: everyone` for one count for all");
        return false;
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            diagnostics.warning(key.span, "this is listed twice in `by`");
        }
        match &key.value {
            LimitKey::Everyone if keys.len() > 1 => {
                diagnostics
                    .warning(key.span, "`everyone` has no effect beside other keys")
                    .help("remove it");
            }
            LimitKey::Claim(_) | LimitKey::Consumer if !scope.has_identity => {
                let (what, why) = match key.value {
                    LimitKey::Claim(_) => ("a claim", "there is no token"),
                    _ => ("consumer", "nobody says who comes"),
                };
                diagnostics
                    .error(
                        key.span,
                        format!("a limit by {what} needs `auth` here, for {why}"),
                    )
                    .help("set `auth: <provider>` where this limit applies, or use `header:NAME`");
                is_sound = false;
            }
            _ => {}
        }
    }
    is_sound
}

/// Whether a limit that is shared can be; what can't is reported.
pub(super) fn check_store(
    limit: &config::RateLimit,
    has_store: bool,
    diagnostics: &mut Diagnostics,
) -> bool {
    let is_shared = limit.store.value == LimitStore::Redis;
    if is_shared && !has_store {
        diagnostics
            .error(limit.store.span, "`store: redis` without a `redis` section")
            .help("add `redis: { url: redis://127.0.0.1:6379 }` at the top");
        return false;
    }
    let modes = [
        ("mode", limit.mode.as_ref().map(|it| it.span)),
        (
            "on_store_failure",
            limit.on_store_failure.as_ref().map(|it| it.span),
        ),
    ];
    let mut is_sound = true;
    for (name, span) in modes {
        if let (Some(span), false) = (span, is_shared) {
            diagnostics
                .error(span, format!("`{name}` needs `store: redis`"))
                .help("add that line, or remove this one");
            is_sound = false;
        }
    }
    is_sound
}
