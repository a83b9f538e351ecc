//! The limits of one place in the configuration, decided together: all must admit a request.

use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::algorithm::Refused;
use super::fields;
use super::inspect::place;
use super::key::KeySource;
use super::limit::Limit;
use super::shared::{Candidate, Shared};
use super::store::Store;
use super::verdict::{Blocked, LimitNumber, Passed, Refusal, Tightest, Verdict};
use crate::config::{self, Diagnostics, OneOrMany};
use crate::telemetry::{Decision, LimitDecisions};

/// Where limits are counted.
#[derive(Debug, Clone)]
pub struct Counters {
    /// In this gateway.
    pub local: Arc<Store>,
    /// Together with others, if a store for that is configured.
    pub shared: Option<Arc<Shared>>,
    /// Whether one is, be it with mistakes.
    pub has_store: bool,
    /// Whether the keys that limits are asked about most are known by name.
    pub has_top_keys: bool,
}

impl Counters {
    /// Only in this gateway, exactly for so many keys at a time.
    pub fn local(keys: usize) -> Self {
        Self {
            local: Arc::new(Store::new(keys)),
            shared: None,
            has_store: false,
            has_top_keys: false,
        }
    }
}

/// Where limits are written. It is part of every key, so that no place spends another's budget.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The place, unambiguously and the same after every reload.
    pub identity: &'a str,
    /// The place in a word, for the policy's name that clients see.
    pub name: &'a str,
    /// Whether requests here may have proved who they are.
    pub has_identity: bool,
    /// Where what the limits decide is counted, if it is.
    pub decisions: Option<&'a LimitDecisions>,
}

/// When a limit is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// By what anybody can see of a request.
    BeforeAuthentication,
    /// By who the client has proved to be.
    AfterAuthentication,
}

/// The limits of one place.
#[derive(Debug)]
pub struct RateLimits {
    /// Where they are written.
    pub(super) place: Box<str>,
    pub(super) limits: Box<[Limit]>,
    /// How many of them, at the front, need no token.
    before: usize,
    /// `None` if all limits are only tried out.
    policy: Option<HeaderValue>,
    /// The same without those that need to know who comes; `None` if there are no others.
    policy_before: Option<HeaderValue>,
    pub(super) store: Arc<Store>,
    /// Where those with `store: redis` are counted.
    pub(super) shared: Option<Arc<Shared>>,
}

impl RateLimits {
    /// Compiles the limits of a place, or reports what is wrong with them.
    pub fn compile(
        section: &OneOrMany<config::RateLimit>,
        scope: Scope<'_>,
        counters: &Counters,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let compiled: Vec<Option<Limit>> = section
            .iter()
            .enumerate()
            .map(|(index, limit)| Limit::compile(limit, index, scope, counters, diagnostics))
            .collect();
        let mut limits: Vec<Limit> = compiled.into_iter().collect::<Option<_>>()?;
        // Nobody waits for one limit who is refused by another.
        limits.sort_by_key(|limit| (limit.phase(), limit.queue.is_some()));
        let policy = |limits: &[Limit]| {
            let told = limits.iter().filter(|limit| limit.is_enforced);
            fields::policy(told.map(Limit::policy))
        };
        let is_before = |limit: &&Limit| limit.phase() == Phase::BeforeAuthentication;
        let before = limits.iter().filter(is_before).count();
        Some(Self {
            place: place(scope).into(),
            before,
            policy: policy(&limits),
            policy_before: policy(&limits[..before]),
            limits: limits.into(),
            store: counters.local.clone(),
            shared: counters.shared.clone(),
        })
    }

    /// Decides on one request and counts it if it is admitted.
    pub fn decide(&self, phase: Phase, now: Instant, source: &impl KeySource) -> Verdict {
        self.decide_on(self.of_phase(Some(phase)), now, source)
    }

    /// Whether some of them are kept with other gateways, so that requests may have to wait for an answer.
    pub fn is_shared(&self) -> bool {
        self.limits.iter().any(|limit| limit.shared.is_some())
    }

    /// Whether any are decided in this phase.
    pub fn has_any(&self, phase: Phase) -> bool {
        !self.of_phase(Some(phase)).is_empty()
    }

