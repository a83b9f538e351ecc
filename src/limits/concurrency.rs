//! Concurrency limits: how many requests of a client may be under way at once.

use std::ops::Range;
use std::sync::Arc;

use http::HeaderValue;

use super::algorithm::LARGEST_LIMIT;
use super::check::{check_keys, check_prefix};
use super::fields;
use super::in_flight::{Guard, InFlight};
use super::key::{KeyPart, KeySource};
use super::limiter::{Scope, stable_hash};
use crate::config::{self, Diagnostics, OneOrMany};

/// The concurrency limits of one place in the configuration.
#[derive(Debug)]
pub struct ConcurrencyLimits {
    limits: Box<[Limit]>,
    /// How many of them, at the front, need not know who comes.
    by_anybody: usize,
    told: Option<HeaderValue>,
    told_of_anybody: Option<HeaderValue>,
    in_flight: Arc<InFlight>,
}

#[derive(Debug)]
struct Limit {
    /// Of place, number in the list and what is counted: requests under way when a reload changes the
    /// limit are counted on.
    id: u64,
    name: Box<str>,
    limit: u64,
    is_enforced: bool,
    by: Box<[KeyPart]>,
}

/// Which limits of a place hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// All.
    All,
    /// Those that need not know who comes, since a consumer has limits of its own.
    ByAnybody,
}

/// What a request holds of limits as long as it is under way.
#[derive(Debug, Default)]
pub struct Held {
    /// Mostly there is no more than one, which takes no memory of its own.
    first: Option<Guard>,
    others: Vec<Guard>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'l> {
    /// It is counted.
    Admitted {
        /// Whether a limit that is not enforced would have refused it.
        is_over: bool,
    },
    /// The limit of this name has as many requests as it may. What the request holds of others is still
    /// held.
    Refused(&'l str),
}

impl ConcurrencyLimits {
    /// Compiles the limits of a place, or reports what is wrong with them.
    pub fn compile(
        section: &OneOrMany<config::ConcurrencyLimit>,
        scope: Scope<'_>,
        in_flight: &Arc<InFlight>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let limits = section.iter().enumerate();
        let compiled: Vec<Option<Limit>> = limits
            .map(|(index, limit)| Limit::compile(limit, index, scope, diagnostics))
            .collect();
        let mut limits: Vec<Limit> = compiled.into_iter().collect::<Option<_>>()?;
        limits.sort_by_key(Limit::needs_identity);
        let by_anybody = limits.iter().filter(|it| !it.needs_identity()).count();
        let told = |limits: &[Limit]| {
            let enforced = limits.iter().filter(|limit| limit.is_enforced);
            let named = enforced.map(|limit| (&*limit.name, limit.limit));
            fields::concurrency_policy(named)
        };
        Some(Self {
            told: told(&limits),
            told_of_anybody: told(&limits[..by_anybody]),
            limits: limits.into(),
            by_anybody,
            in_flight: in_flight.clone(),
        })
    }

    /// Counts a request by those limits that hold, as long as `held` is.
    pub fn enter(&self, holding: Holding, source: &impl KeySource, held: &mut Held) -> Entry<'_> {
        let mut is_over = false;
        for limit in &self.limits[self.range(holding)] {
            let hashing = &self.in_flight.hashing;
            let key = hashing.key_of(limit.id, &limit.by, source);
            let most = if limit.is_enforced {
                limit.limit
            } else {
                u64::MAX
            };
            let Some((guard, count)) = self.in_flight.enter(key, most) else {
                return Entry::Refused(&limit.name);
            };
            is_over |= count > limit.limit;
            held.add(guard);
        }
        Entry::Admitted { is_over }
    }

    /// Their members of `RateLimit-Policy`, if there are any that are enforced.
    pub fn policy(&self, holding: Holding) -> Option<&HeaderValue> {
        match holding {
            Holding::All => self.told.as_ref(),
            Holding::ByAnybody => self.told_of_anybody.as_ref(),
        }
    }

    fn range(&self, holding: Holding) -> Range<usize> {
        match holding {
            Holding::All => 0..self.limits.len(),
            Holding::ByAnybody => 0..self.by_anybody,
        }
    }
}

impl Limit {
    fn compile(
        limit: &config::ConcurrencyLimit,
        index: usize,
        scope: Scope<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut is_sound = (1..=LARGEST_LIMIT).contains(&limit.limit.value);
        if !is_sound {
            diagnostics
                .error(
                    limit.limit.span,
                    format!("a limit of {} is out of range", limit.limit),
                )
                .help(format!("limits are 1 to {LARGEST_LIMIT}"));
        }
        is_sound &= check_prefix(&limit.ipv6_prefix, diagnostics);
        is_sound &= check_keys(&limit.by.0, limit.limit.span, scope, diagnostics);
        let name = match index {
            0 => format!("{}-concurrent", scope.name),
            _ => format!("{}-concurrent-{}", scope.name, index + 1),
        };
        let keys: Vec<_> = limit.by.iter().map(|key| &key.value).collect();
        is_sound.then(|| Self {
            id: stable_hash(&(scope.identity, index, limit.ipv6_prefix.value, keys)),
            name: name.into(),
            limit: limit.limit.value,
            is_enforced: limit.enforce,
            by: limit
                .by
                .iter()
                .map(|key| KeyPart::new(key, limit.ipv6_prefix.value))
                .collect(),
        })
    }

