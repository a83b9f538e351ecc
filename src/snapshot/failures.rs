//! How many bad credentials an address may send before its further ones are not looked at: what is costly
//! to verify must not be what costs the sender least.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use http::HeaderName;

use crate::auth::Labour;
use crate::config::{self, AuthFailuresSlot, Diagnostics, OneOrMany, RateLimit, Spanned, Toggle};
use crate::limits::{Counters, KeySource, RateLimits, Scope, Verdict};

/// The bound of an IPv6 customer.
const IPV6_PREFIX: u8 = 64;

/// Counts the bad credentials of addresses.
#[derive(Debug)]
pub struct AuthFailures {
    signatures: RateLimits,
    passwords: RateLimits,
    /// Those that were not looked at, if their number matters.
    unread: Option<RateLimits>,
}

impl AuthFailures {
    /// Compiles the section, or reports what is wrong with it. What is not written takes no memory where
    /// nothing `is_costly` to verify.
    pub(super) fn compile(
        slot: &AuthFailuresSlot,
        is_costly: bool,
        counters: &Counters,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let Toggle::On(section) = &slot.0 else {
            return None;
        };
        if !is_costly && *section == config::AuthFailures::default() {
            return None;
        }
        let mut limit = |limit: &Spanned<u64>, identity| {
            // What is wrong with the window is said once.
            let is_reported = diagnostics.has_error_within(section.window.span);
            let window = match is_reported {
                true => config::AuthFailures::default().window,
                false => section.window.clone(),
            };
            let limit = RateLimit {
                ipv6_prefix: IPV6_PREFIX.into(),
                ..RateLimit::new(limit.clone(), window)
            };
            let scope = Scope {
                identity,
                name: "auth_failures",
                has_identity: false,
                // What it counts are no requests.
                decisions: None,
            };
            RateLimits::compile(&OneOrMany(vec![limit]), scope, counters, diagnostics)
        };
        let signatures = limit(&section.signatures, "auth_failures:signatures");
        let passwords = limit(&section.passwords, "auth_failures:passwords");
        let after = &section.refuse_connections_after;
        let unread = match after.value {
            Toggle::Off => None,
            Toggle::On(most) => {
                let most = Spanned::new(most, after.span);
                Some(limit(&most, "auth_failures:unread")?)
            }
        };
        Some(Self {
            signatures: signatures?,
            passwords: passwords?,
            unread,
        })
    }

    /// The limits that count them.
    pub(super) fn limits(&self) -> impl Iterator<Item = &RateLimits> {
        [&self.signatures, &self.passwords]
            .into_iter()
            .chain(&self.unread)
    }

    fn of(&self, labour: Labour) -> &RateLimits {
        match labour {
            Labour::Signature => &self.signatures,
            Labour::Password => &self.passwords,
        }
    }

    /// The seconds after which an address may send such credentials again, if it may not now.
    pub fn wait(&self, labour: Labour, now: Instant, client: IpAddr) -> Option<u64> {
        wait(self.of(labour), now, client)
    }

    /// Whether nothing at all is read from an address at the moment.
    pub fn refuses_connection(&self, now: Instant, client: IpAddr) -> bool {
        let unread = self.unread.as_ref();
        unread.is_some_and(|unread| wait(unread, now, client).is_some())
    }

    /// An address went on although it has to wait.
    pub fn count_unread(&self, now: Instant, client: IpAddr) {
        if let Some(unread) = &self.unread {
            let _ = unread.decide_all(now, &Address(client));
        }
    }

    /// An address sent a bad one.
    pub fn count(&self, labour: Labour, now: Instant, client: IpAddr) {
        // One that comes while the limit is spent was let in before it was.
        let _ = self.of(labour).decide_all(now, &Address(client));
    }
}

/// The seconds that a limit has an address wait for.
fn wait(limit: &RateLimits, now: Instant, client: IpAddr) -> Option<u64> {
    match limit.look(now, &Address(client)) {
        // These limits are this gateway's own.
        Verdict::Admit(_) | Verdict::Unavailable(_) => None,
        Verdict::Refuse(refusal) => refusal.retry_after,
        // There is no queue.
        Verdict::Wait(_) => Some(1),
    }
}

/// What is counted by.
struct Address(IpAddr);

impl KeySource for Address {
    fn client_ip(&self) -> IpAddr {
        self.0
    }
    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_that_sends_many_bad_ones_has_to_wait_and_others_do_not() {
        let counters = Counters::local(1000);
        let mut diagnostics = Diagnostics::default();
        let slot = AuthFailuresSlot::default();
        let failures = AuthFailures::compile(&slot, true, &counters, &mut diagnostics).unwrap();
        let now = Instant::now();
        let (mallory, alice) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..20 {
            // However often it is looked at.
            assert!((0..30).all(|_| failures.wait(Labour::Password, now, mallory).is_none()));
            failures.count(Labour::Password, now, mallory);
        }
        let wait = failures.wait(Labour::Password, now, mallory).unwrap();
        assert!((1..=120).contains(&wait), "{wait}");
        assert_eq!(failures.wait(Labour::Password, now, alice), None);
        assert_eq!(failures.wait(Labour::Signature, now, mallory), None);
        let later = now + Duration::from_secs(wait);
        assert_eq!(failures.wait(Labour::Password, later, mallory), None);
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_costly() {
        let counters = Counters::local(1000);
        let mut diagnostics = Diagnostics::default();
        let slot = AuthFailuresSlot::default();
        assert!(AuthFailures::compile(&slot, false, &counters, &mut diagnostics).is_none());
    }
}
