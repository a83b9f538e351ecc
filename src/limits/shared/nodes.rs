//! Which server keeps a key: in a cluster each has some of the slots, and fails apart from the others.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::Value;

use super::ask::SharedKey;

/// Slots of a cluster.
const SLOTS: usize = 1 << 14;
/// Servers that are told apart. In a larger cluster the rest fail as one.
pub(super) const MOST_NODES: usize = 64;
/// Tags that are tried to find one of a server: enough for one that has a single slot.
const MOST_TAGS: u32 = 1 << 18;

/// A server by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(u8);

/// The servers.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The server of each slot; nothing if there is but one server.
    of_slots: Box<[AtomicU8]>,
    /// Locked by whoever keeps the connection and by operators, never by a request.
    known: Mutex<Vec<Known>>,
}

/// A server that has slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) node: Node,
    /// Where it is.
    pub(super) address: Box<str>,
    /// What in a key's braces leads to this server, the same for all gateways.
    pub(super) tag: u32,
}

/// Slots from the first to the last, and where their server is.
type Range = (usize, usize, String);

impl Node {
    /// The only one.
    const FIRST: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    #[cfg(test)]
    pub(super) fn numbered(number: u8) -> Self {
        Self(number)
    }

    /// Its place in a set of all of them.
    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }
}

impl Nodes {
    /// One server, or those of a cluster that is yet to be asked for them.
    pub(super) fn new(address: &str, is_cluster: bool) -> Self {
        let slots = if is_cluster { SLOTS } else { 0 };
        Self {
            of_slots: std::iter::repeat_with(|| AtomicU8::new(0))
                .take(slots)
                .collect(),
            known: Mutex::new(vec![Known {
                node: Node::FIRST,
                address: address.into(),
                tag: 0,
            }]),
        }
    }

    /// Whether there are several, or could be.
    pub(super) fn is_cluster(&self) -> bool {
        !self.of_slots.is_empty()
    }

    /// The server that keeps a key.
    pub(super) fn of(&self, key: SharedKey) -> Node {
        match self.is_cluster() {
            true => self.of_slot(slot_of(&key.tag())),
            false => Node::FIRST,
        }
    }

    fn of_slot(&self, slot: usize) -> Node {
        Node(self.of_slots[slot].load(Ordering::Relaxed))
    }

    /// All of them.
    pub(super) fn known(&self) -> Vec<Known> {
        self.lock().clone()
    }

    /// All of them, as a set.
    pub(super) fn all(&self) -> u64 {
        self.lock().iter().fold(0, |all, it| all | it.node.bit())
    }

    /// Takes over the answer to `CLUSTER SLOTS`. A server keeps its number as long as it has slots.
    pub(super) fn learn(&self, answer: &Value) {
        let ranges = ranges(answer);
        if ranges.is_empty() {
            return;
        }
        let mut known = self.lock();
        let numbered = numbered(&known, &ranges);
        let number = |address: &str| {
            let found = numbered.iter().find(|(_, it)| it == address);
            found.map_or(MOST_NODES as u8 - 1, |(number, _)| *number)
        };
        let mut has_changed = numbered.len() != known.len();
        for (first, last, address) in &ranges {
            let number = number(address);
            for of_slot in &self.of_slots[*first..=*last] {
                has_changed |= of_slot.swap(number, Ordering::Relaxed) != number;
            }
        }
        if has_changed {
            *known = self.tagged(numbered);
        }
    }

