//! Consistent hashing: the same key finds the same endpoint, and when an endpoint comes or goes only
//! its own share of the keys moves (ketama, with NGINX's 160 points a unit of weight).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use pingora_ketama::{Bucket, Continuum};

use crate::upstream::endpoint::Endpoint;

/// All weights together, above which they are scaled down.
const MOST_WEIGHT: u64 = 10_000;
/// Points that are looked at before any endpoint will do.
const LONGEST_SEARCH: usize = 256;

/// A ring of points, each of an endpoint.
pub(super) struct Ring {
    continuum: Continuum,
    /// By node, sorted: the index of its endpoint.
    indexes: Box<[(SocketAddr, u16)]>,
}

impl Ring {
    pub(super) fn new<'e>(members: impl Iterator<Item = (&'e Endpoint, u32)> + Clone) -> Self {
        let total: u64 = members.clone().map(|(_, weight)| u64::from(weight)).sum();
        let scale = total.div_ceil(MOST_WEIGHT).max(1) as u32;
        let nodes = members.map(|(endpoint, weight)| (node(endpoint), weight.div_ceil(scale)));
        let mut indexes: Vec<_> = Vec::new();
        let mut buckets = Vec::new();
        for (index, (node, weight)) in nodes.enumerate() {
            indexes.push((node, index as u16));
            buckets.push(Bucket::new(node, weight));
        }
        indexes.sort_unstable();
        Self {
            continuum: Continuum::new(&buckets),
            indexes: indexes.into(),
        }
    }

    /// The endpoints for a key, the best first; repeated, and only so many.
    pub(super) fn find(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let nodes = self.continuum.node_iter(key).take(LONGEST_SEARCH);
        nodes.filter_map(|node| {
            let found = self.indexes.binary_search_by_key(node, |(node, _)| *node);
            Some(usize::from(self.indexes[found.ok()?].1))
        })
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// Where an endpoint stands on the ring: its address, as NGINX and memcached place it, or what its
/// name comes to, so that it stays there when the name gets other addresses.
fn node(endpoint: &Endpoint) -> SocketAddr {
    match endpoint.fixed_address() {
        Some(address) => address,
        None => {
            let name = endpoint.as_str().as_bytes();
            // Distinct names must not meet; 128 bits of a plain hash are enough for that.
            let digest = openssl::sha::sha256(name);
            let mut bits = [0; 16];
            bits.copy_from_slice(&digest[..16]);
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bits)), endpoint.port())
        }
    }
}
