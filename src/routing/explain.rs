//! Why a route takes a request, and why the near misses do not. Slow and thorough: for people.

use super::candidate::{Request, query_value};
use super::host::normalise;
use super::pattern::{Kind, Segment};
use super::table::{RouteTable, Stored};

/// A route that takes a request, or nearly does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The route's number.
    pub value: u32,
    /// What keeps it from taking the request; empty if nothing does.
    pub reasons: Vec<Reason>,
}

/// What keeps a route from taking a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its hosts are others.
    Host,
    /// Its path is another.
    Path,
    /// Its methods are others.
    Method,
    /// This header is absent.
    HeaderAbsent(String),
    /// This header has another value.
    HeaderDiffers(String),
    /// This query parameter is absent.
    QueryAbsent(String),
    /// This query parameter has another value.
    QueryDiffers(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("the host is another"),
            Self::Path => f.write_str("the path is another"),
            Self::Method => f.write_str("the method is another"),
            Self::HeaderAbsent(name) => write!(f, "the header `{name}` is absent"),
            Self::HeaderDiffers(name) => write!(f, "the header `{name}` has another value"),
            Self::QueryAbsent(name) => write!(f, "the query parameter `{name}` is absent"),
            Self::QueryDiffers(name) => write!(f, "the query parameter `{name}` has another value"),
        }
    }
}

/// Near misses shown beside the routes whose path matches.
const MOST_NEAR: usize = 5;

impl RouteTable {
    /// The routes that take the request and those that nearly do, in the order of precedence: all
    /// whose path takes it, and a few whose path resembles it. The first without reasons is the one
    /// that [`RouteTable::find`] finds.
    pub fn explain(&self, request: &Request<'_>) -> Vec<Candidate> {
        let host = request.host.map(normalise);
        let mut considered: Vec<(&Stored, Vec<Reason>)> = self
            .entries
            .iter()
            .map(|entry| (entry, entry.reasons(request, host.as_deref())))
            .collect();
        considered.sort_by(|(a, _), (b, _)| {
            let host = host.as_deref();
            a.precedence(host).cmp(&b.precedence(host))
        });
        let (matching, mut others): (Vec<_>, Vec<_>) = considered
            .into_iter()
            .partition(|(_, reasons)| !reasons.contains(&Reason::Path));
        others.sort_by_key(|(entry, _)| {
            std::cmp::Reverse((entry.pattern.resemblance(request.path) * 1000.0) as u32)
        });
        let near = others
            .into_iter()
            .filter(|(entry, _)| entry.pattern.resemblance(request.path) >= 0.6)
            .take(MOST_NEAR);
        matching
            .into_iter()
            .chain(near)
            .map(|(entry, reasons)| Candidate {
                value: entry.value,
                reasons,
            })
            .collect()
    }
}

impl Stored {
    fn reasons(&self, request: &Request<'_>, host: Option<&str>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if !self.hosts.iter().any(|pattern| pattern.takes(host)) {
            reasons.push(Reason::Host);
        }
        if !self.pattern.takes(request.path) {
            reasons.push(Reason::Path);
        }
        if !self.conditions.admit_method(request.method) {
            reasons.push(Reason::Method);
        }
        for (name, value) in &self.conditions.headers {
            if !request.headers.contains_key(name) {
                reasons.push(Reason::HeaderAbsent(name.to_string()));
            } else if !request
                .headers
                .get_all(name)
                .iter()
                .any(|sent| sent == value)
            {
                reasons.push(Reason::HeaderDiffers(name.to_string()));
            }
        }
        for (name, value) in &self.conditions.query {
            match query_value(request.query, name) {
                None => reasons.push(Reason::QueryAbsent(name.to_string())),
                Some(sent) if sent != value.as_bytes() => {
                    reasons.push(Reason::QueryDiffers(name.to_string()));
                }
                Some(_) => {}
            }
        }
        reasons
    }

    /// Smaller wins: the best host that takes the request, the path, the conditions.
    fn precedence(&self, host: Option<&str>) -> (usize, PathRank<'_>, (bool, usize, usize)) {
        let host = self
            .hosts
            .iter()
            .filter(|pattern| pattern.takes(host))
            .map(super::host::HostPattern::rank)
            .min()
            .unwrap_or(usize::MAX);
        let path = match self.pattern.kind {
            Kind::Exact => PathRank::Exact,
            Kind::Template => PathRank::Template(
                self.pattern
                    .segments
                    .iter()
                    .map(|segment| match segment {
                        Segment::Literal(_) => 0,
                        Segment::Parameter => 1,
                        Segment::Rest => 2,
                    })
                    .collect(),
            ),
            Kind::Prefix => PathRank::Prefix(std::cmp::Reverse(&self.pattern.text)),
        };
        (host, path, self.conditions.rank())
    }
}

/// The order among paths that take the same request.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PathRank<'p> {
    Exact,
    Template(Vec<u8>),
    /// Of two prefixes of one path the longer is the greater text.
    Prefix(std::cmp::Reverse<&'p str>),
}

impl super::pattern::Pattern {
    /// How much the text of the pattern resembles a path, 0 to 1.
    fn resemblance(&self, path: &str) -> f64 {
        strsim::jaro_winkler(&self.text, path)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