    /// Looks for a tag of each server.
    fn tagged(&self, numbered: Vec<(u8, String)>) -> Vec<Known> {
        let mut tags = [None; MOST_NODES];
        let mut missing = numbered.len();
        for tag in 0..MOST_TAGS {
            let node = self.of_slot(slot_of(&tag.to_string()));
            if tags[node.index()].is_none() {
                tags[node.index()] = Some(tag);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        let known = numbered.into_iter().filter_map(|(number, address)| {
            let node = Node(number);
            let tag = tags[node.index()]?;
            Some(Known {
                node,
                address: address.into(),
                tag,
            })
        });
        known.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers of the ranges with their numbers, those that are known with their old ones.
fn numbered(known: &[Known], ranges: &[Range]) -> Vec<(u8, String)> {
    let mut numbered: Vec<(u8, String)> = Vec::new();
    let has_slots = |it: &&Known| {
        ranges
            .iter()
            .any(|(_, _, address)| **address == *it.address)
    };
    for it in known.iter().filter(has_slots) {
        numbered.push((it.node.0, it.address.to_string()));
    }
    for (_, _, address) in ranges {
        if numbered.iter().any(|(_, it)| it == address) {
            continue;
        }
        let is_free = |number: &u8| numbered.iter().all(|(it, _)| it != number);
        if let Some(number) = (0..MOST_NODES as u8).find(is_free) {
            numbered.push((number, address.clone()));
        }
    }
    numbered
}

/// What `CLUSTER SLOTS` says: for each range its first and last slot, and host and port of its master.
fn ranges(answer: &Value) -> Vec<Range> {
    let Value::Array(items) = answer else {
        return Vec::new();
    };
    let range = |item: &Value| {
        let Value::Array(parts) = item else {
            return None;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = &parts[..]
        else {
            return None;
        };
        let [host, Value::Int(port), ..] = &master[..] else {
            return None;
        };
        // One that does not know its own host leaves it to whoever asks.
        let host = match host {
            Value::BulkString(host) => String::from_utf8_lossy(host),
            _ => "".into(),
        };
        let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
        (first <= last && last < SLOTS).then(|| (first, last, format!("{host}:{port}")))
    };
    items.iter().filter_map(range).collect()
}

/// The slot of a key by what stands in its braces: CRC-16/XMODEM, as the cluster's specification says.
fn slot_of(tag: &str) -> usize {
    let mut sum: u16 = 0;
    for byte in tag.bytes() {
        sum ^= u16::from(byte) << 8;
        for _ in 0..8 {
            let is_carried = sum & 0x8000 != 0;
            sum = sum << 1 ^ if is_carried { 0x1021 } else { 0 };
        }
    }
    usize::from(sum) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ranges: &[(i64, i64, &str, i64)]) -> Value {
        let ranges = ranges.iter().map(|(first, last, host, port)| {
            let node = vec![
                Value::BulkString(host.as_bytes().to_vec()),
                Value::Int(*port),
            ];
            let replica = vec![Value::BulkString(b"replica".to_vec()), Value::Int(1)];
            Value::Array(vec![
                Value::Int(*first),
                Value::Int(*last),
                Value::Array(node),
                Value::Array(replica),
            ])
        });
        Value::Array(ranges.collect())
    }

    fn key(key: u128) -> SharedKey {
        SharedKey { limit: 1, key }
    }

    fn server(nodes: &Nodes, slot: usize) -> String {
        let node = nodes.of_slot(slot);
        let known = nodes.known();
        known
            .iter()
            .find(|it| it.node == node)
            .unwrap()
            .address
            .to_string()
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of(""), 0);
    }

    #[test]
    fn one_server_has_all_keys() {
        let nodes = Nodes::new("a:1", false);
        assert!(!nodes.is_cluster());
        assert!((0..100).all(|it| nodes.of(key(it)) == Node::FIRST));
        assert_eq!(nodes.all(), 1);
    }

    #[test]
    fn each_server_of_a_cluster_has_a_tag_that_leads_to_it() {
        let nodes = Nodes::new("a:1", true);
        nodes.learn(&answer(&[
            (0, 5000, "a", 1),
            (5001, 5001, "b", 1),
            (5002, 16383, "c", 1),
        ]));
        let known = nodes.known();
        assert_eq!(known.len(), 3);
        for it in &known {
            assert_eq!(nodes.of_slot(slot_of(&it.tag.to_string())), it.node);
        }
        for number in 0..100 {
            let slot = slot_of(&key(number).tag());
            let expected =
                ["a:1", "b:1", "c:1"][usize::from(slot > 5000) + usize::from(slot > 5001)];
            assert_eq!(server(&nodes, slot), expected);
            assert_eq!(nodes.of(key(number)), nodes.of_slot(slot));
        }
    }

    #[test]
    fn a_server_keeps_its_number_and_a_new_one_gets_a_free_one() {
        let nodes = Nodes::new("a:1", true);
        nodes.learn(&answer(&[
            (0, 99, "a", 1),
            (100, 199, "b", 1),
            (200, 16383, "c", 1),
        ]));
        let of = |slot| nodes.of_slot(slot);
        let (a, c) = (of(0), of(200));
        // A replica of b has become the master, and c has got a slot of a.
        nodes.learn(&answer(&[
            (0, 98, "a", 1),
            (99, 99, "c", 1),
            (100, 199, "d", 1),
            (200, 16383, "c", 1),
        ]));
        assert_eq!((of(0), of(99), of(200)), (a, c, c));
        assert_eq!(server(&nodes, 100), "d:1");
        assert_eq!(nodes.known().len(), 3);
        let before = nodes.known();
        nodes.learn(&Value::Nil);
        assert_eq!(nodes.known(), before);
    }

    #[test]
    fn too_many_servers_share_the_last_number() {
        let hosts: Vec<String> = (0..128).map(|number| format!("n{number}")).collect();
        let each: Vec<(i64, i64, &str, i64)> = (0..128)
            .zip(&hosts)
            .map(|(number, host)| (number * 128, number * 128 + 127, host.as_str(), 1))
            .collect();
        let nodes = Nodes::new("n0:1", true);
        nodes.learn(&answer(&each));
        assert_eq!(nodes.all(), u64::MAX);
        assert_eq!(nodes.of_slot(16383).index(), MOST_NODES - 1);
        assert_ne!(nodes.of_slot(0), nodes.of_slot(128));
    }
}
