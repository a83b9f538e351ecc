//! Tickets, by which clients take up an earlier session (RFC 8446 §2.2, RFC 5077): the session's secrets,
//! encrypted with a key that only the gateway knows, so that it remembers nothing itself.
//!
//! Keys change, since whoever learns one can read what was said in sessions that were taken up with it.
//! They outlive configurations, and the process: its successor gets them with the listeners.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// How long tickets are made with one key. They are taken for as long again.
const ROTATION: Duration = Duration::from_secs(12 * 3600);
const NAME: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;

/// The keys of all tickets.
#[derive(Debug)]
pub struct TicketKeys(ArcSwap<Keys>);

/// Keys on their way to another process.
#[derive(Serialize, Deserialize)]
pub struct SealedKeys(Vec<(String, u64)>);

#[derive(Debug, Clone)]
struct Keys {
    current: Key,
    before: Option<Key>,
}

#[derive(Clone)]
struct Key {
    name: [u8; NAME],
    secret: [u8; 32],
    born: SystemTime,
}

/// Tickets of sessions in which clients are verified in one way; those of others are not taken, or a client
/// would get past that.
#[derive(Debug)]
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    scope: [u8; 32],
}

impl Default for TicketKeys {
    fn default() -> Self {
        let keys = Keys {
            current: Key::new(SystemTime::now()),
            before: None,
        };
        Self(ArcSwap::from_pointee(keys))
    }
}

impl TicketKeys {
    /// All of them, for a successor.
    pub fn seal(&self) -> SealedKeys {
        let keys = self.0.load();
        let known = std::iter::once(&keys.current).chain(&keys.before);
        let seal = |key: &Key| {
            let born = key.born.duration_since(SystemTime::UNIX_EPOCH);
            let text = STANDARD.encode([&key.name[..], &key.secret].concat());
            (text, born.unwrap_or_default().as_secs())
        };
        SealedKeys(known.map(seal).collect())
    }

    /// Goes on with those of a predecessor.
    pub fn take_over(&self, sealed: &SealedKeys) {
        let open = |(text, born): &(String, u64)| {
            let bytes = STANDARD.decode(text).ok()?;
            let (name, secret) = bytes.split_first_chunk()?;
            Some(Key {
                name: *name,
                secret: secret.try_into().ok()?,
                born: SystemTime::UNIX_EPOCH + Duration::from_secs(*born),
            })
        };
        let mut keys = sealed.0.iter().filter_map(open);
        if let Some(current) = keys.next() {
            let before = keys.next();
            self.0.store(Arc::new(Keys { current, before }));
        }
    }

    fn encrypt(&self, plain: &[u8], scope: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let mut keys = self.0.load_full();
        if keys.current.age(now) >= ROTATION {
            let next = Arc::new(Keys {
                current: Key::new(now),
                before: Some(keys.current.clone()),
            });
            // Whoever comes first wins; the others use what it made.
            self.0.compare_and_swap(&keys, next);
            keys = self.0.load_full();
        }
        let key = &keys.current;
        let mut ticket = vec![0; NAME + NONCE];
        ticket[..NAME].copy_from_slice(&key.name);
        rand_bytes(&mut ticket[NAME..]).ok()?;
        let mut tag = [0; TAG];
        let cipher = Cipher::aes_256_gcm();
        let nonce = &ticket[NAME..];
        let encrypted = encrypt_aead(cipher, &key.secret, Some(nonce), scope, plain, &mut tag);
        ticket.extend_from_slice(&encrypted.ok()?);
        ticket.extend_from_slice(&tag);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8], scope: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG>()?;
        let keys = self.0.load();
        let mut known = std::iter::once(&keys.current).chain(&keys.before);
        let key = known.find(|key| key.name == *name && key.age(now) < 2 * ROTATION)?;
        let cipher = Cipher::aes_256_gcm();
        decrypt_aead(cipher, &key.secret, Some(nonce), scope, encrypted, tag).ok()
    }
}

impl Key {
    fn new(born: SystemTime) -> Self {
        let (mut name, mut secret) = ([0; NAME], [0; 32]);
        let random = rand_bytes(&mut name).and_then(|()| rand_bytes(&mut secret));
        random.expect("the system has randomness once it has started");
        Self { name, secret, born }
    }

    /// A clock that was put back makes keys new.
    fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.born).unwrap_or_default()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl std::fmt::Debug for SealedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Tickets {
    /// Tickets with these keys, for those who are verified in the way that `scope` is the digest of.
    pub(super) fn new(keys: Arc<TicketKeys>, scope: [u8; 32]) -> Self {
        Self { keys, scope }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // A ticket that is made at the last moment with a key must still be taken for so long.
        ROTATION.as_secs().try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.encrypt(plain, &self.scope, SystemTime::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.decrypt(ticket, &self.scope, SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: [u8; 32] = [7; 32];

    #[test]
    fn a_ticket_is_taken_as_long_as_it_lives_and_no_longer() {
        let keys = TicketKeys::default();
        let start = SystemTime::now();
        let late = start + ROTATION - Duration::from_secs(1);
        let ticket = keys.encrypt(b"session", &SCOPE, late).unwrap();
        let second = |after| keys.encrypt(b"another", &SCOPE, late + after).unwrap();
        let taken = |after| keys.decrypt(&ticket, &SCOPE, late + after);
        assert_ne!(second(Duration::ZERO)[NAME..], ticket[NAME..]);
        assert_eq!(second(Duration::ZERO)[..NAME], ticket[..NAME]);
        assert_ne!(
            second(Duration::from_secs(2))[..NAME],
            ticket[..NAME],
            "another key"
        );
        assert_eq!(
            taken(ROTATION - Duration::from_secs(1)).unwrap(),
            b"session"
        );
        assert_eq!(taken(ROTATION + Duration::from_secs(2)), None);
        second(2 * ROTATION);
        assert_eq!(taken(Duration::ZERO), None, "its key is forgotten");
    }

    #[test]
    fn what_was_changed_or_is_for_others_is_not_taken() {
        let keys = TicketKeys::default();
        let now = SystemTime::now();
        let ticket = keys.encrypt(b"session", &SCOPE, now).unwrap();
        assert_eq!(keys.decrypt(&ticket, &[8; 32], now), None);
        assert_eq!(TicketKeys::default().decrypt(&ticket, &SCOPE, now), None);
        for length in 0..ticket.len() {
            assert_eq!(keys.decrypt(&ticket[..length], &SCOPE, now), None);
        }
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(keys.decrypt(&changed, &SCOPE, now), None, "{index}");
        }
        assert_eq!(keys.decrypt(&ticket, &SCOPE, now).unwrap(), b"session");
    }

    #[test]
    fn a_successor_takes_the_tickets_of_both_keys() {
        let (old, new) = (TicketKeys::default(), TicketKeys::default());
        let now = SystemTime::now();
        let first = old.encrypt(b"first", &SCOPE, now).unwrap();
        let now = now + ROTATION + Duration::from_secs(1);
        let second = old.encrypt(b"second", &SCOPE, now).unwrap();
        let sealed = serde_json::to_string(&old.seal()).unwrap();
        new.take_over(&serde_json::from_str(&sealed).unwrap());
        assert_eq!(new.decrypt(&first, &SCOPE, now).unwrap(), b"first");
        assert_eq!(new.decrypt(&second, &SCOPE, now).unwrap(), b"second");
        assert!(!format!("{new:?}{:?}", new.seal()).contains("secret"));
        new.take_over(&SealedKeys(vec![("?".to_owned(), 0)]));
        assert_eq!(new.decrypt(&first, &SCOPE, now).unwrap(), b"first");
    }
}