    /// The limits of a phase, or all.
    pub(super) fn of_phase(&self, phase: Option<Phase>) -> Range<usize> {
        match phase {
            Some(Phase::BeforeAuthentication) => 0..self.before,
            Some(Phase::AfterAuthentication) => self.before..self.limits.len(),
            None => 0..self.limits.len(),
        }
    }

    /// Decides on one request by all limits at once.
    pub fn decide_all(&self, now: Instant, source: &impl KeySource) -> Verdict {
        self.decide_on(self.of_phase(None), now, source)
    }

    /// What would be decided on one request by all limits at once, which is not counted.
    pub fn look(&self, now: Instant, source: &impl KeySource) -> Verdict {
        let now = self.store.clock(now);
        for (number, limit) in self.enforced(0..self.limits.len()) {
            let nothing = Candidate {
                cost: 0,
                ..limit.candidate(&self.store, source, now)
            };
            if let Err(refused) = limit.decide(&self.store, &nothing, now) {
                return Verdict::Refuse(limit.refusal(number, refused));
            }
        }
        Verdict::Admit(Passed::default())
    }

    /// The name of a limit that never admits a request of this cost.
    pub fn too_small_for(&self, cost: u64) -> Option<&str> {
        let limits = self.limits.iter().filter(|it| !it.cost.is_known_later());
        let mut limits = limits.filter(|it| it.rule.most() < cost);
        limits.next().map(|limit| &*limit.name)
    }

    /// Whether none of them counts what requests are said to cost.
    pub fn are_charged_later(&self) -> bool {
        self.limits.iter().all(|limit| limit.cost.is_known_later())
    }

    fn decide_on(&self, range: Range<usize>, now: Instant, source: &impl KeySource) -> Verdict {
        if range.is_empty() {
            return Verdict::Admit(Passed::default());
        }
        match self.admit(range, self.store.clock(now), source, None) {
            Ok(passed) => Verdict::Admit(passed),
            Err(blocked) => self.verdict(blocked),
        }
    }

    /// Counts a request if all limits admit it, and else not at all. Where others wait for a limit it has
    /// to wait, too, unless it is its `turn`.
    pub(super) fn admit(
        &self,
        range: Range<usize>,
        now: u64,
        source: &impl KeySource,
        turn: Option<LimitNumber>,
    ) -> Result<Passed, Blocked> {
        let mut tightest: Option<Tightest> = None;
        for (number, limit) in self.enforced(range.clone()) {
            let candidate = limit.candidate(&self.store, source, now);
            let asked = match limit.is_waited_for(candidate.key) && turn != Some(number) {
                true => Err(Blocked::Behind(number)),
                false => {
                    let asked = limit.decide(&self.store, &candidate, now);
                    asked.map_err(|refused| Blocked::Spent(number, refused))
                }
            };
            match asked {
                Ok(admitted) => {
                    let candidate = limit.tightest(number, &admitted, candidate.cost);
                    if tightest.is_none_or(|tightest| candidate.is_nearer_than(&tightest)) {
                        tightest = Some(candidate);
                    }
                }
                Err(blocked) => {
                    self.take_back(range.start..number.index(), now, source);
                    if turn.is_none() {
                        self.note_blocked(number, source);
                    }
                    return Err(blocked);
                }
            }
        }
        for (_, limit) in self.enforced(range.clone()) {
            limit.count(Decision::Admitted);
        }
        self.note_passed(range.clone(), source);
        Ok(Passed {
            tightest,
            would_refuse: self.try_out(range, now, source),
        })
    }

    /// What becomes of a request that does not pass now.
    pub(super) fn verdict(&self, blocked: Blocked) -> Verdict {
        match blocked {
            Blocked::Spent(number, refused)
                if refused.retry.is_none() || self.limit(number).queue.is_none() =>
            {
                Verdict::Refuse(self.refuse(number, refused))
            }
            Blocked::Spent(number, _) | Blocked::Behind(number) => Verdict::Wait(number),
            Blocked::Unavailable(number) => {
                self.limit(number).count(Decision::Refused);
                Verdict::Unavailable(number)
            }
        }
    }

    /// Refuses a request, for good.
    pub(super) fn refuse(&self, number: LimitNumber, refused: Refused) -> Refusal {
        let limit = self.limit(number);
        limit.count(Decision::Refused);
        limit.refusal(number, refused)
    }

