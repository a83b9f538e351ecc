//! Databases of countries in the MaxMind DB format, as small as they can be.

use std::net::IpAddr;

/// Zeros between the tree and the records.
const SEPARATOR: usize = 16;
/// Bits of an IPv6 address before the IPv4 address in it.
const BEFORE_IPV4: u8 = 96;

/// A search tree of addresses, and the records that its leaves point to.
pub struct Database {
    nodes: Vec<[Child; 2]>,
    records: Vec<u8>,
    is_ipv4_only: bool,
}

#[derive(Clone, Copy)]
enum Child {
    Nothing,
    Node(usize),
    /// By its place among the records.
    Record(usize),
}

impl Database {
    /// Holds both kinds of addresses.
    pub fn new() -> Self {
        Self {
            nodes: vec![[Child::Nothing; 2]],
            records: Vec::new(),
            is_ipv4_only: false,
        }
    }

    /// Can't be asked for IPv6 addresses.
    pub fn of_ipv4_only() -> Self {
        Self {
            is_ipv4_only: true,
            ..Self::new()
        }
    }

    /// Networks and their countries, the wider networks first.
    pub fn of(networks: &[(&str, &str)]) -> Vec<u8> {
        let mut database = Self::new();
        for (network, country) in networks {
            database = database.with(network, "country", country);
        }
        database.bytes()
    }

    /// Adds a network whose record is `{ key: { iso_code: country } }`.
    pub fn with(mut self, network: &str, key: &str, country: &str) -> Self {
        let record = self.records.len();
        // As real records are: what is asked for is not what comes first.
        let inner = map(&[("geoname_id", number(1)), ("iso_code", text(country))]);
        let other = map(&[("code", text("EU"))]);
        self.records
            .extend(map(&[("continent", other), (key, inner)]));
        self.insert(network, record);
        self
    }

    fn insert(&mut self, network: &str, record: usize) {
        let (address, length) = network.split_once('/').unwrap();
        let length: u8 = length.parse().unwrap();
        let (bits, length) = match address.parse().unwrap() {
            IpAddr::V4(address) if self.is_ipv4_only => {
                (u128::from(address.to_bits()) << BEFORE_IPV4, length)
            }
            IpAddr::V4(address) => (u128::from(address.to_bits()), BEFORE_IPV4 + length),
            IpAddr::V6(address) => (address.to_bits(), length),
        };
        let mut node = 0;
        for depth in 0..length {
            let bit = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                self.nodes[node][bit] = Child::Record(record);
                return;
            }
            node = match self.nodes[node][bit] {
                Child::Node(next) => next,
                leaf => {
                    self.nodes.push([leaf; 2]);
                    self.nodes[node][bit] = Child::Node(self.nodes.len() - 1);
                    self.nodes.len() - 1
                }
            };
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let mut file = Vec::new();
        for child in self.nodes.iter().flatten() {
            let pointer = match child {
                Child::Nothing => count,
                Child::Node(node) => *node,
                Child::Record(record) => count + SEPARATOR + record,
            };
            file.extend(&u32::try_from(pointer).unwrap().to_be_bytes()[1..]);
        }
        file.extend([0; SEPARATOR]);
        file.extend(&self.records);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let version = if self.is_ipv4_only { 4 } else { 6 };
        file.extend(map(&[
            ("binary_format_major_version", short(2)),
            ("binary_format_minor_version", short(0)),
            ("build_epoch", long(1_700_000_000)),
            ("database_type", text("Test-Country")),
            ("description", map(&[("en", text("for tests"))])),
            ("ip_version", short(version)),
            ("languages", extended(11, 0)),
            ("node_count", number(u32::try_from(count).unwrap())),
            ("record_size", short(24)),
        ]));
        file
    }
}

/// Sizes below 29 stand in the first byte, beside the type.
fn head(kind: u8, size: usize) -> u8 {
    assert!(size < 29);
    kind << 5 | u8::try_from(size).unwrap()
}

fn text(text: &str) -> Vec<u8> {
    [&[head(2, text.len())], text.as_bytes()].concat()
}

/// A type above 7 stands in a second byte.
fn extended(kind: u8, size: u8) -> Vec<u8> {
    vec![size, kind - 7]
}

fn short(number: u16) -> Vec<u8> {
    [&[head(5, 2)][..], &number.to_be_bytes()].concat()
}

fn number(number: u32) -> Vec<u8> {
    [&[head(6, 4)][..], &number.to_be_bytes()].concat()
}

fn long(number: u64) -> Vec<u8> {
    [&extended(9, 8)[..], &number.to_be_bytes()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![head(7, entries.len())];
    for (key, value) in entries {
        bytes.extend(text(key));
        bytes.extend(value);
    }
    bytes
}
