//! Paths to leaves: one hash look-up for an exact path, a walk along the segments for the others.
//!
//! Made for a hundred thousand routes, where each step that waits for the last one costs a cache miss:
//! nodes sit in the table that leads to them, a node's key is the keyed 64-bit hash of its way from the
//! root, so that the next look-up need not wait for this one, and only a leaf compares texts.

use ahash::RandomState;
use hashbrown::HashTable;

use super::candidate::Parameters;
use super::pattern::{Kind, Pattern, Segment};

/// Routes of one pattern and host: a range of the table's candidates.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leaf {
    pub(super) first: u32,
    pub(super) count: u32,
}

#[derive(Debug, Clone, Copy)]
struct ExactPath {
    hash: u64,
    host: u32,
    /// The path's text in `texts`.
    start: u32,
    len: u32,
    leaf: Leaf,
}

/// A node of the segment tree, and how it is reached.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Of the parent's key and the segment.
    key: u64,
    parameter: u32,
    template: Leaf,
    rest: Leaf,
    prefix: Leaf,
}

impl Node {
    fn new(key: u64) -> Self {
        Self {
            key,
            parameter: NONE,
            template: Leaf::default(),
            rest: Leaf::default(),
            prefix: Leaf::default(),
        }
    }
}

/// No child.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Tree {
    seed: RandomState,
    exact: HashTable<ExactPath>,
    texts: String,
    /// Nodes reached by a literal segment.
    literals: HashTable<Node>,
    /// Roots, one a host, and nodes reached by a parameter, by number.
    others: Vec<Node>,
    /// Where `others` holds the node of a number.
    roots: Vec<u32>,
    has_templates: bool,
    has_prefixes: bool,
}

/// A leaf that a path leads to.
pub(super) struct Reached {
    pub(super) leaf: Leaf,
    pub(super) parameters: Parameters,
}

impl Tree {
    pub(super) fn new(hosts: usize) -> Self {
        let mut tree = Self {
            seed: RandomState::new(),
            exact: HashTable::new(),
            texts: String::new(),
            literals: HashTable::new(),
            others: Vec::new(),
            roots: Vec::new(),
            has_templates: false,
            has_prefixes: false,
        };
        for host in 0..hosts {
            let root = tree.new_other(tree.seed.hash_one(host));
            tree.roots.push(root);
        }
        tree
    }

    /// Makes a pattern of a host lead to a leaf.
    pub(super) fn insert(&mut self, host: u32, pattern: &Pattern, leaf: Leaf) {
        match pattern.kind {
            Kind::Exact => self.insert_exact(host, &pattern.text, leaf),
            Kind::Prefix => {
                self.has_prefixes = true;
                let segments = pattern.text.split('/').skip(1);
                let node = segments.fold(Place::Other(self.roots[host as usize]), |place, text| {
                    self.literal_child(place, text)
                });
                self.node_mut(node).prefix = leaf;
            }
            Kind::Template => {
                self.has_templates = true;
                let mut place = Place::Other(self.roots[host as usize]);
                for segment in &pattern.segments {
                    place = match segment {
                        Segment::Literal(text) => self.literal_child(place, text),
                        Segment::Parameter => self.parameter_child(place),
                        Segment::Rest => {
                            self.node_mut(place).rest = leaf;
                            return;
                        }
                    };
                }
                self.node_mut(place).template = leaf;
            }
        }
    }

    /// Visits what a path of a host leads to, most specific first, until `visit` returns something.
    pub(super) fn find<R>(
        &self,
        host: u32,
        path: &str,
        mut visit: impl FnMut(Reached) -> Option<R>,
    ) -> Option<R> {
        if let Some(exact) = self.exact_leaf(host, path)
            && let Some(found) = visit(Reached {
                leaf: exact,
                parameters: Parameters::default(),
            })
        {
            return Some(found);
        }
        if !self.has_templates && !self.has_prefixes {
            return None;
        }
        let root = &self.others[self.roots[host as usize] as usize];
        if self.has_templates {
            let mut parameters = Parameters::default();
            let found = self.walk_templates(root, root.key, path, 0, &mut parameters, &mut visit);
            if found.is_some() {
                return found;
            }
        }
        if self.has_prefixes {
            self.walk_prefixes(root, root.key, path, 0, &mut visit)
        } else {
            None
        }
    }

    fn insert_exact(&mut self, host: u32, path: &str, leaf: Leaf) {
        let hash = self.seed.hash_one((host, path));
        let start = self.texts.len() as u32;
        self.texts.push_str(path);
        let entry = ExactPath {
            hash,
            host,
            start,
            len: path.len() as u32,
            leaf,
        };
        self.exact.insert_unique(hash, entry, |entry| entry.hash);
    }