    /// Counts a request that passes by the limits that are only tried out. The first that would have
    /// refused it.
    fn try_out(
        &self,
        range: Range<usize>,
        now: u64,
        source: &impl KeySource,
    ) -> Option<LimitNumber> {
        let mut would_refuse = None;
        for (number, limit) in self.numbered(range).filter(|(_, limit)| !limit.is_enforced) {
            let candidate = limit.candidate(&self.store, source, now);
            let decision = match limit.decide(&self.store, &candidate, now) {
                Ok(_) => Decision::Admitted,
                Err(_) => {
                    would_refuse.get_or_insert(number);
                    self.note_blocked(number, source);
                    Decision::WouldRefuse
                }
            };
            limit.count(decision);
        }
        would_refuse
    }

    pub(super) fn numbered(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (LimitNumber, &Limit)> {
        range.map(|number| (LimitNumber::new(number), &self.limits[number]))
    }

    pub(super) fn enforced(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (LimitNumber, &Limit)> {
        self.numbered(range).filter(|(_, limit)| limit.is_enforced)
    }

    /// The value of `RateLimit-Policy`, if there is a limit that clients are told of.
    pub fn policy(&self) -> Option<HeaderValue> {
        self.policy.clone()
    }

    /// The value of `RateLimit-Policy` where other limits stand in for those that count by who comes.
    pub fn policy_before(&self) -> Option<HeaderValue> {
        self.policy_before.clone()
    }

    /// The value of `RateLimit`.
    pub fn state(&self, tightest: &Tightest) -> HeaderValue {
        fields::state(self.name(tightest.limit), tightest)
    }

    /// How much a limit is of which clients are told in legacy fields, too.
    pub fn legacy_quota(&self, limit: LimitNumber) -> Option<u64> {
        let limit = self.limit(limit);
        limit.has_legacy_headers.then_some(limit.quota)
    }

    /// The name of a limit, as in the fields.
    pub fn name(&self, limit: LimitNumber) -> &str {
        &self.limit(limit).name
    }

    /// Which of the list as it is written a limit is.
    pub fn index(&self, limit: LimitNumber) -> usize {
        self.limit(limit).index
    }

    pub(super) fn limit(&self, number: LimitNumber) -> &Limit {
        &self.limits[number.index()]
    }

    fn take_back(&self, range: Range<usize>, now: u64, source: &impl KeySource) {
        for (_, limit) in self.enforced(range) {
            let candidate = limit.candidate(&self.store, source, now);
            limit.refund(&self.store, &candidate, now);
        }
    }
}

impl PartialOrd for Phase {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Phase {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self == Self::AfterAuthentication).cmp(&(*other == Self::AfterAuthentication))
    }
}

/// The same number for the same settings in every process, so that an upgrade can hand counts over.
pub(super) fn stable_hash(value: &impl Hash) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(value)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;
    use std::time::Duration;

    use http::HeaderName;

    use super::*;
    use crate::config::{LimitAlgorithm, LimitAmount, LimitKey, Period};
    use crate::telemetry::{ConsumerRequests, Metrics};

    struct Client {
        ip: IpAddr,
        subject: Option<&'static str>,
    }

