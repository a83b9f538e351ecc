//! `tollgate purge`.

use clap::Args;

use super::Failure;
use super::configuration::print;
use super::operator::{Gateway, Operator};
use crate::cache::{Purge, Target};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    target: Which,
    /// Keep the answers for as long as stale ones may be given, until fresh ones are there
    #[arg(long)]
    soft: bool,
}

/// Which answers are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// All variants of this URL; one that begins with `/` is meant on every host
    url: Option<String>,
    /// Whatever begins so, written like a URL
    #[arg(long)]
    prefix: Option<String>,
    /// Those with this tag in `Surrogate-Key` or `Cache-Tag`
    #[arg(long)]
    tag: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Lets answers go that the running gateway keeps.
pub(super) fn purge(arguments: &Arguments) -> Result<(), Failure> {
    let operator = Operator::find(&arguments.gateway)?;
    let which = &arguments.target;
    let url = which.url.clone().map(Target::Url);
    let prefix = which.prefix.clone().map(Target::Prefix);
    let tag = which.tag.clone().map(Target::Tag);
    let target = url.or(prefix).or(tag).unwrap_or(Target::All);
    let soft = arguments.soft;
    let purged = operator.purge(&Purge { target, soft })?;
    let word = if soft { "expired" } else { "purged" };
    let noun = if purged.objects == 1 {
        "answer"
    } else {
        "answers"
    };
    print(&format!("{word}: {} {noun}\n", purged.objects))
}
