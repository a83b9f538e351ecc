//! What tells one answer from another, and one place from another.
//!
//! What a backend sees of a request's query and cookies stands in the key, and what does not stand in the
//! key backends do not see: nobody can put an answer in another's place by what is left out.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use pingora_cache::CacheKey;
use pingora_cache::key::HashBinary;

use super::digest::digest;
use super::fill::Fill;
use super::policy::{CachePolicy, Query};

/// What a request says by which answers are kept apart.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'k> {
    /// `http` or `https`.
    pub scheme: &'k str,
    /// Its host, as it was sent.
    pub host: &'k [u8],
    /// The path that was matched.
    pub path: &'k str,
    /// What backends see of its query.
    pub query: Option<&'k str>,
    /// What backends see of its cookies.
    pub cookies: Option<&'k [u8]>,
    /// Which of the services that share the route gets it, if several do.
    pub service: &'k str,
    /// Which route takes it.
    pub route: u64,
    /// What else tells it from others, each by its name: headers, claims, who asks.
    pub more: &'k [(&'k str, Option<Cow<'k, [u8]>>)],
}

/// One request's business with the cache, in which its key, its fill and its log agree.
#[derive(Debug)]
pub struct Ticket {
    /// The host and the target that it is about, by which it can be purged.
    pub(super) location: Box<str>,
    /// Purges up to this one came before it.
    pub(super) generation: u64,
    pub(super) max_object_size: u64,
    /// What it writes, which knows the ticket, and so is not held by it.
    fill: OnceLock<Weak<Fill>>,
    /// Whether it was answered from disk.
    is_from_disk: AtomicBool,
}

impl Ticket {
    /// For a request about a place, which knows of the purges up to a generation.
    pub fn new(location: String, generation: u64, max_object_size: u64) -> Arc<Self> {
        Arc::new(Self {
            location: location.into(),
            generation,
            max_object_size,
            fill: OnceLock::new(),
            is_from_disk: AtomicBool::new(false),
        })
    }

    pub(super) fn came_from_disk(&self) {
        self.is_from_disk.store(true, Ordering::Relaxed);
    }

    /// Whether what was found came from disk.
    pub fn is_from_disk(&self) -> bool {
        self.is_from_disk.load(Ordering::Relaxed)
    }

    /// What was written and not read yet of an answer that is too large to be kept.
    pub fn backlog(&self) -> Option<super::Backlog> {
        self.fill()?.backlog()
    }

    /// What it writes, as long as it does.
    pub(super) fn fill(&self) -> Option<Arc<Fill>> {
        self.fill.get()?.upgrade()
    }

    /// The key under which the framework looks.
    pub fn key(self: &Arc<Self>, hash: HashBinary) -> CacheKey {
        let mut key = CacheKey::new(Vec::new(), String::new());
        key.set_primary_bin_override(hash);
        key.extensions.insert(self.clone());
        key
    }

    /// A request has one answer, or none that is kept.
    pub(super) fn writes(&self, fill: &Arc<Fill>) {
        let _ = self.fill.set(Arc::downgrade(fill));
    }
}

/// Host and target as one text: what purges and unsafe requests are about.
pub fn location(host: &[u8], path: &str, query: Option<&str>) -> String {
    let host = match std::str::from_utf8(host) {
        Ok(host) => Cow::Borrowed(host),
        Err(_) => String::from_utf8_lossy(host),
    };
    let port = [":80", ":443"].iter().find_map(|it| host.strip_suffix(it));
    let host = port.unwrap_or(&host);
    let length = host.len() + path.len() + query.map_or(0, |query| query.len() + 1);
    let mut location = String::with_capacity(length);
    location.push_str(host);
    location.make_ascii_lowercase();
    location.push_str(path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

impl KeyParts<'_> {
    /// What tells the request's answer from all others.
    pub fn hash(&self, policy: &CachePolicy) -> HashBinary {
        let mut bytes = Vec::with_capacity(256);
        add(&mut bytes, Some(&policy.identity.to_be_bytes()));
        add(&mut bytes, Some(&self.route.to_be_bytes()));
        add(&mut bytes, Some(self.service.as_bytes()));
        add(&mut bytes, Some(self.scheme.as_bytes()));
        add(&mut bytes, Some(self.host)).make_ascii_lowercase();
        add(&mut bytes, Some(self.path.as_bytes()));
        add(&mut bytes, self.query.map(str::as_bytes));
        add(&mut bytes, self.cookies);
        for (name, value) in self.more {
            add(&mut bytes, Some(name.as_bytes()));
            add(&mut bytes, value.as_deref());
        }
        digest(&bytes)
    }
}

/// Adds a part: absent is not the same as empty, and no part runs into the next.
fn add<'b>(bytes: &'b mut Vec<u8>, part: Option<&[u8]>) -> &'b mut [u8] {
    let length = part.map_or(u64::MAX, |part| part.len() as u64);
    bytes.extend_from_slice(&length.to_be_bytes());
    let begin = bytes.len();
    bytes.extend_from_slice(part.unwrap_or_default());
    &mut bytes[begin..]
}

