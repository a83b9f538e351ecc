//! A route's requests shared out among several services, such as a new version and the old one.

use std::sync::Arc;

use super::balance::HashKey;
use super::service::Service;

/// Fibonacci hashing (Knuth, TAOCP 6.4): 2^32 by the golden ratio.
const SPREAD: u32 = 0x9e37_79b1;

/// The services of a route, and the share of each.
#[derive(Debug)]
pub struct Split {
    parts: Box<[Part]>,
    total: u32,
    by: Option<HashKey>,
}

#[derive(Debug)]
struct Part {
    /// The sum of the weights up to here.
    until: u32,
    service: Arc<Service>,
}

impl Split {
    /// Everything to one service.
    pub fn whole(service: Arc<Service>) -> Self {
        Self::new(vec![(service, 1)], None)
    }

    /// To each service by its weight; requests with the same key to the same one.
    pub fn new(services: Vec<(Arc<Service>, u32)>, by: Option<HashKey>) -> Self {
        let mut total = 0;
        let parts = services.into_iter().map(|(service, weight)| {
            total += weight;
            Part {
                until: total,
                service,
            }
        });
        Self {
            parts: parts.collect(),
            total,
            by,
        }
    }

    /// What of a request decides, if it matters.
    pub fn key(&self) -> Option<&HashKey> {
        self.by.as_ref().filter(|_| self.parts.len() > 1)
    }

    /// The part for a request with this key, or for a request without one. When weights change, only
    /// as many keys move as must.
    pub fn choose(&self, key: Option<&[u8]>) -> usize {
        if self.parts.len() == 1 {
            return 0;
        }
        let point = match key {
            // The same in every gateway and after every start, and the same share of 1 whatever the
            // total. Spread, since the ring of a service goes by the same hash.
            Some(key) => {
                let spread = crc32fast::hash(key).wrapping_mul(SPREAD);
                ((u64::from(spread) * u64::from(self.total)) >> 32) as u32
            }
            None => fastrand::u32(..self.total),
        };
        self.parts.partition_point(|part| part.until <= point)
    }

    /// The service of a part.
    pub fn service(&self, part: usize) -> Option<&Arc<Service>> {
        self.parts.get(part).map(|part| &part.service)
    }

    /// The services with their weights.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<Service>, u32)> {
        let mut before = 0;
        self.parts.iter().map(move |part| {
            let weight = part.until - std::mem::replace(&mut before, part.until);
            (&part.service, weight)
        })
    }

    /// All weights together.
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::three;
    use super::*;

    fn split(weights: &[u32]) -> Split {
        let services = weights.iter().map(|weight| (Arc::new(three()), *weight));
        Split::new(services.collect(), Some(HashKey::Path))
    }

    fn placed(split: &Split, keys: u32) -> Vec<usize> {
        let place = |key: u32| split.choose(Some(&key.to_be_bytes()));
        (0..keys).map(place).collect()
    }

    #[test]
    fn shares_are_as_their_weights() {
        let split = split(&[90, 0, 10]);
        for places in [
            placed(&split, 20_000),
            (0..20_000).map(|_| split.choose(None)).collect(),
        ] {
            let count = |part| places.iter().filter(|place| **place == part).count();
            assert_eq!(count(1), 0);
            assert!((1700..2300).contains(&count(2)), "{}", count(2));
        }
        let weights: Vec<_> = split.services().map(|(_, weight)| weight).collect();
        assert_eq!(weights, [90, 0, 10]);
    }

    #[test]
    fn who_is_in_stays_in_when_the_share_grows() {
        let (few, more) = (
            placed(&split(&[95, 5]), 10_000),
            placed(&split(&[95, 30]), 10_000),
        );
        assert!(std::iter::zip(few, more).all(|(few, more)| few <= more));
    }
}
