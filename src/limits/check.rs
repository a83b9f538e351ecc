//! What is wrong with a limit as it is written.

mod quota;

use std::sync::Arc;

use self::quota::check_quota;
use super::algorithm::Rule;
use super::calendar::Zone;
use super::limiter::Scope;
use super::store::Store;
use crate::config::{self, Diagnostics, LimitKey, LimitStore, Period, Span, Spanned};

/// The most that clients are put off at random.
const LONGEST_JITTER: Period = Period::seconds(3600);
/// Shortest and longest waits in a queue.
const SHORTEST_WAIT: Period = Period::millis(1);
const LONGEST_WAIT: Period = Period::seconds(60);
/// Most requests that wait for one limit.
const MOST_WAITING: u64 = 10_000;

/// Whether the numbers of a limit are in range; what is not is reported.
pub(super) fn check_numbers(limit: &config::RateLimit, diagnostics: &mut Diagnostics) -> bool {
    let mut is_sound = check_quota(limit, diagnostics);
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

/// The time zone of a name; if there is none, that is reported.
pub fn checked_zone(
    name: &Spanned<String>,
    store: &Store,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Zone>> {
    let found = store.zone(name);
    if let Err(meant) = &found {
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write its name in the time zone database, such as `Europe/Berlin`".to_owned(),
        };
        diagnostics
            .error(name.span, format!("there is no time zone `{name}`"))
            .help(help);
    }
    found.ok()
}

/// A window's length in microseconds.
pub(super) fn micros(window: Period) -> u64 {
    u64::try_from(window.0.as_micros()).unwrap_or(u64::MAX)
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