impl Query {
    /// What backends see of a query.
    pub fn select<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        let query = query?;
        if *self == Self::default() {
            return Some(query.into());
        }
        let mut kept: Vec<&str> = query
            .split('&')
            .filter(|it| !it.is_empty() && self.keeps(it))
            .collect();
        if self.is_sorted {
            // Those of one name keep their order.
            kept.sort_by_key(|parameter| name_of(parameter));
        }
        (!kept.is_empty()).then(|| kept.join("&").into())
    }

    fn keeps(&self, parameter: &str) -> bool {
        let name = percent_encoding::percent_decode_str(name_of(parameter)).decode_utf8_lossy();
        match &self.only {
            Some(only) => only.iter().any(|it| **it == *name),
            None => !self.except.iter().any(|it| match it.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => **it == *name,
            }),
        }
    }
}

fn name_of(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

impl CachePolicy {
    /// What backends see of the cookies of a request, all of its lines as one.
    pub fn select_cookies<'c>(&self, lines: impl Iterator<Item = &'c [u8]>) -> Option<Vec<u8>> {
        let mut kept: Vec<u8> = Vec::new();
        for cookie in lines.flat_map(|line| line.split(|byte| *byte == b';')) {
            let cookie = cookie.trim_ascii();
            let name = cookie
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default();
            let is_kept = match &self.cookies {
                None => !cookie.is_empty(),
                Some(names) => names.iter().any(|it| it.as_bytes() == name),
            };
            if is_kept {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(cookie);
            }
        }
        (!kept.is_empty()).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(list: &[&str]) -> Box<[Box<str>]> {
        list.iter().map(|name| Box::from(*name)).collect()
    }

    fn selected(query: &Query, text: &str) -> Option<String> {
        query.select(Some(text)).map(Cow::into_owned)
    }

    #[test]
    fn a_location_is_the_same_however_the_host_is_written() {
        assert_eq!(
            location(b"Shop.Example:80", "/a", Some("b=1")),
            "shop.example/a?b=1"
        );
        assert_eq!(
            location(b"shop.example:8080", "/a", None),
            "shop.example:8080/a"
        );
    }

    #[test]
    fn parameters_are_known_by_their_decoded_names() {
        let only = || Query {
            only: Some(names(&["a b"])),
            ..Query::default()
        };
        assert_eq!(
            selected(&only(), "x=1&a%20b=2&a%20b=3").as_deref(),
            Some("a%20b=2&a%20b=3")
        );
        assert_eq!(selected(&only(), "x=1"), None);
        let except = Query {
            except: names(&["utm_*", "ref"]),
            ..Query::default()
        };
        assert_eq!(
            selected(&except, "utm_source=x&%72ef=y&refer=z&b").as_deref(),
            Some("refer=z&b")
        );
        let none = Query {
            only: Some(names(&[])),
            ..Query::default()
        };
        assert_eq!(selected(&none, "a=1"), None);
    }

    #[test]
    fn sorting_leaves_the_order_of_what_has_one_name() {
        let sorted = Query {
            is_sorted: true,
            ..Query::default()
        };
        assert_eq!(
            selected(&sorted, "b=2&a=9&b=1&&a=3").as_deref(),
            Some("a=9&a=3&b=2&b=1")
        );
    }

    proptest! {
        #[test]
        fn what_is_selected_is_selected_again(text in "[a-c=&%20]{0,20}", is_sorted: bool) {
            let query = || Query { except: names(&["b*"]), is_sorted, ..Query::default() };
            let once = selected(&query(), &text);
            let twice = once.as_deref().and_then(|once| selected(&query(), once));
            prop_assert_eq!(once, twice);
        }
    }
}
