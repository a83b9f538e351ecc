//! What limits and keys are called where all gateways must call them the same: digests that nobody can
//! make two keys collide in, and from which no key can be read.

use openssl::sha::Sha256;

use super::super::key::{KeyPart, KeySource, Parts};
use super::ask::SharedKey;

/// A number for what has this identity, the same on every gateway.
pub fn stable_id(identity: &str) -> u64 {
    let digest = openssl::sha::sha256(identity.as_bytes());
    let (front, _) = digest.split_at(8);
    front
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

struct Digest(Sha256);

impl Parts for Digest {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn wide(&mut self, number: u128) {
        self.0.update(&number.to_be_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl SharedKey {
    /// The key that a limit counts a request by.
    pub(in super::super) fn of(limit: u64, by: &[KeyPart], source: &impl KeySource) -> Self {
        let mut digest = Digest(Sha256::new());
        for part in by {
            digest.0.update(&[part.kind()]);
            part.add(source, &mut digest);
        }
        let digest = digest.0.finish();
        let (front, _) = digest.split_at(16);
        let key = front
            .iter()
            .fold(0, |number, byte| number << 8 | u128::from(*byte));
        Self { limit, key }
    }
}