    fn needs_identity(&self) -> bool {
        self.by.iter().any(KeyPart::needs_identity)
    }
}

impl Held {
    fn add(&mut self, guard: Guard) {
        match &self.first {
            None => self.first = Some(guard),
            Some(_) => self.others.push(guard),
        }
    }

    /// The request is under way no more.
    pub fn release(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

    use http::HeaderName;

    use super::*;
    use crate::config::LimitKey;

    struct Client(u8);

    impl KeySource for Client {
        fn client_ip(&self) -> IpAddr {
            IpAddr::from([192, 0, 2, self.0])
        }
        fn header(&self, _: &HeaderName) -> Option<&[u8]> {
            None
        }
        fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }
        fn consumer(&self) -> Option<(&str, &str)> {
            Some(("", "acme"))
        }
        fn route(&self) -> u64 {
            1
        }
    }

    fn limit(limit: u64, by: LimitKey) -> config::ConcurrencyLimit {
        config::ConcurrencyLimit {
            limit: limit.into(),
            by: OneOrMany(vec![by.into()]),
            ipv6_prefix: 64.into(),
            enforce: true,
        }
    }

    fn compile(
        limits: Vec<config::ConcurrencyLimit>,
        in_flight: &Arc<InFlight>,
    ) -> ConcurrencyLimits {
        let scope = Scope {
            identity: "route",
            name: "orders",
            has_identity: true,
            decisions: None,
        };
        let mut diagnostics = Diagnostics::default();
        let limits =
            ConcurrencyLimits::compile(&OneOrMany(limits), scope, in_flight, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        limits.unwrap()
    }

    const ADMITTED: Entry<'_> = Entry::Admitted { is_over: false };

    /// What becomes of a request that ends at once.
    fn try_one(limits: &ConcurrencyLimits, client: u8) -> Entry<'_> {
        limits.enter(Holding::All, &Client(client), &mut Held::default())
    }

    #[test]
    fn all_of_a_list_hold_and_a_refused_request_leaves_nothing_behind() {
        let in_flight = Arc::default();
        let limits = vec![limit(3, LimitKey::Everyone), limit(1, LimitKey::ClientIp)];
        let limits = compile(limits, &in_flight);
        let mut held = Held::default();
        let enter = |client, held: &mut Held| limits.enter(Holding::All, &Client(client), held);
        assert_eq!(enter(1, &mut held), ADMITTED);
        for _ in 0..10 {
            assert_eq!(
                try_one(&limits, 1),
                Entry::Refused("orders-concurrent-2"),
                "its address has one"
            );
        }
        assert_eq!(enter(2, &mut held), ADMITTED);
        assert_eq!(enter(3, &mut held), ADMITTED);
        assert_eq!(try_one(&limits, 4), Entry::Refused("orders-concurrent"));
        held.release();
        assert_eq!(try_one(&limits, 1), ADMITTED);
    }

    #[test]
    fn what_is_under_way_counts_under_a_changed_limit_too() {
        let in_flight = Arc::default();
        let old = compile(vec![limit(5, LimitKey::ClientIp)], &in_flight);
        let mut held: Vec<Held> = (0..4)
            .map(|_| {
                let mut held = Held::default();
                assert_eq!(old.enter(Holding::All, &Client(1), &mut held), ADMITTED);
                held
            })
            .collect();
        let new = compile(vec![limit(3, LimitKey::ClientIp)], &in_flight);
        assert_eq!(try_one(&new, 1), Entry::Refused("orders-concurrent"));
        assert_eq!(try_one(&new, 2), ADMITTED);
        held.truncate(2);
        assert_eq!(try_one(&new, 1), ADMITTED);
        // Counted by something else, they are others.
        let other = compile(vec![limit(1, LimitKey::Everyone)], &in_flight);
        assert_eq!(try_one(&other, 1), ADMITTED);
    }

    #[test]
    fn a_limit_that_is_not_enforced_counts_and_says_so() {
        let in_flight = Arc::default();
        let mut loose = limit(1, LimitKey::ClientIp);
        loose.enforce = false;
        let limits = compile(vec![loose, limit(3, LimitKey::ClientIp)], &in_flight);
        let mut held = Held::default();
        let mut enter = || limits.enter(Holding::All, &Client(1), &mut held);
        assert_eq!(enter(), ADMITTED);
        assert_eq!(enter(), Entry::Admitted { is_over: true });
        assert_eq!(enter(), Entry::Admitted { is_over: true });
        assert_eq!(enter(), Entry::Refused("orders-concurrent-2"));
        let policy = limits.policy(Holding::All).unwrap();
        assert_eq!(
            policy,
            "\"orders-concurrent-2\";q=3;qu=\"concurrent-requests\""
        );
    }

    #[test]
    fn limits_by_who_comes_make_way_for_those_of_a_consumer() {
        let in_flight = Arc::default();
        let limits = vec![limit(1, LimitKey::Consumer), limit(2, LimitKey::ClientIp)];
        let limits = compile(limits, &in_flight);
        let mut held = Held::default();
        let mut enter = || limits.enter(Holding::ByAnybody, &Client(1), &mut held);
        assert_eq!(enter(), ADMITTED);
        assert_eq!(enter(), ADMITTED);
        assert_eq!(enter(), Entry::Refused("orders-concurrent-2"));
        let only_consumers = compile(vec![limit(1, LimitKey::Consumer)], &in_flight);
        assert_eq!(only_consumers.policy(Holding::ByAnybody), None);
    }
}
