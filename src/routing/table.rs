//! The table of all routes.

use std::collections::HashMap;

use http::Method;

use super::candidate::{Conditions, Parameters, Request};
use super::host::{HostPattern, Hosts, normalise};
use super::pattern::{Kind, Pattern, Segment};
use super::tree::{Leaf, Tree};
use crate::config::{Diagnostics, Span, Spanned};

/// A route as the table sees it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its hosts as written; empty for any.
    pub hosts: Vec<Spanned<String>>,
    /// Its path.
    pub pattern: Pattern,
    /// What a request must have beyond that.
    pub conditions: Conditions,
    /// Where it is written.
    pub span: Span,
    /// What is found: the route's number.
    pub value: u32,
}

/// What became of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This route takes the request.
    Found {
        /// The route's number.
        value: u32,
        /// The places of its path parameters.
        parameters: Parameters,
    },
    /// Routes take the path, but not with this method.
    MethodNotAllowed {
        /// The methods they take, each once.
        allow: Vec<Method>,
    },
    /// No route takes the path.
    NotFound,
}

/// All routes, ready to be searched.
#[derive(Debug)]
pub struct RouteTable {
    pub(super) entries: Box<[Stored]>,
    hosts: Hosts,
    tree: Tree,
    /// Entries in the order of precedence, leaf by leaf.
    candidates: Box<[Candidate]>,
}

/// An entry with its hosts parsed.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) pattern: Pattern,
    pub(super) conditions: Conditions,
    pub(super) span: Span,
    pub(super) value: u32,
}

/// An entry at a leaf. What most requests need is here, so that the entry need not be touched.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    entry: u32,
    value: u32,
    /// As [`Conditions::method_bits`].
    methods: u16,
    /// Whether headers or query parameters are asked for.
    asks_more: bool,
    is_template: bool,
}

impl RouteTable {
    /// Builds the table. Routes that tie are reported, with both places.
    pub fn build(entries: Vec<Entry>, diagnostics: &mut Diagnostics) -> Self {
        let entries: Box<[Stored]> = entries
            .into_iter()
            .map(|entry| Stored::new(entry, diagnostics))
            .collect();
        let mut hosts = Hosts::default();
        let mut leaves: HashMap<(u32, Shape<'_>), Vec<u32>, ahash::RandomState> =
            HashMap::default();
        let mut order = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            for host in &entry.hosts {
                let key = (hosts.number(host), entry.pattern.shape());
                let leaf = leaves.entry(key).or_insert_with(|| {
                    order.push(key);
                    Vec::with_capacity(1)
                });
                // A host that is listed twice was reported.
                if leaf.last() != Some(&(index as u32)) {
                    leaf.push(index as u32);
                }
            }
        }
        let host_count = order
            .iter()
            .map(|(host, _)| *host as usize + 1)
            .max()
            .unwrap_or(1);
        let mut tree = Tree::new(host_count);
        let mut candidates = Vec::with_capacity(entries.len());
        for key in order {
            let Some(mut leaf) = leaves.remove(&key) else {
                continue;
            };
            report_ties(&leaf, &entries, diagnostics);
            leaf.sort_by_key(|index| entries[*index as usize].conditions.rank());
            let first = candidates.len() as u32;
            candidates.extend(
                leaf.iter()
                    .map(|index| entries[*index as usize].candidate(*index)),
            );
            let pattern = &entries[leaf[0] as usize].pattern;
            let count = leaf.len() as u32;
            tree.insert(key.0, pattern, Leaf { first, count });
        }
        Self {
            entries,
            hosts,
            tree,
            candidates: candidates.into(),
        }
    }

    /// The route that takes a request.
    pub fn find(&self, request: &Request<'_>) -> Outcome {
        let mut is_method_wrong = false;
        let method = method_bit(request.method);
        let found = self.search(request, |candidate, parameters| {
            if candidate.asks_more {
                let conditions = &self.entries[candidate.entry as usize].conditions;
                if !conditions.admit_headers(request.headers)
                    || !conditions.admit_query(request.query)
                {
                    return None;
                }
            }
            let is_admitted = candidate.methods & method != 0
                && (method != UNUSUAL || {
                    let conditions = &self.entries[candidate.entry as usize].conditions;
                    conditions.admit_method(request.method)
                });
            if !is_admitted {
                is_method_wrong = true;
                return None;
            }
            Some(Outcome::Found {
                value: candidate.value,
                parameters,
            })
        });
        match found {
            Some(found) => found,
            None if is_method_wrong => Outcome::MethodNotAllowed {
                allow: self.allowed(request),
            },
            None => Outcome::NotFound,
        }
    }

    /// The methods of all routes that would take the request but for its method.
    fn allowed(&self, request: &Request<'_>) -> Vec<Method> {
        let mut allow: Vec<Method> = Vec::new();
        let mut add = |method: &Method| {
            if !allow.contains(method) {
                allow.push(method.clone());
            }
        };
        self.search(request, |candidate, _| {
            let conditions = &self.entries[candidate.entry as usize].conditions;
            if conditions.admit_headers(request.headers) && conditions.admit_query(request.query) {
                for method in &conditions.methods {
                    add(method);
                    if *method == Method::GET {
                        add(&Method::HEAD);
                    }
                }
            }
            None::<()>
        });
        allow
    }