    impl KeySource for Client {
        fn client_ip(&self) -> IpAddr {
            self.ip
        }
        fn header(&self, _: &HeaderName) -> Option<&[u8]> {
            None
        }
        fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            self.subject
                .map(|subject| Cow::Borrowed(subject.as_bytes()))
        }
        fn consumer(&self) -> Option<(&str, &str)> {
            self.subject.map(|subject| ("main", subject))
        }
        fn route(&self) -> u64 {
            1
        }
    }

    fn client(last: u8) -> Client {
        Client {
            ip: IpAddr::from([192, 0, 2, last]),
            subject: Some("alice"),
        }
    }

    fn limit(limit: u64, seconds: u64, by: LimitKey) -> config::RateLimit {
        config::RateLimit {
            by: OneOrMany(vec![by.into()]),
            algorithm: LimitAlgorithm::FixedWindow.into(),
            ..config::RateLimit::new(limit, Period::seconds(seconds))
        }
    }

    fn scope(identity: &str) -> Scope<'_> {
        Scope {
            identity,
            name: "orders",
            has_identity: true,
            decisions: None,
        }
    }

    fn compile(limits: Vec<config::RateLimit>, identity: &str, store: &Counters) -> RateLimits {
        let mut diagnostics = Diagnostics::default();
        let limits =
            RateLimits::compile(&OneOrMany(limits), scope(identity), store, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        limits.unwrap()
    }

    fn admits(limits: &RateLimits, phase: Phase, now: Instant, client: &Client) -> bool {
        matches!(limits.decide(phase, now, client), Verdict::Admit(_))
    }

    #[test]
    fn ten_pass_the_eleventh_waits_and_another_address_is_untouched() {
        let store = Counters::local(1000);
        let limits = compile(vec![limit(10, 300, LimitKey::ClientIp)], "top", &store);
        let now = Instant::now();
        let before = Phase::BeforeAuthentication;
        assert!((0..10).all(|_| admits(&limits, before, now, &client(1))));
        let Verdict::Refuse(refusal) = limits.decide(before, now, &client(1)) else {
            unreachable!()
        };
        assert_eq!(refusal.retry_after, Some(300));
        assert!(admits(&limits, before, now, &client(2)));
        assert!(admits(
            &limits,
            before,
            now + Duration::from_secs(300),
            &client(1)
        ));
    }

    #[test]
    fn places_do_not_spend_each_others_budget_and_reloads_keep_counts() {
        let store = Counters::local(1000);
        let one = || vec![limit(1, 60, LimitKey::ClientIp)];
        let now = Instant::now();
        let before = Phase::BeforeAuthentication;
        assert!(admits(
            &compile(one(), "route a", &store),
            before,
            now,
            &client(1)
        ));
        assert!(admits(
            &compile(one(), "route b", &store),
            before,
            now,
            &client(1)
        ));
        assert!(!admits(
            &compile(one(), "route a", &store),
            before,
            now,
            &client(1)
        ));
    }

    #[test]
    fn a_refusal_takes_back_what_other_limits_counted() {
        let store = Counters::local(1000);
        let limits = vec![
            limit(5, 60, LimitKey::Everyone),
            limit(1, 60, LimitKey::ClientIp),
        ];
        let limits = compile(limits, "top", &store);
        let now = Instant::now();
        let before = Phase::BeforeAuthentication;
        for _ in 0..10 {
            admits(&limits, before, now, &client(1));
        }
        let admitted = (2..20)
            .filter(|last| admits(&limits, before, now, &client(*last)))
            .count();
        assert_eq!(admitted, 4);
    }

    #[test]
    fn limits_by_claim_are_decided_after_authentication() {
        let store = Counters::local(1000);
        let limits = vec![
            limit(1, 60, LimitKey::Claim("sub".into())),
            limit(9, 60, LimitKey::ClientIp),
        ];
        let limits = compile(limits, "top", &store);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(admits(
                &limits,
                Phase::BeforeAuthentication,
                now,
                &client(1)
            ));
        }
        assert!(admits(&limits, Phase::AfterAuthentication, now, &client(1)));
        assert!(!admits(
            &limits,
            Phase::AfterAuthentication,
            now,
            &client(2)
        ));
    }

    #[test]
    fn a_limit_that_is_tried_out_counts_and_nobody_notices() {
        let store = Counters::local(1000);
        let tried = config::RateLimit {
            enforce: false,
            ..limit(2, 60, LimitKey::ClientIp)
        };
        let limits = vec![tried.clone(), limit(8, 60, LimitKey::ClientIp)];
        let limits = compile(limits, "top", &store);
        let now = Instant::now();
        for round in 1..3 {
            let now = now + Duration::from_secs(60 * round);
            let verdicts = (0..9).map(|_| limits.decide_all(now, &client(1)));
            let passed: Vec<Passed> = verdicts
                .filter_map(|verdict| match verdict {
                    Verdict::Admit(passed) => Some(passed),
                    Verdict::Refuse(_) | Verdict::Wait(_) | Verdict::Unavailable(_) => None,
                })
                .collect();
            // What it would refuse it does not count, so the next window is as good as this one.
            let refused = passed.iter().map(|it| it.would_refuse.is_some());
            let expected = [false, false, true, true, true, true, true, true];
            assert!(refused.eq(expected), "{passed:?}");
            let left = passed.iter().map(|it| it.tightest.unwrap().remaining);
            assert!(left.eq((0..8).rev()), "{passed:?}");
        }
        assert_eq!(limits.policy().unwrap(), "\"orders-2\";q=8;w=60");
        assert_eq!(compile(vec![tried], "top", &store).policy(), None);
    }

    #[test]
    fn what_is_given_back_was_not_counted_by_a_limit_that_is_tried_out() {
        let store = Counters::local(1000);
        let tried = config::RateLimit {
            enforce: false,
            ..limit(3, 60, LimitKey::Everyone)
        };
        let limits = vec![tried, limit(1, 60, LimitKey::ClientIp)];
        let limits = compile(limits, "top", &store);
        let now = Instant::now();
        let would_refuse = |client: &Client| match limits.decide_all(now, client) {
            Verdict::Admit(passed) => passed.would_refuse.is_some(),
            Verdict::Refuse(_) | Verdict::Wait(_) | Verdict::Unavailable(_) => false,
        };
        (0..10).for_each(|_| assert!(!would_refuse(&client(1))));
        assert!(!would_refuse(&client(2)) && !would_refuse(&client(3)));
        assert!(would_refuse(&client(4)));
    }

    #[test]
    fn each_decision_is_counted_once_and_only_where_it_stands() {
        let store = Counters::local(1000);
        let decisions = LimitDecisions::default();
        let metrics = Metrics::new(&ConsumerRequests::default(), &decisions);
        let scope = Scope {
            decisions: Some(&decisions),
            ..scope("top")
        };
        let tried = config::RateLimit {
            enforce: false,
            ..limit(2, 60, LimitKey::Everyone)
        };
        let list = vec![
            limit(9, 60, LimitKey::Everyone),
            limit(4, 60, LimitKey::Everyone),
            tried,
        ];
        let mut diagnostics = Diagnostics::default();
        let limits = RateLimits::compile(&OneOrMany(list), scope, &store, &mut diagnostics);
        let limits = limits.unwrap();
        let now = Instant::now();
        for _ in 0..6 {
            let _ = limits.decide_all(now, &client(1));
        }
        let text = metrics.text();
        for (limit, decision, count) in [
            ("orders", "admitted", 4),
            ("orders", "refused", 0),
            ("orders-2", "admitted", 4),
            ("orders-2", "refused", 2),
            ("orders-3", "admitted", 2),
            ("orders-3", "would_refuse", 2),
            ("orders-3", "refused", 0),
        ] {
            let line = format!(
                r#"tollgate_rate_limit_decisions_total{{decision="{decision}",limit="{limit}"}} {count}"#
            );
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }

    #[test]
    fn clients_are_put_off_at_random_and_never_too_early() {
        let store = Counters::local(1000);
        let jittery = config::RateLimit {
            retry_jitter: Period::seconds(5).into(),
            ..limit(1, 60, LimitKey::ClientIp)
        };
        let limits = compile(vec![jittery], "top", &store);
        let now = Instant::now();
        let _ = limits.decide_all(now, &client(1));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let Verdict::Refuse(refusal) = limits.decide_all(now, &client(1)) else {
                unreachable!("one was admitted")
            };
            assert_eq!(refusal.tightest.reset, 60);
            seen.insert(refusal.retry_after.unwrap());
        }
        assert!(seen.iter().all(|wait| (60..=65).contains(wait)), "{seen:?}");
        assert!(seen.len() > 3, "{seen:?}");
    }

    #[test]
    fn every_mistake_is_reported() {
        let store = Counters::local(1000);
        let mut wrong = limit(0, 0, LimitKey::Claim("sub".into()));
        wrong.burst = Some(LimitAmount::Units(5).into());
        wrong.ipv6_prefix = 129.into();
        wrong.retry_jitter = Period::seconds(3601).into();
        let mut diagnostics = Diagnostics::default();
        let scope = Scope {
            has_identity: false,
            ..scope("top")
        };
        assert!(
            RateLimits::compile(&OneOrMany(vec![wrong]), scope, &store, &mut diagnostics).is_none()
        );
        assert_eq!(diagnostics.as_slice().len(), 6);
    }
}
