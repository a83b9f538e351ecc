//! Bandwidth limits: how many bytes a second pass, shared by all requests that have a key in common.
//!
//! What would be too fast waits. Each part of a body is given its time as it comes, so that the requests
//! of a key take turns. Nothing is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buckets::{Buckets, Pace};
use super::check::{check_keys, check_prefix};
use super::key::{KeyHash, KeyPart, KeySource};
use super::limiter::{Scope, stable_hash};
use crate::config::{self, BandwidthKey, ByteRate, ByteSize, Diagnostics, LimitKey, Span, Spanned};

/// Bytes a second.
const RATES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;
const LARGEST_BURST: u64 = 1 << 40;
/// A body's first bytes come in one piece with the header, which would wait with them.
const LEAST_DEFAULT_BURST: u64 = 256 << 10;

/// The bandwidth limit of one place in the configuration.
#[derive(Debug)]
pub struct BandwidthLimit {
    response: Option<Direction>,
    request: Option<Direction>,
    sharing: Sharing,
    buckets: Arc<Buckets>,
}

/// What shares the limit.
#[derive(Debug)]
enum Sharing {
    /// Nothing: each request has it for itself.
    Nothing,
    /// The requests that have all of this in common.
    By(Box<[KeyPart]>),
}

/// The limit for one direction.
#[derive(Debug)]
struct Direction {
    /// Of place, direction and what is counted: a reload that changes the pace forgives nothing.
    id: u64,
    pace: Pace,
}

/// The bodies of one request.
#[derive(Debug)]
pub struct Flows {
    /// Towards the client, if that is limited.
    pub response: Option<Flow>,
    /// From the client, if that is limited.
    pub request: Option<Flow>,
}

/// One body on its way.
#[derive(Debug)]
pub struct Flow {
    pace: Pace,
    account: Account,
    buckets: Arc<Buckets>,
}

/// Where its bytes are counted.
#[derive(Debug, Clone, Copy)]
enum Account {
    /// With those of its key.
    Shared(KeyHash),
    /// For itself: until when they are paid for.
    Own(u64),
}

impl BandwidthLimit {
    /// Compiles the limit that is written at `span`, or reports what is wrong with it.
    pub fn compile(
        section: &config::BandwidthLimit,
        span: Span,
        scope: Scope<'_>,
        buckets: &Arc<Buckets>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut is_sound = check_prefix(&section.ipv6_prefix, diagnostics);
        is_sound &= check_numbers(section, span, diagnostics);
        let sharing = Sharing::compile(section, span, scope, diagnostics)?;
        let burst = section.burst.as_ref().map(|burst| burst.0);
        let direction = |rate: &Option<Spanned<ByteRate>>, name: &str| {
            let rate = rate.as_ref()?.0;
            let keys: Vec<_> = section.by.iter().map(|key| &key.value).collect();
            Some(Direction {
                id: stable_hash(&(scope.identity, name, section.ipv6_prefix.value, keys)),
                pace: Pace::new(rate, burst.unwrap_or(rate.max(LEAST_DEFAULT_BURST))),
            })
        };
        is_sound.then(|| Self {
            response: direction(&section.response, "response"),
            request: direction(&section.request, "request"),
            sharing,
            buckets: buckets.clone(),
        })
    }

    /// The bodies of a request that are limited.
    pub fn flows(&self, source: &impl KeySource) -> Flows {
        let flow = |direction: &Option<Direction>| {
            let direction = direction.as_ref()?;
            let hashing = &self.buckets.hashing;
            let account = match &self.sharing {
                Sharing::By(by) => Account::Shared(hashing.key_of(direction.id, by, source)),
                Sharing::Nothing => Account::Own(0),
            };
            Some(Flow {
                pace: direction.pace,
                account,
                buckets: self.buckets.clone(),
            })
        };
        Flows {
            response: flow(&self.response),
            request: flow(&self.request),
        }
    }
}

impl Sharing {
    fn compile(
        section: &config::BandwidthLimit,
        span: Span,
        scope: Scope<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut keys: Vec<Spanned<LimitKey>> = Vec::new();
        for key in &section.by {
            match &key.value {
                BandwidthKey::Of(shared) => keys.push(Spanned::new(shared.clone(), key.span)),
                BandwidthKey::Request => {
                    if section.by.0.len() > 1 {
                        diagnostics
                            .warning(key.span, "beside `request` other keys have no effect")
                            .help("remove them, or `request`");
                    }
                    return Some(Self::Nothing);
                }
            }
        }
        let part = |key: &Spanned<LimitKey>| KeyPart::new(key, section.ipv6_prefix.value);
        check_keys(&keys, span, scope, diagnostics)
            .then(|| Self::By(keys.iter().map(part).collect()))
    }
}

impl Flow {
    /// So many bytes came: how long they have to wait, if at all, before they are passed on.
    pub fn pass(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let bytes = bytes as u64;
        let now = self.buckets.clock(now);
        let shared = match self.account {
            Account::Shared(key) => self.buckets.pay(key, self.pace, bytes, now),
            Account::Own(_) => None,
        };
        let paid = shared.unwrap_or_else(|| {
            // A key that finds no room is not told apart: its requests have the rate each.
            let before = match self.account {
                Account::Own(paid) => paid,
                Account::Shared(_) => 0,
            };
            let paid = self.pace.pay(before, bytes, now);
            self.account = Account::Own(paid);
            paid
        });
        let wait = self.pace.wait(paid, now);
        (wait > 0).then(|| Duration::from_nanos(wait))
    }
}

