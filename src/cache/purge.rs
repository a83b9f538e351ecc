//! Which answers go before their time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Purges that are remembered. What was begun before the oldest of them is not kept.
const REMEMBERED: usize = 1 << 16;

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Purge {
    /// Which answers.
    pub target: Target,
    /// Whether they may still be given while fresh ones are fetched, or when that fails.
    #[serde(default)]
    pub soft: bool,
}

/// Which answers are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All variants of one URL, by host and target; without a host, on all hosts.
    Url(String),
    /// Whatever begins so.
    Prefix(String),
    /// What its backend has given this tag.
    Tag(String),
    /// Everything.
    All,
}

/// What a purge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Purged {
    /// How many answers it met, those on their way included.
    pub objects: usize,
}

impl Target {
    /// Whether it means an answer.
    pub(super) fn covers(&self, location: &str, tags: &[Box<str>]) -> bool {
        match self {
            Self::Url(url) => matching(url, location) == Some(location),
            Self::Prefix(prefix) => matching(prefix, location).is_some(),
            Self::Tag(tag) => tags.iter().any(|it| **it == **tag),
            Self::All => true,
        }
    }

    /// Without the scheme, and with the host as answers are known by. `None` if it means nothing.
    pub fn normalised(self) -> Option<Self> {
        Some(match self {
            Self::Url(url) => Self::Url(normalised(&url)?),
            Self::Prefix(prefix) => Self::Prefix(normalised(&prefix)?),
            Self::Tag(tag) if tag.is_empty() => return None,
            other => other,
        })
    }
}

fn normalised(url: &str) -> Option<String> {
    let url = url
        .strip_prefix("https://")
        .or(url.strip_prefix("http://"))
        .unwrap_or(url);
    let target = url.find('/')?;
    let (host, target) = url.split_at(target);
    if host.is_empty() {
        return Some(target.to_owned());
    }
    Some(super::key::location(host.as_bytes(), target, None))
}

/// The beginning of a location that a text stands for; one that begins with a path means any host.
fn matching<'l>(text: &str, location: &'l str) -> Option<&'l str> {
    let rest = match text.starts_with('/') {
        true => &location[location.find('/')?..],
        false => location,
    };
    let end = location.len() - rest.strip_prefix(text)?.len();
    Some(&location[..end])
}

/// The purges so far, by number, so that an answer that was asked for before one of them is not kept after
/// it.
#[derive(Debug, Default)]
pub(super) struct PurgeLog {
    newest: AtomicU64,
    purges: Mutex<VecDeque<(u64, Purge)>>,
}

/// What became of an answer that was on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Valid,
    /// It is stale.
    Expired,
    /// It is gone.
    Purged,
}

impl PurgeLog {
    pub(super) fn generation(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Notes a purge. Everything that is kept must be looked at after that.
    pub(super) fn note(&self, purge: Purge) {
        let mut purges = self.lock();
        let number = self.newest.load(Ordering::Relaxed) + 1;
        if purges.len() == REMEMBERED {
            purges.pop_front();
        }
        purges.push_back((number, purge));
        self.newest.store(number, Ordering::Release);
    }

    /// What became since a generation of an answer.
    pub(super) fn since(&self, generation: u64, location: &str, tags: &[Box<str>]) -> Since {
        if self.generation() == generation {
            return Since::Valid;
        }
        let purges = self.lock();
        if purges
            .front()
            .is_some_and(|(oldest, _)| *oldest > generation + 1)
        {
            return Since::Purged;
        }
        let mut found = Since::Valid;
        for (number, purge) in purges.iter().rev() {
            if *number <= generation {
                break;
            }
            if purge.target.covers(location, tags) {
                if !purge.soft {
                    return Since::Purged;
                }
                found = Since::Expired;
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Purge)>> {
        self.purges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(target: Target, location: &str) -> bool {
        target.normalised().unwrap().covers(location, &["t".into()])
    }

    #[test]
    fn a_url_means_itself_and_a_prefix_whatever_begins_so() {
        let url = |text: &str| Target::Url(text.to_owned());
        assert!(covers(
            url("http://Shop.example/a?b=1"),
            "shop.example/a?b=1"
        ));
        assert!(covers(url("https://shop.example:443/a"), "shop.example/a"));
        assert!(covers(url("/a"), "other.example/a"));
        assert!(!covers(url("/a"), "shop.example/a/b"));
        assert!(!covers(url("/a"), "shop.example/a?b=1"));
        let prefix = |text: &str| Target::Prefix(text.to_owned());
        assert!(covers(prefix("/a"), "shop.example/a/b?c"));
        assert!(covers(prefix("shop.example/"), "shop.example/a"));
        assert!(!covers(prefix("shop.example/"), "shop.example.org/a"));
        assert!(!covers(prefix("/b"), "shop.example/a/b"));
        assert_eq!(url("shop.example").normalised(), None);
        assert!(covers(Target::Tag("t".to_owned()), "x/"));
        assert!(!covers(Target::Tag("u".to_owned()), "x/"));
    }

    #[test]
    fn what_was_asked_for_before_a_purge_is_not_kept_after_it() {
        let log = PurgeLog::default();
        let begun = log.generation();
        let purge = |url: &str, soft| Purge {
            target: Target::Url(url.to_owned()),
            soft,
        };
        log.note(purge("x/a", true));
        assert_eq!(log.since(begun, "x/a", &[]), Since::Expired);
        assert_eq!(log.since(begun, "x/b", &[]), Since::Valid);
        log.note(purge("x/a", false));
        assert_eq!(log.since(begun, "x/a", &[]), Since::Purged);
        assert_eq!(log.since(log.generation(), "x/a", &[]), Since::Valid);
        (0..REMEMBERED).for_each(|_| log.note(purge("x/c", false)));
        assert_eq!(log.since(begun, "x/b", &[]), Since::Purged);
    }
}