    /// Visits the entries whose host and path take the request, in the order of precedence.
    fn search<R>(
        &self,
        request: &Request<'_>,
        mut visit: impl FnMut(Candidate, Parameters) -> Option<R>,
    ) -> Option<R> {
        let host = request.host.map(normalise);
        self.hosts.find(host.as_deref(), |host| {
            self.tree.find(host, request.path, |reached| {
                let Leaf { first, count } = reached.leaf;
                self.candidates[first as usize..(first + count) as usize]
                    .iter()
                    .find_map(|candidate| {
                        // The walk went by hashes; texts decide. Exact paths have been compared.
                        if candidate.is_template
                            && !self.entries[candidate.entry as usize]
                                .pattern
                                .takes(request.path)
                        {
                            return None;
                        }
                        visit(*candidate, reached.parameters)
                    })
            })
        })
    }
}

type Shape<'p> = (u8, &'p str, &'p [Segment]);

impl Stored {
    fn new(entry: Entry, diagnostics: &mut Diagnostics) -> Self {
        let mut hosts = Vec::with_capacity(entry.hosts.len().max(1));
        for host in &entry.hosts {
            match HostPattern::parse(host) {
                Ok(pattern) if hosts.contains(&pattern) => {
                    diagnostics.warning(host.span, format!("the host `{host}` is listed twice"));
                }
                Ok(pattern) => hosts.push(pattern),
                Err((message, help)) => {
                    diagnostics.error(host.span, message).help(help);
                }
            }
        }
        if entry.hosts.is_empty() {
            hosts.push(HostPattern::Any);
        }
        Self {
            hosts,
            pattern: entry.pattern,
            conditions: entry.conditions,
            span: entry.span,
            value: entry.value,
        }
    }

    fn candidate(&self, index: u32) -> Candidate {
        Candidate {
            entry: index,
            value: self.value,
            methods: self.conditions.method_bits(),
            asks_more: !self.conditions.headers.is_empty() || !self.conditions.query.is_empty(),
            is_template: self.pattern.kind != Kind::Exact,
        }
    }
}

impl Pattern {
    /// Whether the pattern takes a canonical path.
    pub(super) fn takes(&self, path: &str) -> bool {
        match self.kind {
            Kind::Exact => *self.text == *path,
            Kind::Prefix => path
                .strip_prefix(&*self.text)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Kind::Template => {
                // Along the text and not the segments, which lie about in memory.
                let mut rest = path;
                for segment in self.text.split('/').skip(1) {
                    let Some(tail) = rest.strip_prefix('/') else {
                        return false;
                    };
                    let end = tail.find('/').unwrap_or(tail.len());
                    if segment.starts_with("{*") {
                        return !tail.is_empty();
                    }
                    let is_parameter = segment.starts_with('{');
                    if is_parameter && end == 0 || !is_parameter && *segment != tail[..end] {
                        return false;
                    }
                    rest = &tail[end..];
                }
                rest.is_empty()
            }
        }
    }
}

/// The bit of methods that have none of their own.
const UNUSUAL: u16 = 1 << 9;

/// A bit for each usual method.
fn method_bit(method: &Method) -> u16 {
    const USUAL: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    USUAL
        .iter()
        .position(|usual| usual == method)
        .map_or(UNUSUAL, |index| 1 << index)
}

impl Conditions {
    /// The bits of the methods that are admitted; that of unusual ones if any of them is.
    fn method_bits(&self) -> u16 {
        if self.methods.is_empty() {
            return u16::MAX;
        }
        self.methods.iter().fold(0, |bits, method| {
            let implied = if *method == Method::GET {
                method_bit(&Method::HEAD)
            } else {
                0
            };
            bits | implied | method_bit(method)
        })
    }

    /// The order among routes of one path: with methods first, then the most headers, then the most
    /// query parameters.
    pub(super) fn rank(&self) -> (bool, usize, usize) {
        (
            self.methods.is_empty(),
            usize::MAX - self.headers.len(),
            usize::MAX - self.query.len(),
        )
    }

    /// Whether some request satisfies both.
    fn overlap(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || other.methods.is_empty()
            || self.methods.iter().any(|method| other.admit_method(method))
            || other.methods.iter().any(|method| self.admit_method(method));
        let headers = !self.headers.iter().any(|(name, value)| {
            other
                .headers
                .iter()
                .any(|(known, wanted)| known == name && wanted != value)
        });
        let query = !self.query.iter().any(|(name, value)| {
            other
                .query
                .iter()
                .any(|(known, wanted)| known == name && wanted != value)
        });
        methods && headers && query
    }
}

fn report_ties(leaf: &[u32], entries: &[Stored], diagnostics: &mut Diagnostics) {
    for (position, second) in leaf.iter().enumerate() {
        let second = &entries[*second as usize];
        let tie = leaf[..position]
            .iter()
            .map(|first| &entries[*first as usize])
            .find(|first| {
                first.conditions.rank() == second.conditions.rank()
                    && first.conditions.overlap(&second.conditions)
            });
        if let Some(first) = tie {
            let is_same = first.conditions == second.conditions;
            diagnostics
                .error(
                    second.span,
                    if is_same {
                        "this route takes the same requests as another"
                    } else {
                        "some requests would match this route and another equally well"
                    },
                )
                .related(first.span, "the other route")
                .help("tell them apart by `hosts`, `methods`, `headers_match` or `query_match`");
        }
    }
}