fn check_numbers(
    section: &config::BandwidthLimit,
    span: Span,
    diagnostics: &mut Diagnostics,
) -> bool {
    let rates = [&section.response, &section.request];
    let mut is_sound = rates.iter().any(|rate| rate.is_some());
    if !is_sound && !diagnostics.has_error_within(span) {
        diagnostics
            .error(span, "`bandwidth_limit` limits neither direction")
            .help("write `response: 10MiB/s`, `request: 1MiB/s`, or both");
    }
    for rate in rates.into_iter().flatten() {
        if !RATES.contains(&rate.0) {
            diagnostics
                .error(rate.span, format!("a rate of {rate} is out of range"))
                .help(format!(
                    "rates are {} to {}",
                    ByteRate(*RATES.start()),
                    ByteRate(*RATES.end())
                ));
            is_sound = false;
        }
    }
    if let Some(burst) = &section.burst
        && burst.0 > LARGEST_BURST
    {
        diagnostics
            .error(burst.span, format!("a burst of {burst} is out of range"))
            .help(format!("bursts are up to {}", ByteSize(LARGEST_BURST)));
        is_sound = false;
    }
    is_sound
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;

    use http::HeaderName;

    use super::*;
    use crate::config::OneOrMany;

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
            None
        }
        fn route(&self) -> u64 {
            1
        }
    }

    fn section(by: BandwidthKey) -> config::BandwidthLimit {
        config::BandwidthLimit {
            response: Some(ByteRate(1 << 20).into()),
            request: Some(ByteRate(1 << 10).into()),
            by: OneOrMany(vec![by.into()]),
            ipv6_prefix: 64.into(),
            burst: Some(ByteSize(0).into()),
        }
    }

    fn compile(section: &config::BandwidthLimit, buckets: &Arc<Buckets>) -> BandwidthLimit {
        let scope = Scope {
            identity: "route",
            name: "orders",
            has_identity: false,
            decisions: None,
        };
        let mut diagnostics = Diagnostics::default();
        let limit =
            BandwidthLimit::compile(section, Span::default(), scope, buckets, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        limit.unwrap()
    }

    /// How many seconds so many bytes towards the client wait, and the same from the client.
    fn waits(limit: &BandwidthLimit, client: u8, bytes: usize, now: Instant) -> (u64, u64) {
        let Flows { response, request } = limit.flows(&Client(client));
        let wait = |flow: Option<Flow>| flow.unwrap().pass(bytes, now).unwrap_or_default();
        (wait(response).as_secs(), wait(request).as_secs())
    }

    #[test]
    fn requests_of_a_key_share_each_direction_and_others_do_not() {
        let buckets = Arc::default();
        let limit = compile(&section(BandwidthKey::Of(LimitKey::ClientIp)), &buckets);
        let now = Instant::now();
        assert_eq!(waits(&limit, 1, 1 << 20, now), (1, 1024));
        assert_eq!(waits(&limit, 1, 1 << 20, now), (2, 2048));
        assert_eq!(waits(&limit, 2, 1 << 20, now), (1, 1024));
        let later = now + Duration::from_secs(2);
        assert_eq!(waits(&limit, 1, 1 << 20, later), (1, 2048 + 1024 - 2));
    }

    #[test]
    fn each_request_may_have_the_rate_for_itself() {
        let limit = compile(&section(BandwidthKey::Request), &Arc::default());
        let now = Instant::now();
        assert_eq!(waits(&limit, 1, 1 << 20, now), (1, 1024));
        assert_eq!(waits(&limit, 1, 1 << 20, now), (1, 1024));
        let mut response = limit.flows(&Client(1)).response.unwrap();
        for seconds in 1..5 {
            let wait = response.pass(1 << 20, now);
            assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_reload_that_changes_the_pace_forgives_nothing() {
        let buckets = Arc::default();
        let mut section = section(BandwidthKey::Of(LimitKey::Everyone));
        let now = Instant::now();
        assert_eq!(
            waits(&compile(&section, &buckets), 1, 1 << 20, now),
            (1, 1024)
        );
        section.response = Some(ByteRate(1 << 19).into());
        assert_eq!(waits(&compile(&section, &buckets), 1, 1 << 20, now).0, 3);
    }

    #[test]
    fn what_a_second_brings_and_no_less_than_a_piece_may_pass_at_once() {
        let mut section = section(BandwidthKey::Request);
        section.burst = None;
        let limit = compile(&section, &Arc::default());
        let now = Instant::now();
        let Flows { response, request } = limit.flows(&Client(1));
        let (mut response, mut request) = (response.unwrap(), request.unwrap());
        assert_eq!(response.pass(1 << 20, now), None);
        assert_eq!(response.pass(1 << 20, now), Some(Duration::from_secs(1)));
        assert_eq!(request.pass(256 << 10, now), None);
        assert_eq!(request.pass(1 << 10, now), Some(Duration::from_secs(1)));
    }
}
