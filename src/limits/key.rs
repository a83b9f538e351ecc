//! What a limit counts apart, hashed. No key is ever kept: 128 keyed bits stand for it.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use ahash::RandomState;
use http::HeaderName;

use super::calendar::Zone;
use crate::config;

/// What limits ask of a request.
pub trait KeySource {
    /// The client's address.
    fn client_ip(&self) -> IpAddr;
    /// The first value of a header.
    fn header(&self, name: &HeaderName) -> Option<&[u8]>;
    /// A claim of the verified token.
    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>>;
    /// Who comes: the provider and what it calls them, or nothing and the consumer's name.
    fn consumer(&self) -> Option<(&str, &str)>;
    /// A number of the route that is the same after a reload and on every gateway.
    fn route(&self) -> u64;
    /// What a request of this route costs, if not what its limits say.
    fn cost(&self) -> Option<u64> {
        None
    }
    /// Where whoever comes is at home, if that is known.
    fn time_zone(&self) -> Option<&Arc<Zone>> {
        None
    }
}

/// One part of a key, ready to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyPart {
    ClientIp { ipv6_prefix: u8 },
    Header(HeaderName),
    Claim(Box<str>),
    Consumer,
    Route,
    Everyone,
}

impl KeyPart {
    /// What tells it from others, for digests.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::ClientIp { .. } => 1,
            Self::Header(_) => 2,
            Self::Claim(_) => 3,
            Self::Consumer => 4,
            Self::Route => 5,
            Self::Everyone => 6,
        }
    }

    pub(super) fn new(key: &config::LimitKey, ipv6_prefix: u8) -> Self {
        match key {
            config::LimitKey::ClientIp => Self::ClientIp { ipv6_prefix },
            config::LimitKey::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Self::Header(name),
                // The name was checked when it was read.
                Err(_) => Self::Everyone,
            },
            config::LimitKey::Claim(name) => Self::Claim(name.as_str().into()),
            config::LimitKey::Consumer => Self::Consumer,
            config::LimitKey::Route => Self::Route,
            config::LimitKey::Everyone => Self::Everyone,
        }
    }

    /// Whether it asks who comes.
    pub(super) fn needs_identity(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Consumer)
    }

    pub(super) fn add(&self, source: &impl KeySource, parts: &mut impl Parts) {
        match self {
            Self::ClientIp { ipv6_prefix } => match source.client_ip().to_canonical() {
                IpAddr::V4(address) => parts.number(u64::from(address.to_bits())),
                IpAddr::V6(address) => {
                    let shift = 128 - u32::from(*ipv6_prefix);
                    parts.wide(address.to_bits().checked_shr(shift).unwrap_or(0));
                }
            },
            Self::Header(name) => parts.bytes(source.header(name)),
            Self::Claim(name) => parts.bytes(source.claim(name).as_deref()),
            Self::Consumer => {
                let (provider, name) = source.consumer().unzip();
                parts.bytes(provider.map(str::as_bytes));
                parts.bytes(name.map(str::as_bytes));
            }
            Self::Route => parts.number(source.route()),
            Self::Everyone => {}
        }
    }
}

/// A key: where it is looked for, and what it is known by there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyHash {
    pub(super) place: u64,
    /// Never 0 or 1, which mark entries without a key.
    pub(super) fingerprint: u64,
}

/// Bits of a fingerprint that say which limit a key is of.
const CLASS_BITS: u32 = 12;
const CLASS_MASK: u64 = (1 << CLASS_BITS) - 1;
/// Limits that can be told apart by these, beside those that can't.
pub(super) const MOST_CLASSES: usize = CLASS_MASK as usize;

impl KeyHash {
    /// The same key, by whose fingerprint one can tell the class; 0 for none. Twelve bits less tell keys
    /// apart, of which a thousand million million remain.
    pub(super) fn in_class(self, class: u64) -> Self {
        Self {
            fingerprint: (self.fingerprint & !CLASS_MASK | class).max(2),
            ..self
        }
    }
}

