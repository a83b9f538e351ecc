//! `tollgate limits`.

use std::fmt::Write;

use clap::Args;

use super::Failure;
use super::configuration::print;
use super::operator::{self, Operator};
use crate::admin::LimitsReport;
use crate::limits::{KeyReport, LimitReport, TopKey};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: operator::Gateway,
    /// Only limits of this name, as in `RateLimit-Policy`
    #[arg(long, value_name = "NAME", required_if_eq("reset", "true"))]
    limit: Option<String>,
    /// What this key has spent: an address, a header's value, …; where several are counted together, once for
    /// each, in the order of `by`
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Have the key begin anew; this needs `admin.token`
    #[arg(long)]
    reset: bool,
}

/// Prints the rate limits of the running gateway, or what a key has spent of them.
pub(super) fn limits(arguments: &Arguments) -> Result<(), Failure> {
    let operator = Operator::find(&arguments.gateway)?;
    let limit = arguments.limit.iter().map(|name| ("limit", name.as_str()));
    let key = arguments.key.iter().map(|part| ("key", part.as_str()));
    let query: Vec<_> = limit.chain(key).collect();
    let report = match arguments.reset {
        true => operator.reset_limits(&query)?,
        false => operator.limits(&query)?,
    };
    print(&describe(&report))
}

fn describe(report: &LimitsReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for limit in &report.limits {
        let _ = writeln!(out, "{}", head(limit));
        let _ = match &limit.key {
            Some(key) => writeln!(out, "    {}", of_key(key)),
            None => writeln!(out, "    {}", of_limit(limit)),
        };
        for key in &limit.top_keys {
            let _ = writeln!(out, "    {}", of_top_key(key));
        }
    }
    if report.limits.is_empty() {
        out.push_str("there are no rate limits\n");
    }
    if report.estimated > 0 {
        let _ = writeln!(
            out,
            "{} requests were counted by estimate: there were more keys than the {} of \
             server.limits.rate_limit_keys",
            report.estimated, report.room
        );
    }
    out
}

fn head(limit: &LimitReport) -> String {
    let tried = if limit.enforced { "" } else { ", tried out" };
    format!(
        "{}: {} in {} by {} ({}, {}{tried}), of {}",
        limit.limit,
        limit.quota,
        limit.window,
        limit.by.join(" and "),
        limit.algorithm,
        limit.store,
        limit.place,
    )
}

fn of_limit(limit: &LimitReport) -> String {
    let keys = match limit.keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    };
    match &limit.decisions {
        None => keys,
        Some(it) => format!("{} admitted, {} refused, {keys}", it.admitted, it.refused),
    }
}

fn of_key(key: &KeyReport) -> String {
    let done = if key.is_reset { "reset: " } else { "" };
    let error = match &key.error {
        Some(error) => format!("; the store does not say: {error}"),
        None => String::new(),
    };
    format!(
        "{done}{}: {} spent, {} left, more in {} s (counted {}){error}",
        text(&key.key),
        key.spent,
        key.remaining,
        key.reset,
        match &*key.counted {
            "store" => "by the store",
            counted => counted,
        }
    )
}

fn of_top_key(key: &TopKey) -> String {
    let left = match key.remaining {
        Some(left) => format!(", {left} left"),
        None => String::new(),
    };
    let counted = &key.counted;
    format!(
        "{}: about {} requests of late, {} refused{left}",
        text(&key.key),
        counted.requests,
        counted.refused,
    )
}

fn text(key: &[Option<String>]) -> String {
    if key.is_empty() {
        return "everyone".to_owned();
    }
    let parts = key.iter().map(|part| part.as_deref().unwrap_or("(none)"));
    parts.collect::<Vec<_>>().join(" and ")
}
