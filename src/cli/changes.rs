//! Changes of a configuration, as people read them.

use std::fmt::Write;

use crate::snapshot::{Change, Changes};

/// One line a change: `+` is new, `-` is gone, `~` is different, `!` waits for an upgrade.
pub(super) fn describe(changes: &Changes, done: &str, generation: u64) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for name in &changes.added {
        let _ = writeln!(out, "+ {} of {}", name.route, name.service);
    }
    for name in &changes.removed {
        let _ = writeln!(out, "- {} of {}", name.route, name.service);
    }
    for changed in &changes.changed {
        let _ = writeln!(out, "~ {} of {}", changed.name.route, changed.name.service);
        for change in &changed.changes {
            let _ = writeln!(out, "    {}", text(change));
        }
    }
    if changes.unlisted > 0 {
        let _ = writeln!(out, "… and {} more routes", changes.unlisted);
    }
    for change in &changes.settings {
        let _ = writeln!(out, "~ {}", text(change));
    }
    for key in &changes.needs_upgrade {
        let _ = writeln!(out, "! {key} changes only with `tollgate upgrade`");
    }
    let counted = match (changes.routes(), changes.settings.len()) {
        (0, 0) => "nothing changed".to_owned(),
        (routes, settings) => format!(
            "{}, {}",
            plural(routes, "route"),
            plural(settings, "setting")
        ),
    };
    let _ = match generation {
        0 => writeln!(out, "{done}: {counted}"),
        _ => writeln!(out, "{done}: configuration {generation} ({counted})"),
    };
    out
}

fn text(change: &Change) -> String {
    let key = &change.key;
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{key}: {from} → {to}"),
        (None, Some(to)) => format!("{key}: + {to}"),
        (Some(from), None) => format!("{key}: - {from}"),
        (None, None) => format!("{key}: changed"),
    }
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