    fn exact_leaf(&self, host: u32, path: &str) -> Option<Leaf> {
        if self.exact.is_empty() {
            return None;
        }
        let hash = self.seed.hash_one((host, path));
        let entry = self.exact.find(hash, |entry| {
            entry.hash == hash
                && entry.host == host
                && self.texts[entry.start as usize..(entry.start + entry.len) as usize] == *path
        })?;
        Some(entry.leaf)
    }

    /// `position` is that of the slash before the next segment, or the path's end.
    fn walk_templates<R>(
        &self,
        node: &Node,
        key: u64,
        path: &str,
        position: usize,
        parameters: &mut Parameters,
        visit: &mut impl FnMut(Reached) -> Option<R>,
    ) -> Option<R> {
        let reach =
            |leaf: Leaf, parameters: &Parameters, visit: &mut dyn FnMut(Reached) -> Option<R>| {
                (leaf.count > 0)
                    .then(|| {
                        visit(Reached {
                            leaf,
                            parameters: *parameters,
                        })
                    })
                    .flatten()
            };
        if position == path.len() {
            return reach(node.template, parameters, visit);
        }
        let start = position + 1;
        let end = segment_end(path, start);
        let child_key = self.literal_key(key, &path[start..end]);
        if let Some(child) = self.literal(child_key)
            && let Some(found) = self.walk_templates(child, child_key, path, end, parameters, visit)
        {
            return Some(found);
        }
        if start == path.len() {
            return None;
        }
        if node.parameter != NONE && end > start {
            parameters.push(start, end);
            let child = &self.others[node.parameter as usize];
            let key = parameter_key(key);
            let found = self.walk_templates(child, key, path, end, parameters, visit);
            parameters.pop();
            if found.is_some() {
                return found;
            }
        }
        if node.rest.count > 0 {
            parameters.push(start, path.len());
            let found = reach(node.rest, parameters, visit);
            parameters.pop();
            return found;
        }
        None
    }

    fn walk_prefixes<R>(
        &self,
        node: &Node,
        key: u64,
        path: &str,
        position: usize,
        visit: &mut impl FnMut(Reached) -> Option<R>,
    ) -> Option<R> {
        if position < path.len() {
            let end = segment_end(path, position + 1);
            let child_key = self.literal_key(key, &path[position + 1..end]);
            if let Some(child) = self.literal(child_key)
                && let Some(found) = self.walk_prefixes(child, child_key, path, end, visit)
            {
                return Some(found);
            }
        }
        if node.prefix.count == 0 {
            return None;
        }
        visit(Reached {
            leaf: node.prefix,
            parameters: Parameters::default(),
        })
    }

    fn literal_key(&self, parent: u64, segment: &str) -> u64 {
        self.seed.hash_one((parent, segment))
    }

    fn literal(&self, key: u64) -> Option<&Node> {
        if self.literals.is_empty() {
            return None;
        }
        self.literals.find(key, |node| node.key == key)
    }

    fn new_other(&mut self, key: u64) -> u32 {
        self.others.push(Node::new(key));
        self.others.len() as u32 - 1
    }

    fn literal_child(&mut self, parent: Place, segment: &str) -> Place {
        let key = self.node_mut(parent).key;
        let key = self.literal_key(key, segment);
        if self.literal(key).is_none() {
            self.literals
                .insert_unique(key, Node::new(key), |node| node.key);
        }
        Place::Literal(key)
    }

    fn parameter_child(&mut self, parent: Place) -> Place {
        let known = self.node_mut(parent).parameter;
        if known != NONE {
            return Place::Other(known);
        }
        let key = parameter_key(self.node_mut(parent).key);
        let child = self.new_other(key);
        self.node_mut(parent).parameter = child;
        Place::Other(child)
    }

    fn node_mut(&mut self, place: Place) -> &mut Node {
        match place {
            Place::Other(index) => &mut self.others[index as usize],
            Place::Literal(key) => self
                .literals
                .find_mut(key, |node| node.key == key)
                .expect("a place names a node that was inserted"),
        }
    }
}

/// Where a node is kept while the tree is built.
#[derive(Clone, Copy)]
enum Place {
    Literal(u64),
    Other(u32),
}

/// The key of a node that a parameter leads to. Its own keys are hashed with the seed again.
fn parameter_key(parent: u64) -> u64 {
    parent.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15
}

fn segment_end(path: &str, start: usize) -> usize {
    path.as_bytes()[start..]
        .iter()
        .position(|byte| *byte == b'/')
        .map_or(path.len(), |end| start + end)
}