/// The class that a fingerprint tells of.
pub(super) fn class_of(fingerprint: u64) -> usize {
    (fingerprint & CLASS_MASK) as usize
}

/// Two keyed hashes with seeds of this process, so that nobody can choose keys that collide.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    place: RandomState,
    fingerprint: RandomState,
}

/// Takes the parts of a key. Each is marked with its kind and length, so that different parts never run
/// into the same bytes.
pub(super) trait Parts {
    fn number(&mut self, number: u64);
    fn wide(&mut self, number: u128);
    fn raw(&mut self, bytes: &[u8]);

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        // Absent is not the same as empty.
        self.number(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64));
        if let Some(bytes) = bytes {
            self.raw(bytes);
        }
    }
}

/// The parts of a key on their way into both hashes.
pub(super) struct BothHashes {
    place: ahash::AHasher,
    fingerprint: ahash::AHasher,
}

impl Hashing {
    /// The key that `limit` counts a request by.
    pub(super) fn key(&self, limit: u64, add: impl FnOnce(&mut BothHashes)) -> KeyHash {
        let mut parts = BothHashes {
            place: self.place.build_hasher(),
            fingerprint: self.fingerprint.build_hasher(),
        };
        parts.number(limit);
        add(&mut parts);
        KeyHash {
            place: parts.place.finish(),
            fingerprint: parts.fingerprint.finish().max(2),
        }
    }

    pub(super) fn key_of(&self, limit: u64, parts: &[KeyPart], source: &impl KeySource) -> KeyHash {
        self.key(limit, |hashed| {
            for part in parts {
                part.add(source, hashed);
            }
        })
    }
}

impl Parts for BothHashes {
    fn number(&mut self, number: u64) {
        self.place.write_u64(number);
        self.fingerprint.write_u64(number);
    }

    fn wide(&mut self, number: u128) {
        self.place.write_u128(number);
        self.fingerprint.write_u128(number);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.place.write(bytes);
        self.fingerprint.write(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Client {
        ip: &'static str,
        headers: [Option<&'static str>; 2],
    }

    impl KeySource for Client {
        fn client_ip(&self) -> IpAddr {
            self.ip.parse().unwrap()
        }
        fn header(&self, name: &HeaderName) -> Option<&[u8]> {
            self.headers[usize::from(name == "x-b")].map(str::as_bytes)
        }
        fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }
        fn consumer(&self) -> Option<(&str, &str)> {
            None
        }
        fn route(&self) -> u64 {
            0
        }
    }

    fn same(parts: &[KeyPart], one: Client, other: Client) -> bool {
        let hashing = Hashing::default();
        hashing.key_of(1, parts, &one) == hashing.key_of(1, parts, &other)
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_address_is_ipv4() {
        let parts = [KeyPart::ClientIp { ipv6_prefix: 64 }];
        let ip = |ip| Client {
            ip,
            headers: [None; 2],
        };
        assert!(same(&parts, ip("2001:db8::1"), ip("2001:db8::ffff:1")));
        assert!(!same(&parts, ip("2001:db8::1"), ip("2001:db8:0:1::1")));
        assert!(same(&parts, ip("::ffff:192.0.2.1"), ip("192.0.2.1")));
        assert!(!same(&parts, ip("192.0.2.2"), ip("192.0.2.1")));
    }

    #[test]
    fn parts_never_run_into_each_other() {
        let parts = [
            KeyPart::Header(HeaderName::from_static("x-a")),
            KeyPart::Header(HeaderName::from_static("x-b")),
        ];
        let with = |a, b| Client {
            ip: "::1",
            headers: [a, b],
        };
        assert!(!same(
            &parts,
            with(Some("a"), Some("bc")),
            with(Some("ab"), Some("c"))
        ));
        assert!(!same(&parts, with(None, Some("a")), with(Some("a"), None)));
        assert!(!same(&parts, with(Some(""), None), with(None, None)));
        assert!(same(&parts, with(Some("a"), None), with(Some("a"), None)));
    }
}
